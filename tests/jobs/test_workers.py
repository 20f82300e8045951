"""Processes of a job end with it, however it ends, and say when one of them is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from calib.errors import Unavailable
from calib.jobs.workers import working

SCRIPT = """
import os, time
from calib.jobs.workers import working
if __name__ == "__main__":
    with working(2) as pool:
        print(*{one.result() for one in [pool.submit(os.getpid) for _ in range(8)]}, flush=True)
        pool.submit(time.sleep, 600.0)
        time.sleep(600.0)
"""


def runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text("utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_they_end_with_a_job_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text(SCRIPT)
    job = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert job.stdout is not None
    workers = [int(pid) for pid in job.stdout.readline().split()]
    assert workers
    assert all(map(runs, workers))
    job.kill()
    job.wait()
    job.stdout.close()
    deadline = time.monotonic() + 30.0
    while any(map(runs, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_they_end_with_a_job_that_is_interrupted(tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text(SCRIPT)
    job = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert job.stdout is not None
    workers = [int(pid) for pid in job.stdout.readline().split()]
    assert any(map(runs, workers))
    job.send_signal(signal.SIGINT)
    _, err = job.communicate(timeout=60.0)  # what they are at takes ten minutes
    assert job.returncode == -signal.SIGINT
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert not any(map(runs, workers))


def test_what_the_body_raises_comes_out() -> None:
    def body() -> None:
        with working(2) as pool:
            pool.submit(time.sleep, 600.0)
            raise ValueError(pool.submit(int, "7").result())

    with pytest.raises(ValueError, match="7"):
        body()


def test_one_alone_is_interrupted_in_its_work() -> None:
    def body() -> None:
        with working(1) as pool:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            pool.submit(time.sleep, 600.0)

    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            body()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_what_is_handed_in_is_done_at_the_end() -> None:
    with working(2) as pool:
        futures = [pool.submit(os.getpid) for _ in range(4)]
    assert all(one.result() for one in futures)


def test_one_that_is_gone_is_named() -> None:
    with pytest.raises(Unavailable, match="worker"), working(2) as pool:
        pool.submit(os._exit, 1).result()


def test_one_alone_is_this_process() -> None:
    with working(1) as pool:
        assert pool.submit(os.getpid).result() == os.getpid()
        failed = pool.submit(int, "x")
    with pytest.raises(ValueError, match="'x'"):
        failed.result()
