"""A command and all that it starts, and the most memory that they hold together."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from time import monotonic, sleep

_PAGE = os.sysconf("SC_PAGE_SIZE")
_LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class Ran:
    """How a command ended: ``peak_bytes`` is resident memory, looked at twenty times a second, of
    it and its descendants, pages that they share counted for each; ``busy_seconds`` of processors
    are those of all children that ended meanwhile."""

    code: int
    out: str
    err: str
    seconds: float
    busy_seconds: float
    peak_bytes: int


def run(module: str, arguments: Sequence[object], environment: Mapping[str, str]) -> Ran:
    """`python -m MODULE ARGUMENTS`, to its end."""
    began, busy, peak = monotonic(), _busy_seconds(), 0
    with subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    ) as process:
        while process.poll() is None:
            peak = max(peak, resident_bytes(process.pid))
            sleep(_LOOK_SECONDS)
        seconds = monotonic() - began
        out, err = process.communicate()
    return Ran(process.returncode, out, err, seconds, _busy_seconds() - busy, peak)


def _busy_seconds() -> float:
    used = getrusage(RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def resident_bytes(root: int) -> int:
    """Resident memory of a process and its descendants."""
    children, size = defaultdict(list), {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        children[int(fields[1])].append(int(folder.name))
        size[int(folder.name)] = int(fields[21]) * _PAGE
    waiting, total = [root], 0
    while waiting:
        one = waiting.pop()
        total += size.get(one, 0)
        waiting += children[one]
    return total
