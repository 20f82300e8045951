"""The door of the fitter: chains in, fits with surface, residuals and diagnostics out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calib.conventions import Bools, ExpiryCalendar, Floats, span_of
from calib.errors import InvalidRequest
from calib.fitting.assembly import Outcome, quoted_range, reasons_after_fit, surface_of
from calib.fitting.diagnostics import diagnose
from calib.fitting.least_squares import Tolerances
from calib.fitting.smile import LossName, SmileFits, fit_smiles
from calib.fitting.universe import Batch, Universe, batches, count_kind, universe_of
from calib.market.slices import QuoteKind, Slices
from calib.market.slicing import slices_of
from calib.models.model import Model, model_named
from calib.quotes.chain import Chain, chains
from calib.quotes.reasons import Reason
from calib.quotes.table import QuoteTable
from calib.states import FitState, ModelName
from calib.surface.surface import SliceDiagnostics, Surface

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class FitSettings:
    """How surfaces are fitted.

    ``beta`` is SABR's elasticity. An expiry with fewer two-sided quotes than ``min_quotes`` is
    not fitted and says TOO_FEW_QUOTES.
    """

    model: ModelName = ModelName.SVI
    calendar: ExpiryCalendar = ExpiryCalendar.SAME_ASSET
    loss: LossName = LossName.DEAD_ZONE
    beta: float = 1.0
    min_quotes: int = 3
    tolerances: Tolerances = field(default_factory=Tolerances)


@dataclass(frozen=True)
class Fit:
    """What became of one chain.

    ``surface`` holds the expiries that could be fitted (none, where nothing could); ``slices``
    the chain in vol; ``states`` how each expiry of ``slices`` ended. Arrays over the chain's rows:
    ``model_vol`` (nan where no slice was fitted) and ``reason``.
    """

    surface: Surface
    slices: Slices
    states: tuple[FitState, ...]
    model_vol: Floats
    reason: NDArray[np.int8]
    slice_diagnostics: tuple[SliceDiagnostics, ...]

    @property
    def used(self) -> Bools:
        """Rows that took part in the fit of a slice."""
        used: Bools = self.slices.used & (self.reason == Reason.USABLE)
        return used

    @property
    def residuals(self) -> pd.DataFrame:
        """A row per input quote: what was quoted, what the model says, and why it was not used.

        Columns: row, venue, expiry, strike, right, log_moneyness, bid_vol, mid_vol, ask_vol,
        model_vol, residual (model − mid), weight (1/noise², 0 if unused), used, reason.
        """
        from calib.fitting.frames import residual_frame

        return residual_frame(self)

    @property
    def diagnostics(self) -> pd.DataFrame:
        """A row per expiry of the chain, fitted or not.

        Columns: expiry, years, state, forward, forward_error, forward_source, discount_factor,
        rms_vol_error, chi2_reduced, in_spread_share, max_abs_residual, quotes_used,
        quotes_rejected, steps.
        """
        from calib.fitting.frames import diagnostic_frame

        return diagnostic_frame(self)


def fit(
    quotes: QuoteTable,
    model: str = "svi",
    *,
    previous: Surface | None = None,
    settings: FitSettings | None = None,
) -> Fit:
    """Fit one underlying at one time.

    ``previous``: a surface to start from, the last one of this underlying.
    Raises InvalidRequest where the table holds no chain or more than one.
    """
    found = list(islice(chains(quotes), 3))
    if len(found) != 1:
        what = "no row has an underlying and a quote time" if not found else "more than one chain"
        raise InvalidRequest(
            f"fit takes one underlying at one time, but {what} "
            f"(underlyings {', '.join(quotes.underlyings) or 'none'}); see fit_many"
        )
    return fit_chains(found, [previous], _settings(model, settings))[0]


def fit_many(
    quotes: QuoteTable,
    model: str = "svi",
    *,
    every: str | timedelta | None = None,
    max_age: str | timedelta | None = None,
    settings: FitSettings | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Fit]:
    """Fit every chain in the table, a fit per chain, by underlying within quote time.

    ``every`` and ``max_age`` ("1h", "10min" or a timedelta) build as-of chains; without them rows
    of one exact quote time make a chain. ``progress`` is called with the number of chains done.
    """
    chosen = _settings(model, settings)
    stream = chains(quotes, every=_span("every", every), max_age=_span("max_age", max_age))
    fits: list[Fit] = []
    for group in _grouped(stream, 32):
        fits += fit_chains(group, (), chosen)
        if progress is not None:
            progress(len(group))
    return fits


def fit_chains(
    group: Sequence[Chain],
    previous: Sequence[Surface | None] = (),
    settings: FitSettings = FitSettings(),
) -> list[Fit]:
    """Fit chains of any underlyings and times as one batch; the live engine's way in as well.

    ``previous``: for each chain the surface to start from, or None; empty for none at all.
    """
    if not group:
        return []
    model = model_named(settings.model, beta=settings.beta)
    sliced = [slices_of(chain, settings.calendar) for chain in group]
    universe = universe_of(sliced)
    starts = _warm_starts(model, sliced, previous or [None] * len(group))

    parameters = np.full((len(model.parameter_names), len(universe.years)), np.nan)
    covariance = np.full((len(parameters), *parameters.shape), np.nan)
    states = np.full(len(universe.years), FitState.TOO_FEW_QUOTES, np.int64)
    steps = np.zeros(len(universe.years), np.int64)
    enough = count_kind(universe, QuoteKind.TWO_SIDED) >= settings.min_quotes
    states[np.concatenate([s.forward_source for s in sliced]) == 0] = FitState.NO_FORWARD
    states[universe.years <= 0.0] = FitState.EXPIRED
    for batch, fits in _fitted(model, settings, universe, enough, starts):
        n = len(batch.lanes)
        parameters[:, batch.lanes] = fits.parameters[:, :n]
        covariance[:, :, batch.lanes] = fits.covariance[:, :, :n]
        states[batch.lanes] = fits.state[:n]
        steps[batch.lanes] = fits.steps[:n]

    usable = np.isin(states, [state for state in FitState if state.usable])
    parameters[:, ~usable] = np.nan
    model_vol = _model_vol(model, universe, parameters)
    diagnostics = diagnose(universe, model_vol, states, steps, model.coordinates)
    outcome = Outcome(parameters, covariance, states, diagnostics, *quoted_range(universe))
    return [
        _fit_of(slices, i, settings, universe, outcome, model_vol)
        for i, slices in enumerate(sliced)
    ]


def _fit_of(
    slices: Slices,
    i: int,
    settings: FitSettings,
    universe: Universe,
    outcome: Outcome,
    model_vol: Floats,
) -> Fit:
    first, last = universe.slice_bounds[i : i + 2]
    states = tuple(FitState(int(state)) for state in outcome.states[first:last])
    return Fit(
        surface=surface_of(slices, settings.model, int(first), outcome),
        slices=slices,
        states=states,
        model_vol=model_vol[universe.row_bounds[i] : universe.row_bounds[i + 1]],
        reason=reasons_after_fit(slices, states),
        slice_diagnostics=outcome.diagnostics[first:last],
    )


def _settings(model: str, settings: FitSettings | None) -> FitSettings:
    return replace(settings or FitSettings(), model=model_named(model).name)


def _span(name: str, value: str | timedelta | None) -> timedelta | None:
    if value is None or isinstance(value, timedelta):
        return value
    return span_of(name, str(value))


def _grouped(stream: Iterable[Chain], size: int) -> Iterator[list[Chain]]:
    source = iter(stream)
    while group := list(islice(source, size)):
        yield group


def _fitted(
    model: Model, settings: FitSettings, universe: Universe, enough: Bools, warm: Floats
) -> Iterator[tuple[Batch, SmileFits]]:
    for batch in batches(universe, np.flatnonzero(enough)):
        padding = batch.k.shape[1] - len(batch.lanes)
        lanes = np.append(batch.lanes, np.full(padding, batch.lanes[0]))
        yield batch, fit_smiles(model, settings.loss, settings.tolerances, batch, warm[:, lanes])


def _warm_starts(
    model: Model, sliced: Sequence[Slices], previous: Sequence[Surface | None]
) -> Floats:
    """Coordinates of the last surface's slice at each expiry, nan where there is none."""
    starts = []
    for slices, surface in zip(sliced, previous, strict=True):
        known: dict[int, tuple[float, ...]] = {}
        if surface is not None and surface.model == model.name:
            known = {int(e.expiry.astype(np.int64)): e.parameters for e in surface.expiries}
        none = (np.nan,) * len(model.parameter_names)
        starts += [known.get(int(m), none) for m in slices.expiry.astype(np.int64)]
    natural = np.array(starts).reshape(-1, len(model.parameter_names)).T
    with np.errstate(invalid="ignore", divide="ignore"):
        chart: Floats = model.to_chart(natural)
    return chart


def _model_vol(model: Model, universe: Universe, parameters: Floats) -> Floats:
    """The fitted vol at every row that belongs to a fitted slice, nan elsewhere."""
    columns = np.concatenate([parameters, np.full((len(parameters), 1), np.nan)], axis=1)
    years = np.append(universe.years, np.nan)[universe.slice_index]
    w = model.total_variance(columns[:, universe.slice_index], universe.k, years)
    with np.errstate(invalid="ignore"):
        vol: Floats = np.sqrt(w / years)
    return vol
