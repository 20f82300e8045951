"""Prices on a venue's grid."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.errors import InvalidRequest
from calib.feeds.simulated.ticks import TickSchedule

INVERSE = TickSchedule(((0.0, 0.0001), (0.005, 0.0005)))
LINEAR = TickSchedule(((0.0, 0.05), (3.0, 0.1)))


def on_grid(price: float, schedule: TickSchedule) -> bool:
    """Whether the shortest decimal text of ``price`` is a multiple of the tick at that price."""
    exact = Decimal(repr(price))
    tick = [Decimal(repr(t)) for bound, t in schedule.steps if Decimal(repr(bound)) <= exact][-1]
    return exact % tick == 0


@pytest.mark.parametrize("schedule", [INVERSE, LINEAR])
@given(st.floats(1e-9, 5e4))
def test_bids_go_down_and_asks_up_to_the_next_tick(schedule: TickSchedule, price: float) -> None:
    down = float(schedule.down(np.array([price]))[0])
    up = float(schedule.up(np.array([price]))[0])
    tick = schedule.steps[-1][1] if price >= schedule.steps[-1][0] else schedule.steps[0][1]
    slack = 1e-8 * tick
    assert on_grid(down, schedule)
    assert on_grid(up, schedule)
    assert price - tick - slack <= down <= price + slack
    assert price - slack <= up <= price + tick + slack


@pytest.mark.parametrize("price", [0.0001, 0.0003, 0.0049, 0.005, 0.0055, 0.1435, 2.785])
def test_a_price_on_the_grid_stays(price: float) -> None:
    assert INVERSE.down(np.array([price]))[0] == price
    assert INVERSE.up(np.array([price]))[0] == price


def test_nothing_is_asked_for_nothing_and_nothing_bid_below_zero() -> None:
    prices = np.array([-1.0, 0.0])
    assert list(INVERSE.down(prices)) == [0.0, 0.0]
    assert list(INVERSE.up(prices)) == [0.0001, 0.0001]


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ((), "ascend"),
        (((0.1, 0.1),), "ascend"),
        (((0.0, 0.1), (0.0, 0.2)), "ascend"),
        (((0.0, 0.1), (2.0, 0.5), (1.0, 1.0)), "ascend"),
        (((0.0, 0.0),), "positive"),
        (((0.0, 0.05), (0.12, 0.1)), "both grids"),
    ],
)
def test_grids_that_are_none_are_refused(
    steps: tuple[tuple[float, float], ...], problem: str
) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        TickSchedule(steps)
