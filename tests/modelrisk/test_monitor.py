"""From fits to trust: still markets stay NORMAL, faults are tripped on, named, and outlived."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from itertools import pairwise
from math import isnan

import numpy as np
import pytest

from calib.conventions import Floats
from calib.fitting.fit_value import Fit
from calib.market.slices import Slices
from calib.modelrisk.breakers import BreakerLevel, BreakerSettings, Transition
from calib.modelrisk.comparison import compare
from calib.modelrisk.findings import Cause
from calib.modelrisk.monitor import (
    Assessment,
    MonitorSettings,
    MonitorState,
    assess,
    force_level,
    release_level,
)
from calib.modelrisk.prudence import CONFIDENCE_POINT
from calib.states import FitState
from calib.surface.surface import Surface
from tests.fitting.surface_samples import Smile, chain_of, true_smiles, true_svi
from tests.modelrisk.samples import earlier, fit_of

SETTINGS = MonitorSettings(quote_max_age_seconds=3_600.0)  # the sample market has one time
NOW = np.datetime64("2026-03-02T12:00:00", "us")
SECOND = np.timedelta64(1_000_000, "us")
H = 0.002
COVARIANCE = np.diag([1e-9, 1e-7, 1e-5, 1e-7, 1e-7])


def market(
    shift: float = 0.0,
    drop: int = 1,
    smiles: list[Smile] | None = None,
    states: Sequence[FitState] | None = None,
) -> Fit:
    """A fit of the sample market, its vols and smiles up by ``shift``, each ``drop``-th quote."""
    rows = [
        one._replace(k=one.k[::drop], bid=one.bid[::drop] + shift, ask=one.ask[::drop] + shift)
        for one in smiles or true_smiles(quotes=24, half_spread=H)
    ]
    return fit_of(chain_of(rows), shifted(shift), covariance=COVARIANCE, states=states)


def shifted(by: float) -> Floats:
    """The sample smiles with vols at the money up by ``by``."""
    years = np.array([7.0, 14.0, 30.0, 75.0, 180.0]) / 365.0
    truth = true_svi().copy()
    a, b, rho, m, sigma = truth
    vol = np.sqrt((a + b * (np.sqrt(m * m + sigma * sigma) - rho * m)) / years)
    scale = ((vol + by) / vol) ** 2
    return np.stack([scale * a, scale * b, rho, m, sigma])


def last(seconds: float = 10.0) -> Surface:
    return earlier(market().surface, seconds / 3600.0)


def run(
    fits: Sequence[Fit | None], state: MonitorState | None = None, *, start: int = 0
) -> tuple[MonitorState, list[Assessment]]:
    """The monitor over fits ten seconds apart; None is a fit that failed."""
    state = state or MonitorState.start("U")
    found = []
    for number, fit in enumerate(fits, start=start):
        surface = market().surface if fit is None else fit.surface
        state, one = assess(
            state, fit, surface, last(), NOW + 10 * number * SECOND, SETTINGS, failed=fit is None
        )
        found.append(one)
    return state, found


def trips(assessed: list[Assessment]) -> list[Transition]:
    return [t for one in assessed for t in one.transitions if t.after > t.before]


def test_a_market_that_stands_still_is_normal() -> None:
    _, found = run([market()] * 4)
    assert trips(found) == []
    for one in found:
        assert one.level is BreakerLevel.NORMAL
        assert {e.level for e in one.expiries} == {BreakerLevel.NORMAL}
        assert one.findings == ()
        assert one.alarms == ()
        assert len(one.innovations) == 5
        assert len(one.points) == 2 * 2 * 3  # charts, series, tenor buckets


def test_the_least_half_spread_is_that_of_the_error_bar() -> None:
    _, (one,) = run([market()])
    surface = market().surface
    for expiry, slice_ in zip(one.expiries, surface.expiries, strict=True):
        error = surface.vol_error(slice_.forward, slice_.years)
        assert expiry.multiplier == 1.0
        assert expiry.min_half_spread == pytest.approx(CONFIDENCE_POINT * error)


def test_a_jump_of_all_vols_widens_and_holds_and_is_named() -> None:
    _, found = run([market(), market(shift=0.05)])
    jumped = found[1]
    assert {e.level for e in jumped.expiries} == {BreakerLevel.HELD}
    assert {e.findings[0].cause for e in jumped.expiries} == {Cause.LEVEL_JUMPED}
    assert jumped.level is BreakerLevel.HELD  # all expiries are
    assert {a.metric for a in jumped.alarms} == {"level"}
    assert all(e.multiplier > 2.0 for e in jumped.expiries)
    assert all(e.min_half_spread > found[0].expiries[0].min_half_spread for e in jumped.expiries)


def test_half_the_strikes_gone_widens() -> None:
    _, found = run([market(), market(drop=2)])
    assert {e.level for e in found[1].expiries} == {BreakerLevel.WIDENED}
    assert {t.trigger.value for t in trips(found) if t.trigger} == {"quote starvation"}
    assert {e.findings[0].cause for e in found[1].expiries} == {Cause.FEW_QUOTES}


def test_an_expiry_without_quotes_is_held() -> None:
    fewer = market(smiles=true_smiles(quotes=24, half_spread=H)[1:])
    # The smiles of the remaining four are their own.
    fewer = fit_of(fewer.slices, true_svi()[:, 1:], covariance=COVARIANCE)
    _, found = run([market(), fewer])
    assert [e.level.name for e in found[1].expiries] == ["HELD"] + ["NORMAL"] * 4
    assert isnan(found[1].expiries[0].min_half_spread)


def test_an_expiry_that_never_had_quotes_misses_none() -> None:
    # Listed, but nobody quotes it: three of five, which would hold the underlying as well.
    smiles = [
        one if i > 2 else one._replace(bid=one.bid * np.nan, ask=one.ask * np.nan)
        for i, one in enumerate(true_smiles(quotes=24, half_spread=H))
    ]
    states = [FitState.TOO_FEW_QUOTES] * 3 + [FitState.CONVERGED] * 2
    state, found = run([market(smiles=smiles, states=states)] * 4)
    assert trips(found) == []
    assert all(isnan(usual.quotes) for usual in list(state.usual.values())[:3])
    state, found = run([market()], state, start=4)
    assert [one.quotes for one in state.usual.values()] == [24.0] * 5
    # Of the two that are quoted, one that goes is half of them.
    rest = fit_of(
        market(smiles=smiles, states=states).slices,
        true_svi(),
        covariance=COVARIANCE,
        states=[FitState.TOO_FEW_QUOTES] * 4 + [FitState.CONVERGED],
    )
    _, found = run([market(smiles=smiles, states=states), rest])
    own = [e.breaker.level.name for e in found[1].expiries]
    assert own == ["NORMAL"] * 3 + ["HELD", "NORMAL"]
    assert found[1].level is BreakerLevel.HELD


def test_what_is_missing_does_not_become_usual_by_lasting() -> None:
    _, found = run([market()] + [market(drop=2)] * 100)
    assert {e.level for one in found[1:] for e in one.expiries} == {BreakerLevel.WIDENED}


def test_an_expiry_gets_used_to_things_by_the_clock() -> None:
    def after(fits: int) -> list[float]:
        state, hours = MonitorState.start("U"), 6.0
        for number in range(fits + 1):
            fit = market(drop=1 if number == 0 else 3)
            quote_time = NOW + np.timedelta64(round(3600 * hours * number / fits), "s")
            settings = replace(SETTINGS, breakers=BreakerSettings(limits={}))
            fit = replace(fit, slices=at_time(fit.slices, quote_time))
            state, _ = assess(state, fit, fit.surface, None, quote_time, settings)
        return [usual.quotes for usual in state.usual.values()]

    assert after(1) == pytest.approx([24.0 - 0.1 * 16.0] * 5)
    assert after(36) == pytest.approx(after(1))


def at_time(slices: Slices, quote_time: np.datetime64) -> Slices:
    return replace(slices, chain=replace(slices.chain, quote_time=quote_time))


def test_a_failed_fit_holds_and_five_halt_and_good_ones_bring_it_back() -> None:
    state, found = run([market(), None, None, None, None, None])
    assert [one.level.name for one in found] == ["NORMAL"] + ["HELD"] * 4 + ["HALTED"]
    assert {e.level for e in found[-1].expiries} == {BreakerLevel.HALTED}
    _, back = run([market()] * 16, state, start=6)
    levels = [one.level for one in back]
    assert levels[0] is BreakerLevel.HALTED
    assert levels[-1] is BreakerLevel.NORMAL
    assert all(a - b in (0, 1) for a, b in pairwise(levels))
    assert back[-1].expiries[0].level is BreakerLevel.NORMAL


def test_one_expiry_that_fails_is_held_alone() -> None:
    states = [FitState.CONVERGED] * 4 + [FitState.NON_FINITE]
    _, found = run([market(), market(states=states)])
    assert [e.level.name for e in found[1].expiries] == ["NORMAL"] * 4 + ["HELD"]
    assert found[1].level is BreakerLevel.NORMAL
    assert found[1].expiries[4].findings[0].cause is Cause.FIT_FAILED


def test_a_feed_that_falls_silent_widens_holds_and_halts() -> None:
    state, _ = run([market()])
    settings = MonitorSettings(quote_max_age_seconds=60.0)
    levels = []
    for seconds in (30, 61, 121, 361):
        now = NOW + seconds * SECOND
        state, one = assess(state, None, market().surface, None, now, settings)
        levels.append(one.level.name)
        assert one.metrics is None
        assert len(one.expiries) == 5
    assert levels == ["NORMAL", "WIDENED", "HELD", "HALTED"]


def test_models_that_disagree_widen_until_they_are_compared_again() -> None:
    fit, other = market(), market(shift=0.015)
    apart = compare([fit.surface, other.surface])
    state, one = assess(
        MonitorState.start("U"), fit, fit.surface, last(), NOW, SETTINGS, compared=apart
    )
    assert {e.level for e in one.expiries} == {BreakerLevel.WIDENED}
    assert {e.findings[0].cause for e in one.expiries} == {Cause.MODELS_DISAGREE}
    state, later = run([fit] * 10, state, start=1)
    assert {e.level for e in later[-1].expiries} == {BreakerLevel.WIDENED}
    same = compare([fit.surface, fit.surface])
    for number in range(11, 17):
        now = NOW + 10 * number * SECOND
        state, one = assess(state, fit, fit.surface, last(), now, SETTINGS, compared=same)
    assert {e.level for e in one.expiries} == {BreakerLevel.NORMAL}


def test_an_operator_halts_one_expiry_and_lets_it_go() -> None:
    state, _ = run([market()])
    expiry = market().surface.expiries[1].expiry
    state, (change,) = force_level(
        state, BreakerLevel.HALTED, expiry=expiry, actor="ann", reason="event", now=NOW
    )
    assert (change.expiry, change.after, change.actor) == (expiry, BreakerLevel.HALTED, "ann")
    state, found = run([market()] * 3, state, start=1)
    assert [e.level.name for e in found[-1].expiries] == ["NORMAL", "HALTED"] + ["NORMAL"] * 3
    state, (change,) = release_level(state, expiry=expiry, actor="ann", reason="over", now=NOW)
    assert change.after is BreakerLevel.NORMAL
    state, (change,) = force_level(state, BreakerLevel.HELD, actor="bob", reason="desk", now=NOW)
    assert change.expiry is None
    _, found = run([market()], state, start=4)
    assert {e.level for e in found[0].expiries} == {BreakerLevel.HELD}


def test_expired_options_leave_the_monitor() -> None:
    state, _ = run([market()])
    after = market().surface.expiries[0].expiry + SECOND
    state, one = assess(state, None, None, None, after, SETTINGS)
    assert len(one.expiries) == 4
    assert len(state.breakers) == len(state.usual) == 4


def test_a_fit_of_the_same_quotes_is_no_innovation() -> None:
    fit = market()
    _, one = assess(MonitorState.start("U"), fit, fit.surface, fit.surface, NOW, SETTINGS)
    assert one.innovations == ()
    assert one.points == ()


def test_a_step_changes_nothing_that_was_handed_in() -> None:
    state, _ = run([market()] * 2)
    before = replace(state), dict(state.charts), dict(state.breakers), dict(state.usual)
    run([market(shift=0.05), None], state, start=2)
    assert (state, dict(state.charts), dict(state.breakers), dict(state.usual)) == before


def test_everything_that_is_assessed_can_be_stored() -> None:
    _, found = run([market(), market(shift=0.05)])
    one = found[1]
    for rows in (
        one.innovations,
        one.points,
        one.alarms,
        one.expiries,
        one.transitions,
        one.findings,
    ):
        assert rows
        assert is_dataclass(rows[0])
        assert fields(rows[0])
        for row in rows:
            assert all(
                type(v) in (float, int, str, bool, type(None)) for v in row.values().values()
            )
