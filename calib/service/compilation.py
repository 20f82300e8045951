"""Where compiled fits are kept between runs, so that a second start takes seconds.

Whoever can write into that folder can run code in the process, so it must be the user's own.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Container, MutableMapping
from pathlib import Path

_KEEP = ("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
"""By default only what took a second to compile is kept."""


def default_cache() -> Path:
    """The user's cache folder by the XDG rules."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "calib" / "compiled"


def use_cache(
    folder: Path,
    environment: MutableMapping[str, str] = os.environ,
    modules: Container[str] = sys.modules,
) -> str:
    """Have JAX, which reads its environment as it is imported, keep what it compiles in ``folder``.

    The folder is made for this user alone; one that others own or can write to is not used. What
    the environment says already stands. Returns why the folder cannot be used, empty where it can:
    what is compiled is then compiled again in every run.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        return f"{folder} cannot be used: {error.strerror or error}"
    if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{folder} is not used: others can write to it"
    if "JAX_COMPILATION_CACHE_DIR" not in environment:
        if "jax" in modules:
            return f"{folder} is not used: jax was imported before it could be told"
        environment["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    environment.setdefault(*_KEEP)
    return ""
