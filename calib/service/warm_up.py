"""Compiling ahead, so that the first quotes of a day are fitted as fast as all others.

A shape takes 1.7 s of one core where an earlier run has kept what it compiled
(`calib.service.compilation`), nearly all of it tracing, and about 15 s where none has; what all
shapes share takes 2 s and 6 s. (Six shapes of SVI on a busy machine of two cores: 12 s and 102 s
of processor time; SABR's take up to twice as long.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np

from calib.conventions import ExpiryCalendar
from calib.quotes.chain import Chain
from calib.quotes.labels import Labels
from calib.quotes.table import validated
from calib.service.fit_thread import FitJob, Fitter, fit_batch
from calib.states import ModelName

STRIPS = (2, 4)
"""Least and most strips of sixteen quotes an expiry: those of thirty to sixty strikes."""

_START = np.datetime64("2026-01-05T08:00:00", "us")
_SECOND = np.timedelta64(1_000_000, "us")
_WEEK = np.timedelta64(7 * 86_400_000_000, "us")


class Shape(NamedTuple):
    """What is compiled together: a model with the numbers of expiries and of strips that fits are
    padded to, see `calib.fitting.surface_batches`."""

    model: ModelName
    expiries: int
    strips: int


def usual_shapes(models: Sequence[ModelName], expiries: Sequence[int]) -> list[Shape]:
    """The shapes that live chains of these models and so many expiries come in."""
    from calib.fitting.surface_batches import EXPIRY_BUCKETS, STRIP_BUCKETS, bucket

    sizes = dict.fromkeys(
        (bucket(count, EXPIRY_BUCKETS), strips)
        for count in expiries
        for least, most in [[bucket(count * each, STRIP_BUCKETS) for each in STRIPS]]
        for strips in STRIP_BUCKETS
        if least <= strips <= most
    )
    return [Shape(model, *size) for model, size in product(models, sizes)]


def preparations(
    models: Sequence[ModelName], expiries: Sequence[int], fitter: Fitter = fit_batch
) -> list[Callable[[], None]]:
    """All that compiles what a server of these models runs, in parts of a few seconds at most,
    or of a quarter of a minute where nothing is kept from an earlier run."""
    shapes = [partial(warm_up, shape, fitter) for shape in usual_shapes(models, expiries)]
    return [_compile_vols, _compile_certificates, *shapes]


def warm_up(shape: Shape, fitter: Fitter = fit_batch) -> None:
    """Fit a chain of one shape as the first of its underlying, and a later one that remembers."""
    previous = None
    for seconds in (0, 1):
        chain = warm_up_chain(shape, seconds)
        job = FitJob(chain, shape.model, ExpiryCalendar.SAME_ASSET, previous)
        (fit,) = fitter([job])
        previous = fit.surface


def warm_up_chain(shape: Shape, seconds: int = 0) -> Chain:
    """Out-of-the-money options quoted in vol, from a parabola, that lie in just these strips;
    the same ones some seconds later."""
    from calib.fitting.surface_quotes import STRIP

    quote_time = _START + seconds * _SECOND
    quotes = STRIP * np.diff(np.arange(shape.expiries + 1) * shape.strips // shape.expiries)
    rows = int(quotes.sum())
    k = np.concatenate([np.linspace(-0.25, 0.25, count) for count in quotes])
    vol = 0.6 - 0.1 * k + 0.4 * k * k
    weeks = np.repeat(np.arange(1, shape.expiries + 1), quotes)
    table = validated(
        quote_time=np.full(rows, quote_time),
        venue=Labels.constant("warm-up", rows),
        underlying=Labels.constant("warm-up", rows),
        expiry=_START + weeks * _WEEK,
        strike=np.exp(k),
        right=Labels((k < 0.0).astype(np.int32), ("C", "P")),
        unit=Labels.constant("vol", rows),
        bid=0.98 * vol,
        ask=1.02 * vol,
        forward=np.ones(rows),
    )
    return Chain("warm-up", quote_time, table)


def _compile_vols() -> None:
    """Inversion in every length that chains are cut into."""
    from calib.market.batches import BUCKETS
    from calib.market.black import implied_vol

    for length in BUCKETS:
        implied_vol(np.full(length, 0.1), 1.0, 1.0, 1.0, 1.0)


def _compile_certificates() -> None:
    from calib.arbitrage.surfaces import prepare

    prepare()
