"""How well certified surfaces meet the quotes of a table, beside free smiles; and a dense look."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import numpy as np

from calib.arbitrage.certificate import CertificateScope
from calib.conventions import ExpiryCalendar, Floats
from calib.fitting.fit import fit_chains
from calib.fitting.fit_value import Fit
from calib.fitting.settings import FitSettings
from calib.market.slices import QuoteKind
from calib.quotes.chain import Chain
from calib.states import ModelName
from calib.surface.surface import Surface
from tests.arbitrage.dense import essvi_as_raw, look

INDEPENDENT = frozenset({"VIX"})


def fits_of(chains: Iterable[Chain], settings: FitSettings, group: int = 32) -> list[Fit]:
    """A fit a chain, in order; expiries of futures' options stand for themselves."""
    fits: list[Fit] = []
    for members in _grouped(iter(chains), group):
        fits += _by_calendar(members, settings)
    return fits


def _by_calendar(members: Sequence[Chain], settings: FitSettings) -> list[Fit]:
    found: dict[int, Fit] = {}
    for calendar in ExpiryCalendar:
        alone = calendar is ExpiryCalendar.INDEPENDENT
        mine = [i for i, one in enumerate(members) if (one.underlying in INDEPENDENT) == alone]
        chosen = replace(settings, calendar=calendar)
        done = fit_chains([members[i] for i in mine], settings=chosen)
        found |= dict(zip(mine, done, strict=True))
    return [found[i] for i in range(len(members))]


def _grouped(stream: Iterator[Chain], size: int) -> Iterator[list[Chain]]:
    while group := list(islice(stream, size)):
        yield group


class Quality(NamedTuple):
    """Of one fit: rows that count, those inside bid–ask, RMSE in vol, χ²_red.

    Every two-sided, uncrossed, unexpired out-of-the-money row that can be inverted at both sides
    counts, whether its expiry was fitted or not; errors are over the fitted ones, and χ² is over
    these less the parameters, in half-spreads.
    """

    rows: int
    inside: int
    rmse: float
    chi2: float

    @property
    def share(self) -> float:
        return self.inside / self.rows


def quality(fit: Fit) -> Quality:
    both = fit.slices.kind == QuoteKind.TWO_SIDED
    bid, ask, vol = fit.slices.bid_vol[both], fit.slices.ask_vol[both], fit.model_vol[both]
    gap = vol - 0.5 * (bid + ask)
    inside = int(np.count_nonzero((vol >= bid) & (vol <= ask)))
    spent = sum(len(one.parameters) for one in fit.surface.expiries)
    free = max(int(np.isfinite(gap).sum()) - spent, 1)
    chi2 = float(np.nansum((gap / fit.slices.noise[both]) ** 2)) / free
    return Quality(int(both.sum()), inside, float(np.nanmean(gap * gap)) ** 0.5, chi2)


def by_snapshot(fits: Sequence[Fit]) -> Floats:
    """Share inside bid–ask of all that was quoted at each time, in order of time."""
    whole: dict[np.datetime64, list[int]] = {}
    for fit in fits:
        found = quality(fit)
        total = whole.setdefault(fit.surface.quote_time, [0, 0])
        total[0] += found.rows
        total[1] += found.inside
    return np.array([inside / rows for rows, inside in whole.values()])


def is_certified(surface: Surface) -> bool:
    return surface.certificate.arbitrage_free and surface.certificate.scope not in (
        CertificateScope.NOT_CHECKED,
        CertificateScope.FAILED,
    )


def lowest_seen(surface: Surface, steps: int = 8) -> float:
    """The lowest g or growth that the dense look finds on an SVI or eSSVI surface."""
    parameters = np.array([one.parameters for one in surface.expiries])
    if surface.model is ModelName.ESSVI:
        parameters = essvi_as_raw(parameters)
    coupled = surface.calendar is ExpiryCalendar.SAME_ASSET
    return min(look(parameters, steps=steps, coupled=coupled))
