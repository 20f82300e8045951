"""Processes that share the work of a job: fitting is half Python, which one process does on one
core at a time."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from threading import Thread
from typing import ParamSpec, TypeVar

from calib.errors import Unavailable

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


class _Here(Executor):
    """Works on the thread that hands it something, where Ctrl-C ends it."""

    def submit(
        self, fn: Callable[_Given, _Result], /, *args: _Given.args, **kwargs: _Given.kwargs
    ) -> Future[_Result]:
        done: Future[_Result] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - raised where the result is asked for
            done.set_exception(error)
        return done


@contextmanager
def working(count: int) -> Iterator[Executor]:
    """So many processes that end with this one, however it ends; with one, no other: what it is
    handed is done before `submit` returns. Where the body raises, the processes end at once, and
    what they were at is lost.

    Raises Unavailable where a process is gone, as the system ends one when memory runs out.
    """
    if count == 1:
        yield _Here()
        return
    fresh = get_context("spawn")  # a fork of a process that has compiled may hang
    alive, held = fresh.Pipe(duplex=False)
    try:
        with (
            alive,
            ProcessPoolExecutor(count, fresh, _begin, (alive,)) as processes,
            held,  # let go before the pool waits for what is at work
        ):
            yield processes
            processes.shutdown()
    except BrokenProcessPool as error:
        raise Unavailable(
            "a worker of the job was ended, as for want of memory; go on with fewer workers"
        ) from error


def _begin(alive: Connection) -> None:
    """Leave Ctrl-C to the process that shares the work out, and end with its work or itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_after, args=(alive,), daemon=True).start()


def _end_after(alive: Connection) -> None:
    """End when the other end is let go, as it is by a process that ends."""
    wait([alive])
    os._exit(1)
