"""The client without an event loop: the same calls from any thread, and an end that never hangs."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Event, Thread
from time import sleep
from typing import Any, TypeVar

import numpy as np
import pytest
import pytest_asyncio

import calib
from calib.client import BlockingClient, BlockingPublisher, Client, Publisher, connect_blocking
from calib.client.publisher import Lag
from calib.errors import InvalidRequest, NotFitted, Unavailable
from calib.service.server import running
from calib.service.settings import ServiceSettings
from calib.states import SurfaceState
from tests.client.fault_proxy import fault_proxy
from tests.client.publishing_server import ROOT, Publishing, publishing
from tests.service.conftest import USUAL
from tests.service.samples import START, smile_quotes, surface

T = TypeVar("T")
in_one_loop = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Publishing]:
    async with publishing() as process:
        yield process


async def in_thread(work: Callable[[], T]) -> T:
    """What ``work`` gives, done where there is no event loop."""
    return await asyncio.wait_for(asyncio.to_thread(work), 60.0)


def test_it_is_public() -> None:
    assert calib.connect_blocking is connect_blocking


@pytest.mark.parametrize(
    ("twin", "original"), [(BlockingClient, Client), (BlockingPublisher, Publisher)]
)
def test_every_method_has_its_twin_with_the_same_arguments(twin: type, original: type) -> None:
    def methods(kind: type) -> dict[str, Callable[..., object]]:
        found = inspect.getmembers(kind, inspect.isfunction)
        return {name: method for name, method in found if not name.startswith("_")}

    twins, originals = methods(twin), methods(original)
    # Leaving the block of a publisher drains and closes it.
    originals = {k: one for k, one in originals.items() if k not in ("drain", "close")}
    assert set(twins) - {"close"} == set(originals)
    for name, method in originals.items():
        assert inspect.signature(twins[name]) == inspect.signature(method)
        assert inspect.getdoc(twins[name]) == inspect.getdoc(method)
    ours = inspect.signature(connect_blocking).parameters
    assert ours == inspect.signature(calib.connect).parameters


@in_one_loop
async def test_surfaces_come_one_by_one_and_with_their_state(server: Publishing) -> None:
    def work() -> None:
        with connect_blocking(server.address) as client:
            client.wait_until_serving(20.0)
            assert client.target == server.address
            seen = []
            for update in client.watch(["BTC"], heartbeat_seconds=0.1):
                assert update.state is SurfaceState.LIVE
                seen.append(update.revision)
                if len(seen) == 5:
                    break
            assert seen == sorted(set(seen))
            assert client.get("BTC").revision >= seen[-1]
            with pytest.raises(NotFitted, match="'XYZ'"):
                client.get("XYZ")
            with pytest.raises(InvalidRequest, match="takes a list"):
                client.watch("BTC")
            with pytest.raises(InvalidRequest, match="without a store"):
                list(client.history("BTC"))

    await in_thread(work)


@in_one_loop
async def test_one_client_serves_many_threads(server: Publishing) -> None:
    def work() -> None:
        with connect_blocking(server.address) as client, ThreadPoolExecutor(8) as threads:

            def read(underlying: str) -> list[int]:
                updates = client.watch([underlying])
                return [next(updates).revision for _ in range(10)] + [client.get("ETH").revision]

            for revisions in threads.map(read, ["BTC", "ETH"] * 8):
                assert revisions[:10] == sorted(set(revisions[:10]))

    await in_thread(work)


@in_one_loop
async def test_closing_ends_what_other_threads_wait_for(server: Publishing) -> None:
    def work() -> None:
        ended: list[Exception] = []
        waiting = Event()

        def wait(client: BlockingClient) -> None:
            updates = client.watch(["NOTHING"], heartbeat_seconds=0.1)
            waiting.set()
            try:
                next(updates)
            except Unavailable as error:
                ended.append(error)

        with connect_blocking(server.address) as client:
            threads = [Thread(target=wait, args=(client,)) for _ in range(4)]
            for thread in threads:
                thread.start()
            waiting.wait()
            sleep(0.1)
            client.close()
            for thread in threads:
                thread.join(20.0)
            assert [str(error) for error in ended] == ["the client was closed"] * 4
            client.close()
            with pytest.raises(Unavailable, match="closed"):
                client.get("BTC")
        with pytest.raises(InvalidRequest, match="connect anew"), client:
            pass

    await in_thread(work)


@in_one_loop
async def test_closing_waits_for_no_network(server: Publishing) -> None:
    """Over a connection that has gone dead, in the middle of a call and of a watch."""
    async with fault_proxy(server.address) as proxy:
        with ThreadPoolExecutor(2) as threads:
            client = await in_thread(connect_blocking(proxy.address, timeout_seconds=1e6).__enter__)
            updates = client.watch(["BTC"], heartbeat_seconds=60.0)
            await in_thread(partial(next, updates))
            proxy.hold()
            waiting: list[Future[Any]] = [
                threads.submit(client.get, "BTC"),
                threads.submit(lambda: [update.revision for update in updates]),
            ]
            await asyncio.sleep(0.2)
            await in_thread(client.close)
            for one in waiting:
                with pytest.raises(Unavailable, match="closed"):
                    await asyncio.wait_for(asyncio.wrap_future(one), 20.0)


def test_a_client_that_is_not_open_says_how_to_open_it() -> None:
    client = connect_blocking("127.0.0.1:1")
    for call in (partial(client.get, "BTC"), client.watch, client.publisher().__enter__):
        with pytest.raises(InvalidRequest, match=r"with calib\.connect_blocking"):
            call()
    client.close()  # of what never began: nothing to do
    with pytest.raises(InvalidRequest, match="HOST:PORT"):
        connect_blocking([])


async def test_a_watch_that_is_left_ends_at_the_server_whoever_clears_up() -> None:
    async with running(ServiceSettings(**USUAL)) as server:
        server.hub.publish(surface())

        async def subscribers(count: int) -> None:
            async with asyncio.timeout(20.0):
                while server.hub.subscribers != count:  # noqa: ASYNC110 - the hub tells nobody
                    await asyncio.sleep(0.01)

        with connect_blocking(server.address) as client:
            updates = await in_thread(lambda: client.watch(["BTC"]))
            await in_thread(lambda: next(updates))
            await subscribers(1)
            await in_thread(updates.close)
            await subscribers(0)
            # A generator in a cycle is ended by the garbage collector, here in the client's thread.
            cycle: list[Any] = [await in_thread(lambda: client.watch(["BTC"]))]
            await in_thread(partial(next, cycle[0]))
            await subscribers(1)
            cycle.append(cycle)
            del cycle

            async def collect() -> None:
                gc.collect()

            await in_thread(lambda: client._thread.run(collect()))
            await subscribers(0)


async def test_quotes_are_published_and_acknowledged() -> None:
    async with running(ServiceSettings(**USUAL)) as server:

        def work() -> None:
            with connect_blocking(server.address) as client:
                client.wait_until_serving(20.0)
                with client.publisher() as publisher:
                    assert publisher.send(smile_quotes(), snapshot_complete=False).accepted == 45
                    levels = publisher.send_levels(
                        "BTC", venue="test", quote_time=START + np.timedelta64(5, "s"), spot=7e4
                    )
                    assert levels.accepted == 1
                    posted = publisher.post(smile_quotes(), snapshot_complete=False)
                    assert posted.acknowledged().accepted == 45
                    assert posted.done
                    assert publisher.lag == Lag()
                with pytest.raises(ZeroDivisionError), client.publisher():
                    _ = 1 / 0
                assert client.publish(smile_quotes("ETH"), snapshot_complete=False).accepted == 45

        await in_thread(work)


def script(text: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", text, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@in_one_loop
@pytest.mark.parametrize("watched", ["BTC", "NOTHING"])
async def test_an_interrupt_ends_a_wait_and_the_program(server: Publishing, watched: str) -> None:
    """Ctrl-C, in a watch that is busy and in one that waits."""
    process = script(
        """
import sys, calib
with calib.connect_blocking(sys.argv[1]) as client:
    client.wait_until_serving()
    print("waiting", flush=True)
    for update in client.watch([sys.argv[2]]):
        pass
""",
        server.address,
        watched,
    )
    assert process.stdout is not None
    assert await in_thread(process.stdout.readline) == "waiting\n"
    await asyncio.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = await in_thread(process.communicate)
    assert process.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert "was never awaited" not in errors


@in_one_loop
async def test_a_program_that_forgets_to_close_ends_all_the_same(server: Publishing) -> None:
    process = script(
        """
import sys, calib
client = calib.connect_blocking(sys.argv[1])
client.__enter__()
updates = client.watch(["BTC"])
print(next(updates).underlying, {"jax", "pandas"} & set(sys.modules))
""",
        server.address,
    )
    printed, errors = await in_thread(process.communicate)
    assert (printed, process.returncode) == ("BTC set()\n", 0), errors
    assert errors == ""
