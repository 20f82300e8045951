"""What a fit remembers of the last surface: carried to the new forward and time, and fading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from calib.conventions import Bools, Floats, Ints, years_between
from calib.market.slices import Slices
from calib.states import ModelName
from calib.surface.surface import ExpirySlice, Surface


@dataclass(frozen=True)
class Memory:
    """How the last surface is carried to the present, and how fast it is forgotten.

    ``skew_stickiness``: the ratio R by which the ATM vol follows its skew when the forward moves
    by x = ln(F′/F): dσ = R·(∂σ/∂k)·x (Bergomi, Stochastic Volatility Modeling, 2016, §9.2). A
    smile is carried as w′(k) = w(k + Rx): R = 0 is sticky moneyness, R = 1 sticky strike.
    ``drift``: how much the coordinates of a smile move in a year, as standard deviations of the
    logarithms of its two wing slopes, of its minimum variance, of its vertex in ATM standard
    deviations and of the logarithm of its curvature, for an expiry a year away. Nearer ones move
    more, by T^(−½), down to a day.

    The defaults are measured on Deribit BTC and ETH, January and March 2026, six hours between
    surfaces. The vol at the money alone follows with R = 1.15 ± 0.09, the vols one deviation from
    there with less, so that a smile carried as a whole predicts the next quotes best with R = 0.25.
    The drifts are three times the likeliest: moves have heavy tails, and with the likeliest
    themselves quotes that were left out are met worse than without memory.
    """

    skew_stickiness: float = 0.25
    drift: tuple[float, float, float, float, float] = (0.9, 0.9, 1.2, 1.2, 0.9)


class Remembered(NamedTuple):
    """The last surface at n expiries of a chain, carried to its forwards and its time.

    ``known`` (n,); ``anchor`` (3, n): the eSSVI smiles that it was drawn to; ``parameters`` (5, n)
    of raw SVI and their ``covariance`` (5, 5, n) under the stated noise, nan where there are none;
    ``drift`` (5, n): variances of what the coordinates have moved since, in the units of `Memory`;
    ``superseded`` (n,): the share of the quotes behind each smile that the chain no longer holds,
    0 where all still stand.
    """

    known: Bools
    anchor: Floats
    parameters: Floats
    covariance: Floats
    drift: Floats
    superseded: Floats

    @classmethod
    def nothing(cls, count: int) -> Remembered:
        """Of a chain without a last surface."""
        nan = np.nan
        return cls(
            np.zeros(count, bool),
            np.full((3, count), nan),
            np.full((5, count), nan),
            np.full((5, 5, count), nan),
            np.zeros((5, count)),
            np.zeros(count),
        )


_DAY = 1.0 / 365.0


def remember(
    previous: Surface | None, slices: Slices, expiries: Ints, memory: Memory
) -> Remembered:
    """What ``previous`` says of the chosen ``expiries`` of a chain.

    A vol stays with its strike or its moneyness, as the skew-stickiness says; total variance
    follows the years that are left. A surface later than the chain is a start and no memory.
    """
    known = Remembered.nothing(len(expiries))
    if previous is None or previous.model is not ModelName.SVI or not previous.expiries:
        return known
    place = {int(e.expiry.astype(np.int64)): e for e in previous.expiries if e.anchor}
    moments = slices.expiry[expiries].astype(np.int64).tolist()
    found = [(i, place[moment]) for i, moment in enumerate(moments) if moment in place]
    if not found:
        return known
    at = np.array([i for i, _ in found])
    old = [one for _, one in found]
    number = expiries[at]
    columns = np.array([_numbers_of(one) for one in old]).T
    years, forward, behind, measured, theta, correlation, psi = columns[:7]
    parameters, covariance = columns[7:12], columns[12:].reshape(5, 5, -1)
    longer = slices.years[number] / years
    scale = np.ones((5, len(at)))
    scale[:2] = longer
    parameters[3] -= memory.skew_stickiness * np.log(slices.forward[number] / forward)
    known.known[at] = True
    known.anchor[:, at] = longer * theta, correlation, longer * psi
    known.parameters[:, at] = scale * parameters
    # A fit weighs quotes by their stated noise, and so what is remembered of them.
    stated = np.where(measured > 0.0, measured, 1.0)
    known.covariance[:, :, at] = covariance * (scale[:, None] * scale / stated)
    # What is held is older than the surface that holds it.
    seen = np.full(len(slices.expiry), previous.quote_time)
    for i, one in zip(number, old, strict=True):
        if one.hold is not None and one.hold.share:
            seen[i] = one.hold.quote_time
    elapsed = years_between(seen[number], slices.chain.quote_time)
    later = elapsed > 0.0
    reach = np.where(later, elapsed, 0.0) / np.maximum(slices.years[number], _DAY)
    known.drift[:, at] = np.square(memory.drift)[:, None] * reach
    own = np.flatnonzero(slices.used)
    place_of = slices.slice_index[own]
    used = slices.chain.quotes.quote_time[own] <= seen[place_of]
    kept = np.bincount(place_of[used], minlength=len(slices.expiry))[number]
    gone = 1.0 - kept / np.maximum(np.maximum(behind, kept), 1)
    known.superseded[at] = np.where(later, gone, 0.0)
    return known


_UNKNOWN = (np.nan,) * 25


def _numbers_of(one: ExpirySlice) -> tuple[float, ...]:
    """Years, forward, quotes used, covariance scale, anchor (3), parameters, covariance."""
    of = one.diagnostics
    spread = one.covariance or _UNKNOWN
    measured = of.quotes_used, of.covariance_scale
    return (one.years, one.forward, *measured, *one.anchor, *one.parameters, *spread)
