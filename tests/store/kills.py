"""Killing a writer at random moments, and what has to be there afterwards."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from time import sleep

import numpy as np

from calib.store import Fitted, RecordKind, open_store


def kill_and_check(url: str, quotes: Path, seed: int) -> int:
    """Let a process write, kill it, and hold what it was told against what is stored.

    Returns how many revisions were acknowledged. The store may hold more than that, of what was
    written and not said any more, but nothing torn.
    """
    epoch, day = f"run-{seed}", np.datetime64("2026-03-02") + seed
    program = [sys.executable, "-m", "tests.store.killed_writer"]
    command = [*program, url, str(quotes), epoch, str(day)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = int(process.stdout.readline())  # until then it imports
        sleep(random.Random(seed).uniform(0.0, 0.4))
        process.kill()
        lines = process.stdout.read().splitlines(keepends=True)
    said = [first, *(int(line) for line in lines if line.endswith("\n"))]
    assert process.returncode == -9
    with open_store(url, quotes=quotes) as store:
        stored = list(store.published(start=day, end=day + 1))
        assert {one.key.epoch for one in stored} == {epoch}
        revisions = [one.key.revision for one in stored]
        assert revisions == list(range(1, len(revisions) + 1))
        assert said == sorted(said)
        assert said[-1] <= len(revisions)
        for one in stored:
            assert one.surface().revision == one.key.revision
            assert isinstance(one.provenance, Fitted)
            assert store.chain(one.provenance.batch.members[one.provenance.place]) is not None
        for kind in RecordKind:
            records, _ = store.records(kind, start=day, end=day + 1, limit=1_000_000)
            assert [record.revision for record in records] == revisions
    return said[-1]
