"""What the last bits of a fit depend on beside its inputs: code, libraries, processor."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

_ROOMS = ("quotes", "market", "models", "fitting", "arbitrage", "surface")
_LIBRARIES = ("numpy", "scipy", "jax", "jaxlib")
# They choose the instructions that XLA may use, or the order in which it adds.
_SWITCHES = ("XLA_FLAGS", "JAX_DISABLE_JIT", "NPY_DISABLE_CPU_FEATURES", "OPENBLAS_CORETYPE")


@dataclass(frozen=True)
class Build:
    """What ran a fit, each part as text that is equal where the part is.

    ``code``: a hash of the source files that a fit runs through; ``libraries``: their versions and
    Python's; ``processor``: its architecture and a hash of its features and of the switches in the
    environment that restrict them.
    """

    code: str
    libraries: str
    processor: str

    def differences(self, other: Build) -> tuple[str, ...]:
        """The names of the parts in which two builds differ."""
        names = ("code", "libraries", "processor")
        return tuple(name for name in names if getattr(self, name) != getattr(other, name))


def this_build() -> Build:
    """The build of this process; reads all the source files."""
    libraries = [f"{name} {version(name)}" for name in _LIBRARIES]
    return Build(
        code=_code(),
        libraries=", ".join([f"python {platform.python_version()}", *libraries]),
        processor=f"{platform.machine()} {_features()}",
    )


def _code() -> str:
    digest = sha256()
    package = Path(__file__).parent.parent
    for path in sorted(path for room in _ROOMS for path in (package / room).rglob("*.py")):
        digest.update(f"{path.relative_to(package).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _features() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:  # no Linux
        lines = [f"flags: {platform.processor()}"]
    features = {
        line.partition(":")[2].strip()
        for line in lines
        if line.partition(":")[0].strip() in ("flags", "Features", "model name")
    }
    switches = [f"{name}={os.environ.get(name, '')}" for name in _SWITCHES]
    return sha256("\0".join([*sorted(features), *switches]).encode()).hexdigest()[:16]
