"""The clock that ages are counted by."""

from __future__ import annotations

from collections.abc import Callable
from time import time_ns

import numpy as np

Clock = Callable[[], np.datetime64]
"""Gives the present instant, UTC."""


def utc_now() -> np.datetime64:
    """The present by this machine's clock."""
    return np.datetime64(time_ns() // 1_000, "us")
