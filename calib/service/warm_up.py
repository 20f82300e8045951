"""Compiling ahead, so that the first quotes of a day are fitted as fast as all others.

A shape takes 1.7 s of one core where an earlier run has kept what it compiled
(`calib.service.compilation`), nearly all of it tracing, and about 15 s where none has; what all
shapes share takes 2 s and 6 s. (Six shapes of SVI on a busy machine of two cores: 12 s and 102 s
of processor time; SABR's take up to twice as long.)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from itertools import product
from math import ceil
from typing import NamedTuple

import numpy as np

from calib.conventions import ExpiryCalendar
from calib.quotes.chain import Chain
from calib.quotes.labels import Labels
from calib.quotes.table import validated
from calib.service.fit_thread import FitJob, Fitter, fit_batch
from calib.service.settings import ServiceSettings
from calib.states import ModelName
from calib.surface.surface import Surface

STRIPS = (2, 4)
"""Least and most strips of sixteen quotes an expiry: those of thirty to sixty strikes."""
USUAL_EXPIRIES = (12, 16)
_ROOM = 1.15
"""By how much more quotes a chain may have than the last one of its underlying had."""

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


def known_shapes(surfaces: Iterable[Surface], models: Collection[ModelName] = ()) -> list[Shape]:
    """The shapes of the chains that these surfaces were fitted to, and of such with a few quotes
    more, in their own models and in ``models`` besides."""
    from calib.fitting.surface_batches import EXPIRY_BUCKETS, STRIP_BUCKETS, bucket
    from calib.fitting.surface_quotes import STRIP

    found: dict[Shape, None] = {}
    for surface in surfaces:
        strips = sum(-(-one.diagnostics.quotes_used // STRIP) for one in surface.expiries)
        for count in (strips, ceil(_ROOM * strips)):
            size = bucket(len(surface.expiries), EXPIRY_BUCKETS), bucket(count, STRIP_BUCKETS)
            found |= {Shape(model, *size): None for model in (surface.model, *models)}
    return list(found)


def wanted_shapes(settings: ServiceSettings, known: Iterable[Surface]) -> list[Shape]:
    """The shapes that a server compiles ahead which begins with these surfaces."""
    # A comparison must not keep the first quotes of a day waiting.
    compared = [] if settings.compare_every is None else list(ModelName)
    if settings.warm_up_expiries is None:
        going_on = [one for one in known if one.model is settings.model_of(one.underlying)]
        if shapes := known_shapes(going_on, compared):
            return shapes
    models = {settings.model, *settings.models.values(), *compared}
    return usual_shapes(sorted(models), settings.warm_up_expiries or USUAL_EXPIRIES)


def preparations(shapes: Iterable[Shape], fitter: Fitter = fit_batch) -> list[Callable[[], None]]:
    """All that compiles what fits of these shapes run, in parts of a few seconds at most, or of a
    quarter of a minute where nothing is kept from an earlier run."""
    each = [partial(warm_up, shape, fitter) for shape in shapes]
    return [_compile_vols, _compile_certificates, *each]


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
