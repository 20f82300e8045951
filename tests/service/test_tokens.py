"""Bearer tokens: whose they are, that they can be exchanged, and that nothing says them again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path

import grpc
import pytest
from structlog.testing import capture_logs

import calib
from calib.client import Client
from calib.client.credentials import open_channel
from calib.client.retrying import Backoff
from calib.errors import Forbidden, InvalidRequest, NotFitted
from calib.service.protection.tokens import Tokens, read_tokens
from calib.v1 import quote_service_pb2, surface_service_pb2
from tests.service.calls import Stubs, ending, refused
from tests.service.certificates import Authority, needs_openssl
from tests.service.conftest import serving
from tests.service.samples import surface
from tests.service.test_doors import good_batch

KNOWN = {"quoter", "feed", "anonymous"}
OLD, NEW = "an-old-token-of-the-desk", "a-new-token-of-the-desk"


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.touch(0o600)
    return path


def write(path: Path, text: str) -> None:
    path.write_text(text)


def remove(path: Path) -> None:
    path.unlink()


async def becomes(holds: Callable[[], Awaitable[bool]], wanted: bool) -> bool:
    """Whether it is so within a while."""
    for _ in range(200):
        if await holds() is wanted:
            return True
        await asyncio.sleep(0.05)
    return False


def hashed(token: str) -> str:
    return f"sha256:{sha256(token.encode()).hexdigest()}"


def test_tokens_in_the_clear_and_hashed(file: Path) -> None:
    file.write_text(
        f"# of the desk\n\nquoter {OLD}\nquoter  {hashed(NEW)}  # from May on\nfeed {'f' * 20}"
    )
    tokens = Tokens(file, KNOWN)
    assert [tokens.owner(OLD), tokens.owner(NEW), tokens.owner("f" * 20)] == [
        "quoter",
        "quoter",
        "feed",
    ]
    for wrong in ("", OLD[:-1], OLD.upper(), hashed(NEW), "f" * 21, "\udcff"):
        assert tokens.owner(wrong) is None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("quoter", "line 2: is not an identity and a token"),
        ("quoter a b", "line 2: is not an identity and a token"),
        (f"nobody {OLD}", "line 2: there is no identity 'nobody' (there is feed, quoter)"),
        (f"anonymous {OLD}", "line 2: there is no identity 'anonymous'"),
        ("quoter brief-secret", "line 2: a token needs 20 characters"),
        ("quoter sha256:1234secret", "line 2: sha256: must be followed by 64"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_and_not_shown(
    file: Path, line: str, said: str
) -> None:
    file.write_text(f"# tokens\n{line}\n")
    with pytest.raises(InvalidRequest) as caught:
        read_tokens(file, KNOWN)
    assert said in str(caught.value)
    assert str(file) in str(caught.value)
    assert "secret" not in str(caught.value)
    assert OLD not in str(caught.value)


def test_a_file_that_others_can_read_or_write_is_refused(file: Path) -> None:
    file.write_text(f"quoter {OLD}\n")
    file.chmod(0o644)
    with pytest.raises(InvalidRequest, match="every user can read it: chmod 600"):
        read_tokens(file, KNOWN)
    file.write_text(f"quoter {hashed(OLD)}\n")
    assert len(read_tokens(file, KNOWN)) == 1
    file.chmod(0o606)
    with pytest.raises(InvalidRequest, match="can be written by every user"):
        read_tokens(file, KNOWN)
    with pytest.raises(InvalidRequest, match="absent cannot be read"):
        read_tokens(file.with_name("absent"), KNOWN)


def test_a_change_is_seen_within_a_second_and_a_bad_one_changes_nothing(file: Path) -> None:
    clock = Clock()
    file.write_text(f"quoter {OLD}\n")
    tokens = Tokens(file, KNOWN, clock=clock)

    def changed(text: str) -> None:
        file.write_text(text)
        stamp = clock.seconds = clock.seconds + 1.1
        os.utime(file, (stamp, stamp))

    changed(f"quoter {OLD}\nquoter {NEW}\n")
    assert (tokens.owner(OLD), tokens.owner(NEW)) == ("quoter", "quoter")
    changed(f"quoter {NEW}\n")
    assert (tokens.owner(OLD), tokens.owner(NEW)) == (None, "quoter")
    with capture_logs() as lines:
        changed(f"nobody {OLD}\n")
        assert (tokens.owner(OLD), tokens.owner(NEW)) == (None, "quoter")
    assert [line["event"] for line in lines] == ["tokens_not_read"]
    assert OLD not in str(lines)
    with capture_logs() as lines:
        file.unlink()
        clock.seconds += 1.1
        assert tokens.owner(NEW) == "quoter"
    assert [line["event"] for line in lines] == ["tokens_not_read"]
    changed("")
    assert tokens.owner(NEW) is None


@needs_openssl
async def test_a_token_is_exchanged_under_an_open_connection(tmp_path: Path, file: Path) -> None:
    authority = Authority(tmp_path)
    own = tmp_path / "own-token"
    write(own, f"{OLD}\n")
    write(file, f"quoter {OLD}\n")
    settings = {"tokens": file, "identities": {"quoter": {"read": ["*"]}}}

    async def known(client: Client) -> bool:
        try:
            await client.get("BTC")
        except NotFitted:
            return True
        except Forbidden:
            return False
        raise AssertionError("there is no surface of BTC")

    async with serving(**authority.serves(), **settings) as server:
        late = calib.connect(server.address, authority.trusted(token=OLD))
        async with calib.connect(server.address, authority.trusted(token_file=own)) as client, late:
            assert await known(client)
            assert await known(late)
            write(file, f"quoter {OLD}\nquoter {hashed(NEW)}\n")
            write(own, NEW)
            assert await becomes(lambda: known(client), True)
            write(file, f"quoter {hashed(NEW)}\n")
            assert await becomes(lambda: known(late), False)
            assert await known(client)
            remove(own)
            assert await known(client)


@needs_openssl
async def test_a_watch_outlives_its_token_and_files_that_are_just_being_exchanged(
    tmp_path: Path, file: Path
) -> None:
    authority = Authority(tmp_path)
    own = tmp_path / "own-token"
    write(own, f"{OLD}\n")
    write(file, f"quoter {OLD}\n")
    identities = {"quoter": {"read": ["*"]}}
    async with serving(**authority.serves(), tokens=file, identities=identities) as server:
        server.hub.publish(surface("BTC"))
        trusted = authority.trusted(token_file=own)
        async with calib.connect(server.address, trusted, backoff=Backoff(0.05, 0.1)) as client:
            updates = client.watch(["BTC"])
            assert (await anext(updates)).revision == 1
            assert isinstance(trusted.ca, Path)
            trusted.ca.rename(tmp_path / "elsewhere")  # nothing to read when it connects anew
            write(own, NEW)
            write(file, f"quoter {hashed(NEW)}\n")
            await asyncio.sleep(2.0)  # until the stream of the old token has been ended
            server.hub.publish(surface("BTC"))
            async with asyncio.timeout(20.0):
                assert (await anext(updates)).revision == 2
            write(file, "")
            with pytest.raises(Forbidden):
                async with asyncio.timeout(20.0):
                    await anext(updates)


@needs_openssl
async def test_streams_of_a_token_that_is_withdrawn_end(tmp_path: Path, file: Path) -> None:
    authority = Authority(tmp_path)
    write(file, f"quoter {OLD}\nquoter {NEW}\n")
    identities = {"quoter": {"read": ["*"], "publish": ["*"]}}
    settings = {"tokens": file, "identities": identities, "heartbeat": "100ms"}
    async with serving(**authority.serves(), **settings) as server, AsyncExitStack() as stack:
        opened = {}
        for token in (OLD, NEW):
            channel = open_channel(server.address, authority.trusted(token=token), ())
            stubs = Stubs(await stack.enter_async_context(channel))
            watch = stubs.surfaces.WatchSurfaces(surface_service_pb2.WatchSurfacesRequest())
            await watch.read()
            opened[token] = (watch, stubs.quotes.PublishQuotes())
        for _, publishing in opened.values():
            await publishing.write(quote_service_pb2.PublishQuotesRequest(quotes=good_batch()))
            await publishing.read()
        write(file, f"quoter {NEW}\n")
        for call in opened[OLD]:
            refusal = await ending(call)
            assert refusal.code is grpc.StatusCode.UNAUTHENTICATED
            assert refusal.message == "this token was withdrawn"
        watch, publishing = opened[NEW]
        assert await watch.read() is not grpc.aio.EOF
        await publishing.write(quote_service_pb2.PublishQuotesRequest(quotes=good_batch()))
        assert await publishing.read() is not grpc.aio.EOF


@needs_openssl
@pytest.mark.parametrize(
    ("authorization", "said"),
    [
        (None, "Send a bearer token as authorization"),
        ("Bearer", "must be: Bearer TOKEN"),
        ("Bearer ", "this token is not known"),
        ("bearer a-wrong-token-of-mine", "this token is not known"),
        ("Basic YTpi", "must be: Bearer TOKEN"),
        (OLD, "must be: Bearer TOKEN"),
    ],
)
async def test_an_authorization_that_does_not_count(
    tmp_path: Path, file: Path, authorization: str | None, said: str
) -> None:
    authority = Authority(tmp_path)
    write(file, f"quoter {OLD}\n")
    settings = {"tokens": file, "identities": {"quoter": {"read": ["*"]}}}
    with capture_logs() as lines:
        async with serving(**authority.serves(), **settings) as server:
            secure = grpc.ssl_channel_credentials(authority.ca.read_bytes())
            async with grpc.aio.secure_channel(server.address, secure) as channel:
                sent = () if authorization is None else (("authorization", authorization),)
                request = surface_service_pb2.GetSurfaceRequest(underlying="BTC")
                with refused() as refusal:
                    await Stubs(channel).surfaces.GetSurface(request, metadata=sent)
    assert refusal.code is grpc.StatusCode.UNAUTHENTICATED
    assert (refusal.reason, refusal.domain) == ("UNAUTHENTICATED", "calib")
    assert said in refusal.message
    told = [line for line in lines if line["event"] == "refused"]
    assert [(one["kind"], one["client"]) for one in told] == [
        ("Unauthenticated", "anonymous@127.0.0.1")
    ]
    for secret in {OLD, "a-wrong-token-of-mine", "YTpi"}:
        assert secret not in refusal.message + str(lines)
