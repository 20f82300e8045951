"""Processes of a job end with it, however it ends, and say when one of them is gone."""

from __future__ import annotations

import os
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


def test_one_that_is_gone_is_named() -> None:
    with pytest.raises(Unavailable, match="worker"), working(2) as pool:
        pool.submit(os._exit, 1).result()


def test_one_alone_is_a_thread_of_this_process() -> None:
    with working(1) as pool:
        assert pool.submit(os.getpid).result() == os.getpid()
