"""What every test shares."""

import os
import shutil
import tempfile

import pytest
from hypothesis import HealthCheck, settings

# The same examples on every machine, and no verdict that depends on how busy it is.
settings.register_profile(
    "calib", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("calib")


def pytest_configure(config: pytest.Config) -> None:
    """What one process of a run has compiled, the servers and command lines that it starts need
    not compile again. The folder lives as long as the run: no run depends on another."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = tempfile.mkdtemp(prefix="calib-compiled-")  # before anything imports jax
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
