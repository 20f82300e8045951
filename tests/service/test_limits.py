"""Limits of a client: what is beyond them waits or is refused, and other clients do not notice."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from calib.client.credentials import open_channel
from calib.service.protection.allowances import Allowance, Allowances, Bucket
from calib.service.protection.gate import host_of
from calib.service.protection.identity import Grant, Identity, Limits, Right, identity
from calib.service.refusals import Overloaded
from calib.service.server import Running
from calib.v1 import quote_service_pb2, surface_service_pb2
from tests.service.calls import Refusal, Stubs, ending, refused
from tests.service.conftest import serving
from tests.service.test_doors import good_batch

EVERYTHING = {"read": ["*"], "publish": ["*"], "operate": ["*"]}
TIGHT = {"messages_per_second": 10.0}


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_a_bucket_holds_two_seconds_and_is_made_up_for() -> None:
    bucket = Bucket(rate=10.0, now=0.0)
    for _ in range(21):
        assert bucket.wait_seconds(0.0) == 0.0
        bucket.take(1.0)
    assert bucket.wait_seconds(0.0) == pytest.approx(0.1)
    assert bucket.wait_seconds(0.1) == 0.0
    bucket.take(50.0)  # more than it can hold: let through, and made up for
    assert bucket.wait_seconds(0.1) == pytest.approx(5.0)
    assert bucket.wait_seconds(5.1) == 0.0
    bucket.take(0.0)
    assert bucket.wait_seconds(1e6) == 0.0
    bucket.take(21.0)
    assert bucket.wait_seconds(1e6) == pytest.approx(0.1)  # no more than full meanwhile


@pytest.mark.parametrize(
    ("limits", "size", "rows"),
    [
        ({"messages_per_second": 1.0}, 0, 0),
        ({"bytes_per_second": 100.0}, 100, 0),
        ({"rows_per_second": 100.0}, 0, 100),
    ],
)
def test_each_rate_binds(limits: dict[str, float], size: int, rows: int) -> None:
    clock = Clock()
    allowance = Allowance(Limits(**limits), clock)
    taken = 0
    while allowance.wait_seconds() == 0.0:
        allowance.take(size, rows)
        taken += 1
    assert taken == 3
    clock.seconds += 1.5
    assert allowance.wait_seconds() == 0.0


def test_streams_are_counted_while_they_are_open() -> None:
    allowance = Allowance(Limits(streams=2), Clock())
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(allowance.stream("quoter"))
        with pytest.raises(Overloaded, match="'quoter' has 2 streams open"):
            stack.enter_context(allowance.stream("quoter"))
    with allowance.stream("quoter"):
        assert allowance.streams == 1


def test_limits_of_its_own_go_before_those_of_all() -> None:
    own = identity("feed", Grant(limits={"streams": 3, "rows_per_second": 7.5}), Limits(streams=9))
    assert own.limits == Limits(streams=3, rows_per_second=7.5)


def test_clients_that_are_gone_are_forgotten() -> None:
    clients, caller = Allowances(clock=Clock()), Identity("anonymous", {}, Limits())
    open_one = clients.of("first", caller)
    assert open_one is not None
    with open_one.stream("first"):
        for number in range(10_050):
            clients.of(f"anonymous@{number}", caller)
        assert clients.of("first", caller) is open_one
        assert len(clients._clients) <= 10_000
    assert (
        clients.of("anybody", Identity("anonymous", {right: frozenset("*") for right in Right}))
        is None
    )


async def test_a_call_beyond_the_limits_says_when_to_try_again() -> None:
    identities = {"anonymous": EVERYTHING | {"limits": TIGHT}}
    async with serving(identities=identities) as server, channel_to(server) as channel:
        stubs = Stubs(channel)
        answers = [await answered(stubs) for _ in range(60)]
        over = [one for one in answers if one.code is grpc.StatusCode.RESOURCE_EXHAUSTED]
        assert len(over) >= 20
        assert {one.code for one in answers} == {
            grpc.StatusCode.NOT_FOUND,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        }
        assert over[0].reason == "OVERLOADED"
        assert over[0].retry_seconds is not None
        assert 0.0 < over[0].retry_seconds <= 0.2
        assert "'anonymous@127.0.0.1' asks for more than its limits allow" in over[0].message


async def test_a_stream_beyond_the_limits_is_held_back_and_loses_nothing() -> None:
    identities = {"anonymous": EVERYTHING | {"limits": TIGHT}}
    async with serving(identities=identities) as server, channel_to(server) as channel:
        call = Stubs(channel).quotes.PublishQuotes()
        batch = good_batch()
        batch.snapshot_complete = False  # nothing is fitted to it
        for number in range(25):
            batch.sequence = number + 1
            await call.write(quote_service_pb2.PublishQuotesRequest(quotes=batch))
        await call.done_writing()
        heard = [response.ack.sequence async for response in call]
        assert heard == list(range(1, 26))
        assert await call.code() is grpc.StatusCode.OK
        held = server.meters.registry.get_sample_value(
            "calib_rpc_held_back_seconds_total", {"method": "/calib.v1.QuoteService/PublishQuotes"}
        )
        assert held is not None
        assert held > 0.0


async def test_too_many_watches_of_one_client_are_refused() -> None:
    limited = {"anonymous": EVERYTHING | {"limits": {"streams": 3}}}
    request = surface_service_pb2.WatchSurfacesRequest()
    async with serving(identities=limited) as server, channel_to(server) as channel:
        stubs = Stubs(channel)
        calls = [stubs.surfaces.WatchSurfaces(request) for _ in range(3)]
        for call in calls:
            await call.read()
        refusal = await ending(stubs.surfaces.WatchSurfaces(request))
        assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refusal.retry_seconds is not None
        assert "has 3 streams open" in refusal.message
        await answered(stubs)  # single calls go on
        calls[0].cancel()
        for _ in range(100):
            again = stubs.surfaces.WatchSurfaces(request)
            try:
                assert await again.read() is not grpc.aio.EOF
                break
            except grpc.aio.AioRpcError:
                continue
        else:
            raise AssertionError("the place of a watch that has ended stays taken")


async def test_a_greedy_client_does_not_use_up_what_others_have(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    token = {name: f"a-long-token-of-the-{name}" for name in ("greedy", "modest")}
    write_private(tokens, "".join(f"{name} {text}\n" for name, text in token.items()))
    identities = {name: EVERYTHING | {"limits": TIGHT} for name in token}
    settings = {"identities": identities, "tokens": tokens, "insecure": True}
    async with serving(**settings) as server, channel_to(server) as channel:
        stubs = Stubs(channel)
        codes = [(await answered(stubs, token["greedy"])).code for _ in range(60)]
        assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes
        assert (await answered(stubs, token["modest"])).code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("peer", "host"), [("ipv4:10.0.0.7:5123", "10.0.0.7"), ("ipv6:%5B::1%5D:5123", "%5B::1%5D")]
)
def test_connections_of_one_host_count_together(peer: str, host: str) -> None:
    assert host_of(peer) == host


async def test_nobody_is_limited_where_everybody_is_the_same() -> None:
    async with serving(limits=Limits(**TIGHT)) as server, channel_to(server) as channel:
        codes = {(await answered(Stubs(channel))).code for _ in range(60)}
        assert codes == {grpc.StatusCode.NOT_FOUND}


def write_private(path: Path, text: str) -> None:
    path.touch(0o600)
    path.write_text(text)


def channel_to(server: Running) -> grpc.aio.Channel:
    return open_channel(server.address, None, ())


async def answered(stubs: Stubs, token: str | None = None) -> Refusal:
    sent = () if token is None else (("authorization", f"Bearer {token}"),)
    request = surface_service_pb2.GetSurfaceRequest(underlying="NONE")
    with refused() as refusal:
        await stubs.surfaces.GetSurface(request, metadata=sent)
    return refusal
