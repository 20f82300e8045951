"""Hold-outs: quotes that a fit did not see, against what it says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from calib.conventions import Bools, Floats, Ints
from calib.errors import InvalidRequest
from calib.market.slices import QuoteKind
from calib.modelrisk.delta_buckets import bucket_numbers, call_delta
from calib.modelrisk.innovations import quote_noise

if TYPE_CHECKING:
    from calib.fitting.fit_value import Fit
    from calib.fitting.settings import FitSettings
    from calib.quotes.chain import Chain


class HeldOutPart(StrEnum):
    """What of a smile was not shown to the fit."""

    STRIKE = "strike"
    LEFT_WING = "left wing"
    RIGHT_WING = "right wing"


_WINGS = {HeldOutPart.LEFT_WING: 0, HeldOutPart.RIGHT_WING: 4}
"""Their delta buckets: beyond 17.5 delta, see `calib.modelrisk.delta_buckets`."""


@dataclass(frozen=True)
class HoldOut:
    """Quotes that were held out, as arrays over them.

    ``row`` in the chain's table, ``number`` of the expiry in the chain, ``log_moneyness``,
    ``mid_vol``, the vol ``predicted`` without them and its ``error``, and the standardised
    z = (mid − predicted)/√(e² + (sh)²), h the half-spread and s the fit's noise in units of it:
    standard deviation 1 where the error bars are honest.
    """

    part: HeldOutPart
    row: Ints
    number: Ints
    log_moneyness: Floats
    mid_vol: Floats
    predicted: Floats
    error: Floats
    z: Floats

    @property
    def rms(self) -> float:
        """√mean(z²), nan without a quote."""
        return float(np.sqrt(np.mean(self.z * self.z))) if self.z.size else float("nan")

    def of_expiry(self, number: int) -> HoldOut:
        """Those of one expiry."""
        mine = self.number == number
        arrays = [getattr(self, name)[mine] for name in self.__dataclass_fields__ if name != "part"]
        return HoldOut(self.part, *arrays)


def leave_strikes_out(
    chain: Chain, settings: FitSettings | None = None, *, folds: int | None = None
) -> HoldOut:
    """Every strike of every expiry, predicted by a fit that did not see it.

    Each fit leaves out one strike of every expiry at once, or with ``folds`` every one of so many
    in turn: that many fits instead of one a strike. A strike is missing from the result where its
    expiry cannot be fitted without it. Raises InvalidRequest for fewer folds than one.
    """
    if folds is not None and folds < 1:
        raise InvalidRequest(f"folds is {folds}, must be at least 1")
    whole = _fit([chain], settings, [None])[0]
    slices, seen = whole.slices, _two_sided(whole)
    turn = np.full(len(seen), -1, np.int64)
    for number in range(len(slices.expiry)):
        mine = np.flatnonzero(seen & (slices.slice_index == number))
        _, place = np.unique(slices.chain.quotes.strike[mine], return_inverse=True)
        turn[mine] = place if folds is None else place % folds
    held = [turn == fold for fold in range(int(turn.max(initial=-1)) + 1)]
    return _predicted(HeldOutPart.STRIKE, chain, settings, held)


def leave_wing_out(chain: Chain, part: HeldOutPart, settings: FitSettings | None = None) -> HoldOut:
    """The quotes of a wing, beyond a delta of 17.5 %, predicted by a fit to all others."""
    whole = _fit([chain], settings, [None])[0]
    years = np.append(whole.slices.years, np.nan)[whole.slices.slice_index]
    with np.errstate(invalid="ignore"):
        w = whole.model_vol**2 * years
    bucket = bucket_numbers(call_delta(whole.slices.log_moneyness, w))
    return _predicted(part, chain, settings, [_two_sided(whole) & (bucket == _WINGS[part])])


def _predicted(
    part: HeldOutPart, chain: Chain, settings: FitSettings | None, held: Sequence[Bools]
) -> HoldOut:
    held = [rows for rows in held if rows.any()]
    fits = _fit([chain] * len(held), settings, [np.where(rows, 0.0, 1.0) for rows in held])
    empty = np.zeros(0)
    none = HoldOut(part, empty.astype(np.int64), empty.astype(np.int64), *[empty] * 5)
    found = [
        none,
        *(
            _of_fit(part, fit, rows)
            for fit, rows in zip(fits, held, strict=True)
            if fit.surface.expiries
        ),
    ]  # without any there is no prediction
    names = [name for name in HoldOut.__dataclass_fields__ if name != "part"]
    return HoldOut(part, *(np.concatenate([getattr(one, n) for one in found]) for n in names))


def _of_fit(part: HeldOutPart, fit: Fit, held: Bools) -> HoldOut:
    slices, surface = fit.slices, fit.surface
    fitted = np.isin(slices.expiry, [one.expiry for one in surface.expiries])
    rows = np.flatnonzero(held & np.append(fitted, False)[slices.slice_index])
    number, k = slices.slice_index[rows], slices.log_moneyness[rows]
    years, strike = slices.years[number], slices.forward[number] * np.exp(k)
    predicted = np.asarray(surface.implied_vol(strike, years), np.float64)
    error = np.asarray(surface.vol_error(strike, years), np.float64)
    gap = slices.mid_vol[rows] - predicted
    scale = {one.expiry: quote_noise(one) for one in surface.expiries}
    noise = np.array([scale[slices.expiry[i]] for i in number.tolist()]) * slices.noise[rows]
    z = gap / np.hypot(error, noise)
    return HoldOut(
        part, slices.chain.quotes.row[rows], number, k, slices.mid_vol[rows], predicted, error, z
    )


def _two_sided(fit: Fit) -> Bools:
    return np.asarray(fit.used & (fit.slices.kind == QuoteKind.TWO_SIDED))


def _fit(
    group: Sequence[Chain], settings: FitSettings | None, weights: Sequence[Floats | None]
) -> list[Fit]:
    from calib.fitting.fit import fit_chains  # needs jax, which nothing else here does
    from calib.fitting.settings import DEFAULT

    return fit_chains(group, (), settings or DEFAULT, weights)
