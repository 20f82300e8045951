"""Files that are read again when they have changed."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from calib.errors import InvalidRequest


def content_of(path: str | PathLike[str]) -> bytes:
    """What a file holds; raises InvalidRequest where it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror or error}") from error


def stamp_of(path: Path) -> tuple[int, int, int] | None:
    """Differs where the file does; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
