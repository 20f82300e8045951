"""Quotes that a fit did not see, and how far they lie from it in its error bars."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from calib.conventions import Bools, Floats
from calib.fitting.fit import fit_chains
from calib.fitting.fit_value import Fit
from calib.fitting.memory import Memory, remember
from calib.fitting.settings import FitSettings
from calib.market.slices import QuoteKind
from calib.models import svi
from calib.quotes.chain import Chain

FEWEST = 6
"""Two-sided quotes of an expiry of which one is left out."""


class HeldOut(NamedTuple):
    """Of n quotes: vol ``error``, model less mid; the error ``bar`` of the vol and the ``noise`` of
    the mid, one standard deviation each; ``years``, and whether the quote lies ``outside`` of
    those that were fitted."""

    error: Floats
    bar: Floats
    noise: Floats
    years: Floats
    outside: Bools

    @property
    def standardised(self) -> Floats:
        return np.asarray(self.error / np.hypot(self.bar, self.noise))

    def deviation(self, chosen: Bools | None = None) -> float:
        """Root mean square of the standardised errors."""
        z = self.standardised if chosen is None else self.standardised[chosen]
        return float(np.sqrt(np.mean(z * z)))

    @classmethod
    def joined(cls, parts: Sequence[HeldOut]) -> HeldOut:
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def leave_one_out(
    chain: Chain, settings: FitSettings, rounds: int, rng: np.random.Generator
) -> HeldOut:
    """A strike of every expiry left out, so many times."""
    (whole,) = fit_chains([chain], (), settings)
    slices = whole.slices
    two_sided = np.flatnonzero(whole.used & (slices.kind == QuoteKind.TWO_SIDED))
    weights, held = [], []
    for _ in range(rounds):
        weight, rows = np.ones(len(slices.kind)), []
        for number in range(len(slices.years)):
            mine = two_sided[slices.slice_index[two_sided] == number]
            if len(mine) >= FEWEST:
                row = rng.choice(mine)
                rows.append(row)
                same = slices.log_moneyness == slices.log_moneyness[row]
                weight[same & (slices.slice_index == number)] = 0.0
        weights.append(weight)
        held.append(rows)
    found = []
    for rows, fit in zip(held, fit_chains([chain] * rounds, (), settings, weights), strict=True):
        smiles = {int(e.expiry.astype(np.int64)): e for e in fit.surface.expiries}
        for row in rows:
            smile = smiles.get(int(slices.expiry[slices.slice_index[row]].astype(np.int64)))
            if smile is None:
                continue
            k = slices.log_moneyness[row]
            strike = smile.forward * np.exp(k)
            vol = fit.surface.implied_vol(strike, smile.expiry)
            found.append(
                (
                    vol - slices.mid_vol[row],
                    fit.surface.vol_error(strike, smile.expiry),
                    smile.diagnostics.noise_scale * slices.noise[row],
                    smile.years,
                    not smile.log_moneyness_min <= k <= smile.log_moneyness_max,
                )
            )
    error, bar, noise, years, outside = np.array(found).T
    return HeldOut(error, bar, noise, years, outside > 0.0)


def one_step_ahead(fits: Sequence[Fit], memory: Memory) -> HeldOut:
    """Every surface, carried to the forwards and the time of the next chain, at its quotes.

    The bar is that of the earlier surface: of its quotes' errors, not of what the market did since.
    """
    return HeldOut.joined([_ahead(one, two, memory) for one, two in pairwise(fits)])


def _ahead(before: Fit, after: Fit, memory: Memory) -> HeldOut:
    slices = after.slices
    carried = remember(before.surface, slices, np.arange(len(slices.expiry)), memory)
    rows = np.flatnonzero(after.used & (slices.kind == QuoteKind.TWO_SIDED))
    rows = rows[carried.known[slices.slice_index[rows]]]
    place = slices.slice_index[rows]
    k, years = slices.log_moneyness[rows], slices.years[place]
    vol = np.sqrt(svi.total_variance(carried.parameters[:, place], k) / years)
    smiles = {int(e.expiry.astype(np.int64)): e for e in before.surface.expiries}
    moments = slices.expiry.astype(np.int64)[place].tolist()
    old = [smiles[moment] for moment in moments]
    strikes = np.array([one.forward for one in old]) * np.exp(k)
    at = np.array([one.expiry for one in old])
    scale = np.array([one.diagnostics.noise_scale for one in old])
    low = np.array([one.log_moneyness_min for one in old])
    high = np.array([one.log_moneyness_max for one in old])
    return HeldOut(
        vol - slices.mid_vol[rows],
        before.surface.vol_error(strikes, at),
        scale * slices.noise[rows],
        years,
        (k < low) | (k > high),
    )
