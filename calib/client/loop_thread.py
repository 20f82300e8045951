"""An event loop in a thread of its own, for callers that have none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from threading import Event, RLock, Thread, current_thread
from typing import Any, TypeVar

from calib.errors import CalibError, InvalidRequest, Unavailable

_log = logging.getLogger(__name__)

_Result = TypeVar("_Result")

_SECONDS_TO_END = 10.0


class LoopThread:
    """Runs coroutines for any thread, from `start` to `close`, or to the end of the process."""

    def __init__(self) -> None:
        # The garbage collector may come in anywhere, also while this thread holds the lock.
        self._lock = RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._thread = Thread(target=self._live, name="calib-client", daemon=True)
        self._started = Event()

    def start(self) -> None:
        """Begin to run what comes; only once."""
        with self._lock:
            if self._loop is not None or self._closed:
                raise InvalidRequest("this client was opened before; connect anew")
            self._thread.start()
            self._started.wait()

    def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """What the coroutine returns or raises. An interrupt (Ctrl-C) of the waiting thread cancels
        the coroutine; closing makes it raise Unavailable."""
        if current_thread() is self._thread:
            work.close()
            raise InvalidRequest("a call that waits cannot be made from the client's own thread")
        future = self.submit(work)
        try:
            return future.result()
        except CancelledError:
            raise Unavailable("the client was closed") from None
        finally:
            future.cancel()

    def submit(self, work: Coroutine[Any, Any, _Result]) -> Future[_Result]:
        """Begin a coroutine, and do not wait for it; raises as `check_open`."""
        with self._lock:
            try:
                return asyncio.run_coroutine_threadsafe(work, self.check_open())
            except CalibError:
                work.close()
                raise

    def check_open(self) -> asyncio.AbstractEventLoop:
        """The loop; raises InvalidRequest before `start` and Unavailable after `close`."""
        if self._closed:
            raise Unavailable("the client was closed")
        if self._loop is None:
            raise InvalidRequest("the client is not open: use `with calib.connect_blocking(...)`")
        return self._loop

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Run one last coroutine, cancel all else and end the thread; again does nothing."""
        with self._lock:
            loop, was_closed, self._closed = self._loop, self._closed, True
        if loop is None or was_closed:
            last.close()
            return
        asyncio.run_coroutine_threadsafe(self._finish(last), loop)
        self._thread.join(_SECONDS_TO_END)
        if self._thread.is_alive():
            _log.warning("the client's thread has not ended in %g s; it is left", _SECONDS_TO_END)

    def _live(self) -> None:
        asyncio.run(self._until_finished())

    async def _until_finished(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_handle)
        self._loop, self._finished = loop, asyncio.Event()
        self._started.set()
        await self._finished.wait()  # then asyncio.run cancels what is left, and waits for it

    async def _finish(self, last: Coroutine[Any, Any, None]) -> None:
        try:
            async with asyncio.timeout(0.5 * _SECONDS_TO_END):
                await last
        finally:
            self._finished.set()


def _handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # A message wakes the loops of all threads that use gRPC; those that find it taken already
    # report this error, which means nothing (grpc#25364).
    if not isinstance(context.get("exception"), BlockingIOError):
        loop.default_exception_handler(context)
