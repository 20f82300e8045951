"""Every RPC by every identity: who is let through is what this table says, and nobody else."""

from __future__ import annotations

import asyncio
import pkgutil
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
import pytest_asyncio
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

import calib
import calib.v1
from calib.client.credentials import open_channel
from calib.errors import Forbidden
from calib.service.protection.rules import RULES
from calib.v1 import (
    model_risk_pb2,
    model_risk_service_pb2,
    quote_service_pb2,
    surface_service_pb2,
)
from tests.service.calls import Refusal, Stubs, refused
from tests.service.certificates import Authority, needs_openssl
from tests.service.conftest import serving
from tests.service.samples import smile_quotes
from tests.service.test_doors import good_batch

pytestmark = needs_openssl

NEEDED = {
    "QuoteService/PublishQuotes": "publish",
    "QuoteService/PublishQuoteBatch": "publish",
    "QuoteService/WatchQuotes": "read",
    "CalibrationService/Calibrate": "publish",
    "SurfaceService/GetSurface": "read",
    "SurfaceService/ListSurfaces": "read",
    "SurfaceService/WatchSurfaces": "read",
    "SurfaceService/EvaluateSurface": "read",
    "ModelRiskService/GetModelRisk": "read",
    "ModelRiskService/ListMetrics": "read",
    "ModelRiskService/ListAlarms": "read",
    "ModelRiskService/ListTransitions": "read",
    "ModelRiskService/ListMarks": "read",
    "ModelRiskService/WatchModelRisk": "read",
    "ModelRiskService/ForceBreaker": "operate",
    "ModelRiskService/ReleaseBreaker": "operate",
    "ModelRiskService/SetMark": "operate",
    "ModelRiskService/ClearMark": "operate",
    "Health/Check": "probe",
    "Health/Watch": "probe",
    "Health/List": "read all",
    "ServerReflection/ServerReflectionInfo": "be known",
}
"""What an RPC asks of its caller. A new one has to be decided on here too."""

RIGHTS: dict[str, dict[str, list[str]]] = {
    "reader": {"read": ["BTC"]},
    "publisher": {"publish": ["BTC"]},
    "operator": {"operate": ["BTC"]},
    "everything": {"read": ["*"], "publish": ["*"], "operate": ["*"]},
    "nothing": {},
    "anonymous": {"read": ["BTC"]},
}
WATCHES = {
    "QuoteService/WatchQuotes",
    "SurfaceService/WatchSurfaces",
    "ModelRiskService/WatchModelRisk",
}
UNKNOWN_CALLER, NO_RIGHT = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED
ALL = ""
"""No underlying is named."""


class Rpc(NamedTuple):
    name: str
    path: str
    method: Any


def rpcs() -> Iterator[Rpc]:
    """All that the server serves, from the descriptors."""
    modules = [
        import_module(f"calib.v1.{one.name}") for one in pkgutil.iter_modules(calib.v1.__path__)
    ]
    for module in [*modules, health_pb2, reflection_pb2]:
        descriptor = getattr(module, "DESCRIPTOR", None)
        for service in [] if descriptor is None else descriptor.services_by_name.values():
            for method in service.methods:
                path = f"/{service.full_name}/{method.name}"
                yield Rpc(f"{service.name}/{method.name}", path, method)


def request_about(rpc: Rpc, underlying: str) -> Any:
    """A request that names this underlying wherever requests of its kind do."""
    request: Any = GetMessageClass(rpc.method.input_type)()
    fields = rpc.method.input_type.fields_by_name
    if underlying and "underlying" in fields:
        request.underlying = underlying
    if underlying and "underlyings" in fields:
        request.underlyings.append(underlying)
    if "quotes" in fields:
        request.quotes.underlying = underlying
    if "batches" in fields:
        request.batches.add(underlying=underlying)
    if "service" in fields and underlying:
        request.service = f"calib.v1.SurfaceService/{underlying}"
    if "list_services" in fields:
        request.list_services = "*"
    return request


def may(identity: str, rpc: Rpc, underlying: str) -> bool:
    """What the table says."""
    rights, needed = RIGHTS.get(identity, {}), NEEDED[rpc.name]
    match needed:
        case "be known":
            return identity in RIGHTS
        case "read all":
            return "*" in rights.get("read", ())
        case "probe":
            read = rights.get("read", ())
            return underlying == ALL or underlying in read or "*" in read
    granted = rights.get(needed, [])
    if "*" in granted:
        return True
    if underlying == ALL:
        return rpc.name in WATCHES and bool(granted)  # narrowed to what it may read
    return underlying in granted


async def asked(channel: grpc.aio.Channel, rpc: Rpc, request: Any) -> Refusal:
    """How the server answers: the status of a refusal, or OK once anything has come back."""
    kind = ("unary", "stream")
    shape = f"{kind[rpc.method.client_streaming]}_{kind[rpc.method.server_streaming]}"
    response = GetMessageClass(rpc.method.output_type)
    make: Any = getattr(channel, shape)
    call = make(rpc.path, type(request).SerializeToString, response.FromString)
    try:
        with refused() as refusal:
            match shape:
                case "unary_unary":
                    await call(request)
                case "unary_stream":
                    stream = call(request)
                    await stream.read()
                    stream.cancel()
                case _:
                    stream = call()
                    with suppress(asyncio.InvalidStateError):  # it has been refused already
                        await stream.write(request)
                    await stream.read()
                    stream.cancel()
    except AssertionError:  # it was not refused
        return Refusal()
    return refusal


class Site(NamedTuple):
    address: str
    authority: Authority

    def credentials(self, identity: str) -> calib.Credentials:
        if identity == "anonymous":
            return self.authority.trusted()
        return self.authority.trusted(token=token_of(identity))


def token_of(identity: str) -> str:
    return f"the-token-of-{identity:->20}"


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    authority = Authority(tmp_path)
    tokens = tmp_path / "tokens"
    tokens.touch(0o600)
    known = [name for name in RIGHTS if name != "anonymous"]
    tokens.write_text("".join(f"{name} {token_of(name)}\n" for name in known))
    store = f"{tmp_path}/calib.db"
    settings = {"tokens": tokens, "identities": RIGHTS, "store": store}
    async with serving(**authority.serves(), **settings) as server:
        yield Site(server.address, authority)


def test_every_rpc_has_a_rule() -> None:
    served = {rpc.path for rpc in rpcs()}
    assert set(RULES) == served
    assert {rpc.name for rpc in rpcs()} == set(NEEDED)
    assert len(served) > 20


async def test_the_server_serves_what_is_enumerated(site: Site) -> None:
    async with open_channel(site.address, site.credentials("nothing"), ()) as channel:
        reflected: Any = channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        call = reflected()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services="*"))
        answer = await call.read()
        call.cancel()
    served = {one.name for one in answer.list_services_response.service}
    assert served == {rpc.method.containing_service.full_name for rpc in rpcs()}


@pytest.mark.parametrize("identity", [*RIGHTS, "stranger"])
async def test_an_identity_is_let_through_where_the_table_says_so(
    site: Site, identity: str
) -> None:
    decided = 0
    async with open_channel(site.address, site.credentials(identity), ()) as channel:
        for rpc in rpcs():
            for underlying in ("BTC", "ETH", ALL):
                answer = await asked(channel, rpc, request_about(rpc, underlying))
                where = (identity, rpc.name, underlying, answer)
                if may(identity, rpc, underlying):
                    assert answer.code not in (UNKNOWN_CALLER, NO_RIGHT), where
                else:
                    unknown = identity == "stranger" and NEEDED[rpc.name] != "probe"
                    assert answer.code is (UNKNOWN_CALLER if unknown else NO_RIGHT), where
                    assert answer.domain == "calib", where
                for secret in ("Traceback", "the-token-of", "sha256", 'File "'):
                    assert secret not in answer.message + str(answer.metadata), where
                decided += 1
    assert decided == 3 * len(NEEDED)


async def test_a_watch_of_everything_is_one_of_what_may_be_read(site: Site) -> None:
    async with calib.connect(site.address, site.credentials("everything")) as client:
        for underlying in ("BTC", "ETH"):
            await client.publish(smile_quotes(underlying))
            await anext(client.watch([underlying]))
    seen: dict[str, set[str]] = {}
    request = surface_service_pb2.WatchSurfacesRequest()
    for identity in ("everything", "reader", "anonymous"):
        async with open_channel(site.address, site.credentials(identity), ()) as channel:
            call = Stubs(channel).surfaces.WatchSurfaces(request)
            seen[identity] = set()
            async for response in call:
                if response.HasField("snapshot_end"):
                    break
                seen[identity].add(response.surface.surface.underlying)
            call.cancel()
    assert seen == {"everything": {"BTC", "ETH"}, "reader": {"BTC"}, "anonymous": {"BTC"}}


async def test_a_stream_ends_at_the_first_underlying_without_right(site: Site) -> None:
    async with open_channel(site.address, site.credentials("publisher"), ()) as channel:
        call = Stubs(channel).quotes.PublishQuotes()
        await call.write(quote_service_pb2.PublishQuotesRequest(quotes=good_batch("BTC")))
        first = await call.read()
        assert isinstance(first, quote_service_pb2.PublishQuotesResponse)
        assert first.ack.accepted_rows == 45
        await call.write(quote_service_pb2.PublishQuotesRequest(quotes=good_batch("ETH")))
        with refused() as refusal:
            await call.read()
    assert refusal.code is grpc.StatusCode.PERMISSION_DENIED
    assert refusal.message == "'publisher' may not publish 'ETH'"
    async with calib.connect(site.address, site.credentials("everything")) as client:
        assert (await anext(client.watch(["BTC"]))).surface.expiries
        with pytest.raises(calib.NotFitted):
            await client.get("ETH")


async def test_the_client_says_what_it_may_not_do(site: Site) -> None:
    async with calib.connect(site.address, site.credentials("reader")) as client:
        with pytest.raises(Forbidden, match="'reader' may publish no underlying"):
            await client.publish(smile_quotes("BTC"))
        with pytest.raises(Forbidden, match="'reader' may not read 'ETH'"):
            await anext(client.watch(["ETH"]))
        with pytest.raises(Forbidden, match="may not read all underlyings; name one of BTC"):
            await anext(client.history())
    async with calib.connect(site.address, site.credentials("stranger")) as client:
        with pytest.raises(Forbidden, match="this token is not known"):
            await anext(client.watch(["BTC"]))


async def test_what_an_unknown_caller_sends_is_not_even_parsed(site: Site) -> None:
    for identity, code in (
        ("stranger", UNKNOWN_CALLER),
        ("publisher", grpc.StatusCode.INVALID_ARGUMENT),
    ):
        async with open_channel(site.address, site.credentials(identity), ()) as channel:
            raw: Any = channel.unary_unary("/calib.v1.QuoteService/PublishQuoteBatch")
            with refused() as refusal:
                await raw(b"\xff\xff\xff\xff garbage")
            assert refusal.code is code, refusal
            assert refusal.domain == "calib"


async def test_an_action_carries_the_name_of_its_identity(site: Site) -> None:
    async with calib.connect(site.address, site.credentials("everything")) as client:
        await client.publish(smile_quotes("BTC"))
        await anext(client.watch(["BTC"]))
    request = model_risk_service_pb2.ForceBreakerRequest(
        underlying="BTC", operator="jane", reason="drill", level=model_risk_pb2.BREAKER_LEVEL_HELD
    )
    for identity in ("operator", "everything"):
        async with open_channel(site.address, site.credentials(identity), ()) as channel:
            await Stubs(channel).risks.ForceBreaker(request)
    question = model_risk_service_pb2.ListTransitionsRequest(underlying="BTC")
    signed: set[str] = set()
    async with open_channel(site.address, site.credentials("reader"), ()) as channel:
        while len(signed) < 2:  # they are stored in the background
            answer = await Stubs(channel).risks.ListTransitions(question)
            signed = {one.operator for one in answer.transitions} - {""}
    assert signed == {"jane (operator)", "jane (everything)"}


async def test_a_method_that_the_server_does_not_have(site: Site) -> None:
    (rpc,) = [one for one in rpcs() if one.name == "Health/List"]
    async with open_channel(site.address, site.credentials("everything"), ()) as channel:
        answer = await asked(channel, rpc, request_about(rpc, ALL))
    assert answer.code is grpc.StatusCode.UNIMPLEMENTED


async def test_what_has_no_rule_is_let_to_nobody(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    (rpc,) = [one for one in rpcs() if one.name == "SurfaceService/GetSurface"]
    monkeypatch.delitem(RULES, rpc.path)
    async with open_channel(site.address, site.credentials("everything"), ()) as channel:
        answer = await asked(channel, rpc, request_about(rpc, "BTC"))
    assert answer.code is NO_RIGHT
    assert answer.message == f"no rule lets anybody call {rpc.path}"
    async with serving() as server, open_channel(server.address, None, ()) as channel:
        assert (await asked(channel, rpc, request_about(rpc, "BTC"))).code is NO_RIGHT
