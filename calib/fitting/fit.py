"""The door of the fitter: chains in, fits with surface, residuals and diagnostics out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import islice

import numpy as np
from numpy.typing import ArrayLike

from calib.conventions import Floats, span_of
from calib.errors import InvalidRequest
from calib.fitting.assembly import quoted_range, reasons_after_fit, surface_of
from calib.fitting.diagnostics import diagnose
from calib.fitting.fit_value import Fit
from calib.fitting.models import fitted
from calib.fitting.settings import DEFAULT, FitSettings
from calib.fitting.uncertainty import uncertainty
from calib.fitting.unchanged import is_unchanged, unchanged
from calib.fitting.universe import Universe, row_weights, universe_of
from calib.market.slices import Slices
from calib.market.slicing import slices_of
from calib.models.model import Model, model_named
from calib.quotes.chain import Chain, chains
from calib.quotes.fingerprint import fingerprint
from calib.quotes.table import QuoteTable
from calib.surface.surface import Surface


def fit(
    quotes: QuoteTable,
    model: str = "svi",
    *,
    previous: Surface | None = None,
    weights: ArrayLike | None = None,
    settings: FitSettings | None = None,
) -> Fit:
    """Fit one underlying at one time.

    ``previous``: the last surface of this underlying, fitted under the same settings, to start from
    and to remember (see `calib.fitting.memory.Memory`); an unchanged input is no refit.
    ``weights``: how often each row of the table counts, from 0 (not at all), 1 for all where not
    given.
    Raises InvalidRequest where the table holds no chain or more than one, and for weights that are
    not one number ≥ 0 a row.
    """
    found = list(islice(chains(quotes), 3))
    if len(found) != 1:
        what = "no row has an underlying and a quote time" if not found else "more than one chain"
        raise InvalidRequest(
            f"fit takes one underlying at one time, but {what} "
            f"(underlyings {', '.join(quotes.underlyings) or 'none'}); see fit_many"
        )
    chosen, counted = _settings(model, settings), _weights(weights, quotes)
    return fit_chains(found, [previous], chosen, _of_rows(counted, found))[0]


def fit_many(
    quotes: QuoteTable,
    model: str = "svi",
    *,
    every: str | timedelta | None = None,
    max_age: str | timedelta | None = None,
    weights: ArrayLike | None = None,
    settings: FitSettings | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Fit]:
    """Fit every chain in the table, a fit per chain, by underlying within quote time.

    ``every`` and ``max_age`` ("1h", "10min" or a timedelta) build as-of chains; without them rows
    of one exact quote time make a chain. Every chain is fitted for itself, so that results do not
    depend on what else is in the table. ``weights`` as in `fit`. ``progress`` is called with the
    number of chains done.
    """
    chosen, counted = _settings(model, settings), _weights(weights, quotes)
    stream = chains(quotes, every=_span("every", every), max_age=_span("max_age", max_age))
    fits: list[Fit] = []
    for group in fit_stream(stream, chosen, counted):
        fits += group
        if progress is not None:
            progress(len(group))
    return fits


def fit_stream(
    stream: Iterable[Chain],
    settings: FitSettings = DEFAULT,
    weights: Floats | None = None,
    *,
    group: int = 32,
    workers: int = 2,
) -> Iterator[list[Fit]]:
    """Fits of a stream of chains, in its order, ``group`` by group on ``workers`` threads.

    At most a group a worker and one more are in memory, however long the stream: compiled code
    runs without the interpreter's lock, so that two threads keep two cores busy.
    """
    groups = _grouped(stream, group)
    with ThreadPoolExecutor(workers, thread_name_prefix="calib-bulk") as pool:
        waiting: deque[Future[list[Fit]]] = deque()
        for chains_ in groups:
            rows = _of_rows(weights, chains_)
            waiting.append(pool.submit(fit_chains, chains_, (), settings, rows))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def fit_chains(
    group: Sequence[Chain],
    previous: Sequence[Surface | None] = (),
    settings: FitSettings = DEFAULT,
    weights: Sequence[Floats | None] = (),
) -> list[Fit]:
    """Fit chains of any underlyings and times as one batch; the live engine's way in as well.

    ``previous``: for each chain the last surface, or None; ``weights``: for each chain of its
    rows, or None for ones; both empty for none at all.
    """
    if not group:
        return []
    model = model_named(settings.model, beta=settings.beta)
    sliced = [
        slices_of(chain, settings.calendar, settings.clocks.get(chain.underlying))
        for chain in group
    ]
    last = list(previous) or [None] * len(group)
    counted = list(weights) or [None] * len(group)
    hashes = [fingerprint(chain, weight) for chain, weight in zip(group, counted, strict=True)]
    still = [
        is_unchanged(surface, input_hash, settings)
        for surface, input_hash in zip(last, hashes, strict=True)
    ]
    moving = [i for i, same in enumerate(still) if not same]
    fits = iter(
        _fresh(
            model,
            settings,
            [sliced[i] for i in moving],
            [last[i] for i in moving],
            [counted[i] for i in moving],
            [hashes[i] for i in moving],
        )
        if moving
        else ()
    )
    return [
        unchanged(slices, surface, settings) if same and surface is not None else next(fits)
        for slices, surface, same in zip(sliced, last, still, strict=True)
    ]


def _fresh(
    model: Model,
    settings: FitSettings,
    sliced: Sequence[Slices],
    last: Sequence[Surface | None],
    weights: Sequence[Floats | None],
    hashes: Sequence[str],
) -> list[Fit]:
    weight = row_weights(sliced, weights)
    universe = universe_of(sliced, weight)
    outcome = fitted(model, settings, sliced, universe, last, weights)
    model_vol = _model_vol(model, universe, outcome.parameters)
    found = uncertainty(
        settings.model,
        universe,
        outcome,
        model_vol,
        settings.error_reach,
        settings.noise_scale,
        weight,
    )
    outcome = outcome._replace(**found._asdict())
    diagnostics = diagnose(universe, model_vol, outcome, model.coordinates)
    ranges = quoted_range(universe)
    fits = []
    for i, slices in enumerate(sliced):
        first, last_ = universe.slice_bounds[i : i + 2]
        own = diagnostics[first:last_]
        states = tuple(one.state for one in own)
        # Given at once, not by `replace` afterwards: making a surface checks all of it.
        surface = surface_of(slices, settings.model, i, int(first), outcome, own, ranges, hashes[i])
        fits.append(
            Fit(
                surface=surface,
                slices=slices,
                states=states,
                model_vol=model_vol[universe.row_bounds[i] : universe.row_bounds[i + 1]],
                reason=reasons_after_fit(slices, states),
                slice_diagnostics=own,
                settings=settings,
                previous=last[i],
                weights=weights[i],
            )
        )
    return fits


def _settings(model: str, settings: FitSettings | None) -> FitSettings:
    return replace(settings or FitSettings(), model=model_named(model).name)


def _weights(weights: ArrayLike | None, quotes: QuoteTable) -> Floats | None:
    if weights is None:
        return None
    column = np.asarray(weights, np.float64)
    if column.shape != (len(quotes),):
        raise InvalidRequest(
            f"weights are one number a row: {len(quotes)} of them, not shape {column.shape}"
        )
    bad = np.flatnonzero(~((column >= 0.0) & np.isfinite(column)))
    if len(bad):
        raise InvalidRequest(
            f"weights are finite and at least 0; that of row {bad[0]} is {column[bad[0]]}"
        )
    return column


def _of_rows(weights: Floats | None, group: Sequence[Chain]) -> list[Floats | None]:
    """The weights of each chain's rows."""
    return [None if weights is None else weights[chain.quotes.row] for chain in group]


def _span(name: str, value: str | timedelta | None) -> timedelta | None:
    if value is None or isinstance(value, timedelta):
        return value
    return span_of(name, str(value))


def _grouped(stream: Iterable[Chain], size: int) -> Iterator[list[Chain]]:
    source = iter(stream)
    while group := list(islice(source, size)):
        yield group


def _model_vol(model: Model, universe: Universe, parameters: Floats) -> Floats:
    """The fitted vol at every row that belongs to a fitted slice, nan elsewhere."""
    columns = np.concatenate([parameters, np.full((len(parameters), 1), np.nan)], axis=1)
    years = np.append(universe.years, np.nan)[universe.slice_index]
    w = model.total_variance(columns[:, universe.slice_index], universe.k, years)
    with np.errstate(invalid="ignore"):
        vol: Floats = np.sqrt(w / years)
    return vol
