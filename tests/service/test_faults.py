"""Fault drills on a running server: which state, after how long, what the quoter sees, and how it
comes back.

Limits are the defaults but where a drill says so. A chain comes each second of the market's own
time, and every fault is told with the first chain that shows it. Whatever the quoter looks at is
certified and judged (`Seat`).
"""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from calib.client import SurfaceUpdate
from calib.conventions import Floats
from calib.modelrisk.breakers import BreakerLevel
from calib.states import SurfaceState
from calib.surface.hold import Hold
from tests.service.conftest import Start
from tests.service.faults import (
    Breakable,
    Fault,
    Seat,
    crossed,
    fat_finger,
    findings,
    half_gone,
    levels,
    shifted,
    sound,
    wrong_forward,
)

NORMAL, WIDENED, HELD, HALTED = BreakerLevel
DEFAULTS: dict[str, object] = {}


async def seated(start: Start, fitter: Breakable | None = None, **settings: object) -> Seat:
    """A quoter who has seen a few good chains."""
    chosen = {"model_risk": DEFAULTS} | settings
    server, client = await start(fitter=fitter or Breakable(), **chosen)
    seat = Seat(server, client)
    for _ in range(3):
        assert levels(await seat.send()) == ["NORMAL"] * 5
    return seat


def half_spreads(update: SurfaceUpdate) -> list[float]:
    assert update.risk is not None
    return [one.min_half_spread for one in update.risk.expiries]


def vols(update: SurfaceUpdate, number: int) -> Floats:
    """Of one expiry, as functions of its own log-moneyness."""
    one, k = update.surface.expiries[number], np.linspace(-0.3, 0.3, 7)
    return np.asarray(np.sqrt(update.surface.total_variance(k, one.expiry) / one.years))


def held_back(seat: Seat, good: SurfaceUpdate, seen: SurfaceUpdate) -> bool:
    """Whether the quoter still has the last good surface, and is told its age."""
    assert seen.quote_time == good.quote_time
    assert seat.time > seen.quote_time
    return seen.surface == good.surface


@pytest.mark.parametrize(
    ("fault", "cause", "finding"),
    [
        (shifted(0.05), "expiries held", "level jumped"),
        (wrong_forward, "forward jump", "forward jumped"),
        (crossed, "expiries held", "crossed quotes"),
    ],
)
async def test_a_market_that_cannot_be_is_held_at_once_and_let_go_by_and_by(
    start: Start, fault: Fault, cause: str, finding: str
) -> None:
    seat = await seated(start)
    good = seat.seen[-1]
    for _ in range(3):
        seen = await seat.send(fault)
        assert levels(seen) == ["HELD"] * 5
        assert held_back(seat, good, seen)
        assert seen.risk is not None
        assert seen.risk.cause.startswith(cause)
        assert finding in findings(seen)
        assert all(
            wide > 1.4 * was
            for wide, was in zip(half_spreads(seen), half_spreads(good), strict=True)
        )
    # Good chains serve the probations: the expiries' first, then that of the underlying.
    chains = await seat.until(WIDENED)
    assert 30 < chains < 75
    assert seat.seen[-1].quote_time == seat.time
    assert seat.seen[-1].revision == good.revision + 1
    assert {one.level for one in seat.seen[-chains - 1 : -1]} == {HELD}
    assert await seat.until(NORMAL) < 75


async def test_a_slip_of_the_keyboard_holds_its_expiry_alone(start: Start) -> None:
    seat = await seated(start)
    good = seat.seen[-1]
    seen = await seat.send(fat_finger)
    assert levels(seen)[1] == "HELD"
    assert "HELD" not in [*levels(seen)[:1], *levels(seen)[2:]]
    assert findings(seen) >= {"outlier"}
    assert seen.level is NORMAL
    assert seen.revision > good.revision
    assert half_spreads(seen)[1] > 5.0 * half_spreads(good)[1]
    for _ in range(70):
        stands = "HELD" in levels(seen)
        holds = [one.hold for one in seen.surface.expiries]
        assert [hold is not None for hold in holds] == [False, stands, False, False, False]
        if stands:
            # It is that of before the slip, with its age, amid the newest of the others.
            assert holds[1] == Hold(good.quote_time, good.surface.epoch, good.revision, 1.0)
            assert vols(seen, 1) == pytest.approx(vols(good, 1), rel=1e-12)
            assert seen.quote_time == seat.time > good.quote_time
        seen = await seat.send()
        if set(levels(seen)) == {"NORMAL"}:
            break
    assert set(levels(seen)) == {"NORMAL"}
    assert all(one.hold is None for one in seen.surface.expiries)
    assert vols(seen, 1) != pytest.approx(vols(good, 1), rel=1e-12)


async def test_half_the_strikes_gone_widens_every_expiry(start: Start) -> None:
    seat = await seated(start)
    good = seat.seen[-1]
    seen = await seat.send(half_gone)
    assert levels(seen) == ["WIDENED"] * 5
    assert findings(seen) == {"few quotes"}
    assert seen.quote_time == seat.time
    assert all(
        wide > 1.4 * was for wide, was in zip(half_spreads(seen), half_spreads(good), strict=True)
    )
    chains = 0
    while set(levels(seen)) != {"NORMAL"}:
        seen = await seat.send()
        chains += 1
    assert 28 < chains < 36


async def test_fits_that_fail_hold_and_five_in_a_row_halt(start: Start) -> None:
    fitter = Breakable()
    seat = await seated(start, fitter)
    good = seat.seen[-1]
    fitter.broken = True
    for level in (HELD, HELD, HELD, HELD, HALTED):
        seen = await seat.send()
        assert seen.level is level
        assert held_back(seat, good, seen)
        assert seen.risk is not None
        assert {one.cause.partition(" is ")[0] for one in seen.risk.expiries} == {"fit failure"}
    fitter.broken = False
    found = [(await seat.send()).level for _ in range(140)]
    assert found == sorted(found, reverse=True)
    assert found[0] is HALTED
    assert found[-1] is NORMAL
    published = [one.revision > good.revision for one in seat.seen[-140:]]
    assert published == [level < HELD for level in found]


async def test_a_silent_feed_widens_holds_and_halts_and_its_return_serves_probations(
    start: Start,
) -> None:
    stale = {"breakers": {"limits": {"stale_feed": {"widened": 1.0, "held": 1.5, "halted": 2.0}}}}
    seat = await seated(start, model_risk=stale, quote_max_age="1500ms")
    good = seat.seen[-1]
    told = []
    async with asyncio.timeout(30.0):
        async for update in seat.client.watch(["BTC"], heartbeat_seconds=0.1):
            assert update.surface == good.surface
            told.append((update.reported_state, update.level))
            if update.level is HALTED:
                break
    assert [level for _, level in told] == sorted(level for _, level in told)
    assert {WIDENED, HELD, HALTED} <= {level for _, level in told}
    assert told[-1][0] is SurfaceState.STALE
    halted = await seat.client.get("BTC")
    assert halted.risk is not None
    assert halted.risk.cause.startswith("stale feed")
    assert halted.age_seconds > 0.0
    seat.seconds += 10.0
    seen = await seat.send(sound)
    assert seen.level is HALTED
    assert held_back(seat, good, seen)
    assert 60 < await seat.until(WIDENED) < 75
    assert seat.seen[-1].reported_state is SurfaceState.LIVE
