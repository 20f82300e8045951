"""Files that are whole or not there at all, and stay once they are."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex
from time import time
from typing import BinaryIO

_SUFFIX = ".tmp"
_ABANDONED_SECONDS = 3_600.0


def write_durably(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Let ``write`` fill a new file and put it at ``path``, over what is there.

    When this returns, the file survives the end of the process and of power; whenever that comes
    before, there is nothing or the old file at ``path``. Folders are made. Raises OSError.
    """
    _make_folder(path.parent)
    temporary = path.with_name(f".{token_hex(8)}{_SUFFIX}")
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def remove_abandoned(folder: Path) -> None:
    """Remove what processes that were killed in the middle of writing left under ``folder``."""
    oldest = time() - _ABANDONED_SECONDS
    for path in folder.rglob(f".*{_SUFFIX}"):
        if path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """A file's name is part of its folder, which has to reach the disk too."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
