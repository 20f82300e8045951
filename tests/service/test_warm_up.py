"""Warm-up meets the shapes that live chains come in, and leaves them nothing to compile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import jax
import numpy as np
import pytest

from calib.conventions import ExpiryCalendar
from calib.fitting.surface_batches import chosen_expiries, surface_batches
from calib.market.slicing import slices_of
from calib.quotes.chain import Chain
from calib.service.fit_thread import FitJob, fit_batch
from calib.service.settings import ServiceSettings
from calib.service.warm_up import (
    Shape,
    known_shapes,
    preparations,
    usual_shapes,
    wanted_shapes,
    warm_up,
    warm_up_chain,
)
from calib.states import ModelName
from tests.benchmarks.universe import chain as made_chain
from tests.service.samples import START, smile_quotes


def size_of(chain: Chain) -> tuple[int, int]:
    """The padded expiries and strips that the chain is fitted in."""
    slices = slices_of(chain)
    (batch,) = surface_batches([slices], chosen_expiries([slices], 1))
    return batch.quotes.years.shape[0], batch.quotes.owner.shape[0]


def later(chain: Chain) -> Chain:
    """The same quotes, a second later."""
    second = np.timedelta64(1, "s")
    table = replace(chain.quotes, quote_time=chain.quotes.quote_time + second)
    return replace(chain, quote_time=chain.quote_time + second, quotes=table)


USUAL = usual_shapes([ModelName.SVI], [8, 12, 16])


@pytest.mark.parametrize("shape", USUAL)
def test_the_chain_of_a_shape_has_that_shape(shape: Shape) -> None:
    assert size_of(warm_up_chain(shape)) == shape[1:]


@pytest.mark.parametrize("expiries", [11, 12, 13, 15])
@pytest.mark.parametrize("strikes", [30, 40, 50, 60])
def test_live_chains_come_in_the_usual_shapes(expiries: int, strikes: int) -> None:
    days = tuple(range(7, 7 * (expiries + 1), 7))
    chain = Chain("BTC", START, smile_quotes(days=days, strikes=strikes))
    shape = Shape(ModelName.SVI, *size_of(chain))
    assert shape in wanted_shapes(ServiceSettings(), [])


@pytest.mark.parametrize(("expiries", "strikes"), [(3, 12), (12, 30)])
def test_a_server_that_goes_on_prepares_for_the_chains_that_it_had(
    expiries: int, strikes: int
) -> None:
    chain = made_chain(0, expiries, strikes)
    (fit,) = fit_batch([FitJob(chain, ModelName.SVI, ExpiryCalendar.SAME_ASSET)])
    shapes = wanted_shapes(ServiceSettings(), [fit.surface])
    assert Shape(ModelName.SVI, *size_of(chain)) in shapes
    assert len(shapes) <= 2
    # But for what it is told to prepare for, and where its model is another one now.
    told = ServiceSettings(warm_up_expiries=(4,))
    assert wanted_shapes(told, [fit.surface]) == usual_shapes([ModelName.SVI], [4])
    other = ServiceSettings(model=ModelName.ESSVI)
    assert wanted_shapes(other, [fit.surface]) == usual_shapes([ModelName.ESSVI], [12, 16])
    every = known_shapes([fit.surface], list(ModelName))
    assert {shape.model for shape in every} == set(ModelName)


def test_each_model_is_warmed_up_in_every_usual_shape() -> None:
    models = [ModelName.SVI, ModelName.SABR]
    shapes = usual_shapes(models, [12, 11])  # padded alike
    assert len(set(shapes)) == len(shapes) == 2 * len(usual_shapes(models[:1], [12]))
    assert len(preparations(shapes)) > len(shapes)  # and what all of them share


def test_after_warming_up_nothing_is_compiled(compiled: Callable[[], list[str]]) -> None:
    first = made_chain(0, 12, 30)  # of prices, which are inverted
    shape = Shape(ModelName.SVI, *size_of(first))
    shared = preparations([])
    for part in shared:
        part()
    warm_up(shape)
    assert shape in USUAL
    before = compiled()
    job = FitJob(first, ModelName.SVI, ExpiryCalendar.SAME_ASSET)
    (cold,) = fit_batch([job])
    (warm,) = fit_batch([replace(job, chain=later(first), previous=cold.surface)])
    # A new expiry among known ones is what a roll brings.
    known = replace(cold.surface, expiries=cold.surface.expiries[:-1])
    (mixed,) = fit_batch([replace(job, chain=later(first), previous=known)])
    assert [len(fit.surface.expiries) for fit in (cold, warm, mixed)] == [12, 12, 12]
    assert compiled() == before


@pytest.fixture
def compiled() -> Iterator[Callable[[], list[str]]]:
    """The names of all that jax has compiled, or loaded compiled, since the test began."""
    names: list[str] = []

    def heard(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(str(kwargs.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(heard)
    yield lambda: list(names)
    jax.monitoring.unregister_event_duration_listener(heard)
