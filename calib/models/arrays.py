"""The array library that a formula computes with, taken from its argument."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = Any
"""A numpy or jax array, or a number: whatever the caller computes with comes back."""

Parameters: TypeAlias = Sequence[Array] | Array
"""The parameters of a slice in its paper's order: a sequence, or an array stacked on axis 0."""


def namespace(x: Array) -> Any:
    """The module (``numpy`` or ``jax.numpy``) of an array; numpy for a plain number.

    Source: Python array API standard, ``__array_namespace__``.
    """
    named = getattr(x, "__array_namespace__", None)
    return np if named is None else named()
