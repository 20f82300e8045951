"""A market walked through time: what moves from surface to surface, and how well the last one told.

Smiles of consecutive surfaces are compared expiry by expiry, the earlier carried to the later's
forwards and time by the rule of `calib.fitting.memory`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from calib.conventions import Floats, Ints
from calib.fitting.fit import fit_chains
from calib.fitting.fit_value import Fit
from calib.fitting.memory import Memory, remember
from calib.fitting.settings import FitSettings
from calib.market.slices import QuoteKind
from calib.models import svi
from calib.quotes.chain import Chain

DAY = 1.0 / 365.0
TENORS = (0.0, 7.0 * DAY, 30.0 / 365.0, 90.0 / 365.0, 2.0)


def walk(chains: Sequence[Chain], settings: FitSettings) -> list[Fit]:
    """The chains of one underlying in order of time, each fitted after the last one's surface."""
    fits: list[Fit] = []
    for chain in chains:
        fits += fit_chains([chain], [fits[-1].surface if fits else None], settings)
    return fits


class Moves(NamedTuple):
    """What n smiles did between two surfaces; ``years`` to expiry and time ``elapsed`` after.

    ``handles`` (3, n): changes of ATM vol, of skew × √T and of curvature × T; ``forward``:
    ln(F′/F); ``skew``: the earlier ∂σ/∂k at the money; ``coordinates`` (5, n): changes of the chart
    coordinates, the vertex in ATM standard deviations, from the smile as it was carried; and
    ``noise`` (5, n), the variances that both surfaces state for that.
    """

    years: Floats
    elapsed: Floats
    handles: Floats
    forward: Floats
    skew: Floats
    coordinates: Floats
    noise: Floats

    @classmethod
    def joined(cls, parts: Sequence[Moves]) -> Moves:
        return cls(*(np.concatenate(columns, axis=-1) for columns in zip(*parts, strict=True)))


def moves(before: Fit, after: Fit, memory: Memory) -> Moves:
    old = {int(e.expiry.astype(np.int64)): e for e in before.surface.expiries}
    new = {int(e.expiry.astype(np.int64)): e for e in after.surface.expiries}
    slices = after.slices
    moments = slices.expiry.astype(np.int64).tolist()
    both = np.array([i for i, m in enumerate(moments) if m in old and m in new], np.int64)
    first, second = ([known[moments[i]] for i in both] for known in (old, new))
    earlier, later = _handles(before, first), _handles(after, second)
    years = np.array([one.years for one in second])
    scale = np.stack([np.ones_like(years), np.sqrt(years), years])
    carried = remember(before.surface, slices, both, memory)
    p, q = carried.parameters, np.array([one.parameters for one in second]).T
    spread = np.array([one.covariance for one in second]).reshape(-1, 5, 5)
    deviation = np.sqrt(svi.total_variance(p, 0.0))
    unit = np.stack([np.ones_like(years)] * 3 + [deviation, np.ones_like(years)])
    elapsed = (after.surface.quote_time - before.surface.quote_time) / np.timedelta64(365, "D")
    return Moves(
        years,
        np.full(len(both), float(elapsed)),
        scale * (later - earlier),
        np.log([b.forward / a.forward for a, b in zip(first, second, strict=True)]),
        earlier[1],
        (svi.to_chart(q) - svi.to_chart(p)) / unit,
        (_chart_variance(p, carried.covariance) + _chart_variance(q, np.moveaxis(spread, 0, -1)))
        / unit**2,
    )


def _handles(fit: Fit, expiries: Sequence[object]) -> Floats:
    """ATM vol, ∂σ/∂k and ∂²σ/∂k² there, (3, n)."""
    p = np.array([one.parameters for one in expiries]).T  # type: ignore[attr-defined]
    years = np.array([one.years for one in expiries])  # type: ignore[attr-defined]
    w, slope, bend = (f(p, 0.0) for f in (svi.total_variance, svi.slope, svi.curvature))
    vol = np.sqrt(w / years)
    first = slope / (2.0 * vol * years)
    return np.stack([vol, first, (bend / (2.0 * years) - first**2) / vol])


def _chart_variance(parameters: Floats, covariance: Floats) -> Floats:
    """Variances (5, n) of chart coordinates, by the inverse of the map's central differences."""
    at = svi.to_chart(parameters)
    step = 1e-6
    slopes = []
    for i in range(5):
        up, down = at.copy(), at.copy()
        width = step * np.maximum(np.abs(at[i]), 1e-2)
        up[i] += width
        down[i] -= width
        slopes.append((svi.from_chart(up) - svi.from_chart(down)) / (2.0 * width))
    jacobian = np.moveaxis(np.stack(slopes, axis=1), -1, 0)
    back = np.linalg.inv(jacobian)
    spread = back @ np.moveaxis(covariance, -1, 0) @ back.swapaxes(-1, -2)
    return np.asarray(np.einsum("nii->in", spread))


def stickiness(moved: Moves, tenor: int | None = None) -> tuple[float, float]:
    """R of dσ = R·(∂σ/∂k)·ln(F′/F) by least squares through the origin, with its error."""
    x, y = moved.skew * moved.forward, moved.handles[0]
    inside = np.ones(len(x), bool) if tenor is None else tenor_of(moved.years) == tenor
    x, y = x[inside], y[inside]
    ratio = float(x @ y / (x @ x))
    error = float(np.sqrt(np.sum((x * (y - ratio * x)) ** 2)) / (x @ x))
    return ratio, error


def tenor_of(years: Floats) -> np.ndarray:
    return np.searchsorted(TENORS, years, side="right") - 1


def drift(moved: Moves, known: float = 1.0) -> Floats:
    """The five numbers of `Memory.drift` that make the moves most likely, coordinate by coordinate.

    A move is normal with variance drift²·elapsed/max(T, a day) + noise; where a coordinate is
    known to worse than ``known`` it says nothing.
    """
    reach = moved.elapsed / np.maximum(moved.years, DAY)
    grid = np.geomspace(0.02, 60.0, 400)
    found = []
    for move, noise in zip(moved.coordinates, moved.noise, strict=True):
        good = np.isfinite(move) & (noise < known**2)
        d, v, r = move[good], noise[good], reach[good]
        spread = grid[:, None] ** 2 * r + v
        likely = -0.5 * (np.log(spread) + d * d / spread).sum(axis=1)
        found.append(grid[np.argmax(likely)])
    return np.array(found)


def standardised(moved: Moves, memory: Memory, known: float = 1.0) -> Floats:
    """Standard deviation (5,) of the moves in what `Memory` and both surfaces state for them."""
    reach = moved.elapsed / np.maximum(moved.years, DAY)
    found = []
    for move, noise, one in zip(moved.coordinates, moved.noise, memory.drift, strict=True):
        good = np.isfinite(move) & (noise < known**2)
        z = move[good] / np.sqrt(one**2 * reach[good] + noise[good])
        found.append(np.sqrt(np.mean(z * z)))
    return np.array(found)


def told(before: Fit, after: Fit, memory: Memory) -> Floats:
    """Errors, in vol, of the last surface carried to the present, at its two-sided quotes."""
    slices = after.slices
    carried = remember(before.surface, slices, np.arange(len(slices.expiry)), memory)
    return errors(carried.parameters, after)


def errors(parameters: Floats, at: Fit, where: Ints | None = None) -> Floats:
    """Vols of smiles (5, n expiries) less mids, at two-sided quotes of expiries that have one."""
    slices = at.slices
    rows = np.flatnonzero((slices.kind == QuoteKind.TWO_SIDED) & (slices.slice_index >= 0))
    if where is not None:
        rows = rows[np.isin(slices.chain.quotes.row[rows], where)]
    mine = parameters[:, slices.slice_index[rows]]
    w = svi.total_variance(mine, slices.log_moneyness[rows])
    gap = np.sqrt(w / slices.years[slices.slice_index[rows]]) - slices.mid_vol[rows]
    return np.asarray(gap[np.isfinite(gap)])


def parameters_of(fit: Fit, at: Fit) -> Floats:
    """Parameters of ``fit`` at the expiries of the chain of ``at``, nan where it has none."""
    known = {int(e.expiry.astype(np.int64)): e.parameters for e in fit.surface.expiries}
    none = (np.nan,) * 5
    return np.array([known.get(m, none) for m in at.slices.expiry.astype(np.int64).tolist()]).T


def thinned(fit: Fit, every: int, first: int) -> tuple[Chain, Ints]:
    """The chain without every so many-th two-sided quote of an expiry, and the rows left out."""
    slices = fit.slices
    rows = np.flatnonzero((slices.kind == QuoteKind.TWO_SIDED) & (slices.slice_index >= 0))
    rows = rows[np.lexsort((slices.log_moneyness[rows], slices.slice_index[rows]))]
    out = rows[first::every]
    keep = np.ones(len(slices.kind), bool)
    keep[out] = False
    chain = slices.chain
    return replace(chain, quotes=chain.quotes.take(keep)), chain.quotes.row[out]
