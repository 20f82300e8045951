"""Killing a writer at random moments, and what has to be there afterwards."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from time import sleep

from calib.store import Fitted, RecordKind, open_store


def kill_and_check(url: str, quotes: Path, seed: int) -> int:
    """Let a process write, kill it, and hold what it was told against what is stored.

    Returns how many revisions were acknowledged. The store may hold more than that, of what was
    taken and not said any more, but nothing torn.
    """
    epoch = f"run-{seed}"
    command = [sys.executable, "-m", "tests.store.killed_writer", url, str(quotes), epoch]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"  # until then it imports
        sleep(random.Random(seed).uniform(0.0, 0.4))
        process.kill()
        said = [1, *(int(line) for line in process.stdout.read().splitlines(keepends=True)
                     if line.endswith("\n"))]  # fmt: skip
    assert process.returncode == -9
    with open_store(url, quotes=quotes) as store:
        stored = [one for one in store.published() if one.key.epoch == epoch]
        revisions = [one.key.revision for one in stored]
        assert revisions == list(range(1, len(revisions) + 1))
        assert said == list(range(1, len(said) + 1))
        assert len(said) <= len(revisions) <= len(said) + 1
        for one in stored:
            assert one.surface().revision == one.key.revision
            assert isinstance(one.provenance, Fitted)
            assert store.chain(one.provenance.batch.members[one.provenance.place]) is not None
        for kind in RecordKind:
            records, _ = store.records(kind, limit=1_000_000)
            mine = [record.revision for record in records if record.epoch == epoch]
            assert mine == revisions
    return len(said)
