"""A TCP proxy that does what networks do: delays, holds, throttles, halves and cuts."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from math import inf

CHUNK_BYTES = 4_096
PIECES_A_SECOND = 20.0


class FaultProxy:
    """Between clients and the server at ``target``, which may change; its faults hold for all
    connections, old and new, and both ways, until `heal`."""

    def __init__(self, target: str) -> None:
        self.target = target
        self._writers: set[StreamWriter] = set()
        self._tasks: set[asyncio.Task[object]] = set()
        self._passing = asyncio.Event()
        self._buried: list[asyncio.Event] = []
        self.address = ""
        self.connections = 0
        self.heal()

    def heal(self) -> None:
        """Pass everything, at once; what was held goes out now, as old as it is."""
        self.delay_seconds = 0.0
        self.bytes_a_second = inf
        self.refuses = False
        self.halves = False
        for passing in (*self._buried, self._passing):
            passing.set()

    def delay(self, seconds: float = 3.0) -> None:
        """Pass everything so much later."""
        self.delay_seconds = seconds

    def hold(self) -> None:
        """Pass nothing, and say nothing: a black hole."""
        self._passing.clear()

    def bury(self) -> None:
        """Hold the connections that there are, for good, and pass new ones: what a firewall does
        that has forgotten them."""
        self._passing.clear()
        self._buried.append(self._passing)
        self._passing = asyncio.Event()
        self._passing.set()

    def throttle(self, bytes_a_second: float = 1_000.0) -> None:
        """Pass so much and no more."""
        self.bytes_a_second = bytes_a_second

    def cut(self) -> None:
        """Cut every connection; new ones are taken."""
        for writer in list(self._writers):
            writer.transport.abort()

    def refuse(self) -> None:
        """Cut every connection, and new ones as they come."""
        self.refuses = True
        self.cut()

    def halve(self) -> None:
        """Pass half of whatever comes next, then cut the connection in the middle of it."""
        self.halves = True

    async def connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        writers = {writer}
        try:
            if not self.refuses:
                host, _, port = self.target.rpartition(":")
                there, back = await asyncio.open_connection(host, int(port))
                writers.add(back)
                self._writers |= writers
                async with asyncio.TaskGroup() as ways:
                    ways.create_task(self._pass(reader, back))
                    ways.create_task(self._pass(there, writer))
        except* OSError:
            pass  # one end is gone, and so is the other then
        finally:
            for one in writers:
                one.transport.abort()
            self._writers -= writers
            self._tasks.discard(task)

    async def end(self) -> None:
        """Cut everything, and leave nothing running."""
        self.refuses = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _pass(self, reader: StreamReader, writer: StreamWriter) -> None:
        # Short, so that a slow reader is felt at the other end.
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)
        passing = self._passing
        now = asyncio.get_running_loop().time

        async def take() -> None:
            with suppress(OSError):
                while data := await reader.read(CHUNK_BYTES):
                    await queue.put((now() + self.delay_seconds, data))
            await queue.put((now() + self.delay_seconds, b""))  # the end

        taking = asyncio.create_task(take())
        try:
            while True:
                due, data = await queue.get()
                await asyncio.sleep(max(due - now(), 0.0))
                await passing.wait()
                if not data:
                    break
                await self._write(writer, data)
        finally:
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)
            writer.close()

    async def _write(self, writer: StreamWriter, data: bytes) -> None:
        if self.halves:
            writer.write(data[: len(data) // 2])
            await writer.drain()
            raise ConnectionResetError("halved")
        while data:
            most = self.bytes_a_second / PIECES_A_SECOND
            size = len(data) if most == inf else max(int(most), 1)
            writer.write(data[:size])
            await writer.drain()
            data = data[size:]
            if most < inf:
                await asyncio.sleep(1.0 / PIECES_A_SECOND)


Fault = Callable[[FaultProxy], None]


@asynccontextmanager
async def fault_proxy(target: str) -> AsyncIterator[FaultProxy]:
    """A proxy on a free port of this machine."""
    proxy = FaultProxy(target)
    server = await asyncio.start_server(proxy.connected, "127.0.0.1", 0)
    proxy.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.end()
        await server.wait_closed()
