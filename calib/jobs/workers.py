"""Processes that share the work of a job: fitting is half Python, which one process does on one
core at a time."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from threading import Thread

from calib.errors import Unavailable


@contextmanager
def working(count: int) -> Iterator[Executor]:
    """So many processes that end with this one, however it ends; with one, a thread of this one.

    Raises Unavailable where a process is gone, as the system ends one when memory runs out.
    """
    if count == 1:
        with ThreadPoolExecutor(1, thread_name_prefix="calib-job") as pool:
            yield pool
        return
    fresh = get_context("spawn")  # a fork of a process that has compiled may hang
    try:
        with ProcessPoolExecutor(count, mp_context=fresh, initializer=_begin) as processes:
            yield processes
    except BrokenProcessPool as error:
        raise Unavailable(
            "a worker of the job was ended, as for want of memory; go on with fewer workers"
        ) from error


def _begin() -> None:
    """Leave Ctrl-C to the process that shares the work out, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None, "a worker was started by somebody"
    Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
