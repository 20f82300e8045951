"""A chain as smiles: forwards, and every row's vols, noise and reason, ready to be fitted."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from calib.conventions import Bools, ExpiryCalendar, Floats, Instants, Ints
from calib.market.variance_clock import VarianceKnot
from calib.quotes.chain import Chain


class QuoteKind(IntEnum):
    """What a row says about the smile: both sides, only a ceiling (ask), only a floor (bid)."""

    NONE = 0
    TWO_SIDED = 1
    CEILING = 2
    FLOOR = 3


@dataclass(frozen=True)
class Slices:
    """The expiries of a chain, and its rows in vol.

    Arrays over the n expiries, in order of time: ``expiry``, ``years``, ``variance_time`` (equal
    to years where there is no clock), ``forward``, ``forward_error`` (one standard error),
    ``forward_source``, ``discount_factor``.
    Arrays over the rows of ``chain.quotes``: ``slice_index`` (-1 where the row belongs to no
    expiry), ``log_moneyness``, ``bid_vol``, ``ask_vol`` (nan where that side has none), ``noise``
    (the half-spread in vol that its residual is counted in), ``kind`` and ``reason``.
    ``spot`` is the chain's median spot, None where no row gives one; ``variance_clock`` holds the
    knots of the clock that the variance times are read off.
    """

    chain: Chain
    calendar: ExpiryCalendar
    expiry: Instants
    years: Floats
    variance_time: Floats
    forward: Floats
    forward_error: Floats
    forward_source: NDArray[np.int8]
    discount_factor: Floats
    spot: float | None
    slice_index: Ints
    log_moneyness: Floats
    bid_vol: Floats
    ask_vol: Floats
    noise: Floats
    kind: NDArray[np.int8]
    reason: NDArray[np.int8]
    variance_clock: tuple[VarianceKnot, ...] = ()

    @property
    def mid_vol(self) -> Floats:
        """The middle of bid and ask vol, nan where either is missing."""
        return 0.5 * (self.bid_vol + self.ask_vol)

    @property
    def used(self) -> Bools:
        """Rows that take part in the fit."""
        used: Bools = self.kind != QuoteKind.NONE
        return used
