from dataclasses import replace
from math import isnan, log, nan, sqrt

import numpy as np
import pandas as pd
import pytest

from calib import sample_quotes
from calib.market.slicing import slices_of
from calib.modelrisk.delta_buckets import DELTA_BUCKETS
from calib.modelrisk.forward_check import ForwardCheck, forward_checks
from calib.modelrisk.measurement import measure
from calib.modelrisk.metrics import SliceMetrics
from calib.modelrisk.parameter_moves import bound_distance, condition_number, parameter_moves
from calib.quotes.chain import chains
from calib.quotes.labels import Labels
from calib.quotes.reading import quotes_from_frame
from calib.quotes.reasons import Reason
from calib.quotes.table import joined
from calib.states import FitState, ModelName
from calib.surface.transport import with_levels
from tests.fitting.surface_samples import QUOTE_TIME, Smile, chain_of, true_smiles, true_svi
from tests.modelrisk.samples import fit_of

SPREAD = 0.002


def shifted(smiles: list[Smile], number: int, by: float) -> list[Smile]:
    """The smiles with the vols of one expiry moved up."""
    one = smiles[number]
    return [
        *smiles[:number],
        one._replace(bid=one.bid + by, ask=one.ask + by),
        *smiles[number + 1 :],
    ]


def test_a_surface_that_is_the_market_has_no_errors() -> None:
    measured = measure(fit_of(chain_of(true_smiles()), true_svi()))
    assert measured.rms_vol_error < 1e-12
    assert measured.in_spread_share == 1.0
    assert (measured.expiries, measured.fitted, measured.worst_violation) == (5, 5, 0.0)
    assert measured.quotes_used == 60


def test_a_shift_of_a_smile_is_its_rms_and_bias_in_every_unit() -> None:
    fit = fit_of(chain_of(shifted(true_smiles(half_spread=SPREAD), 2, 3 * SPREAD)), true_svi())
    one, other = measure(fit).slices[2], measure(fit).slices[1]
    assert one.rms_vol_error == pytest.approx(3 * SPREAD, rel=1e-9)
    assert one.vega_vol_error == pytest.approx(3 * SPREAD, rel=1e-9)
    assert one.normalised_residual == pytest.approx(3.0 * sqrt(12 / 7), rel=1e-9)
    assert one.stated_noise == pytest.approx(SPREAD, rel=1e-9)
    assert one.worst_violation == pytest.approx(2.0, rel=1e-9)  # beyond the bid
    assert one.worst_share == pytest.approx(1 / 12, rel=1e-9)
    assert [b.half_spreads for b in one.bias if b.count] == pytest.approx([-3.0] * 5, rel=1e-9)
    assert sum(b.count for b in one.bias) == 12
    assert one.in_spread_share == 0.0
    assert other.worst_violation == 0.0


def test_a_bound_counts_where_it_is_broken() -> None:
    smiles = true_smiles(half_spread=SPREAD)
    bid = smiles[0].bid.copy()
    ask = smiles[0].ask.copy()
    bid[4], ask[4] = nan, ask[4] - 4 * SPREAD
    fit = fit_of(chain_of([smiles[0]._replace(bid=bid, ask=ask), *smiles[1:]]), true_svi())
    one = measure(fit).slices[0]
    assert (one.two_sided, one.ceilings, one.floors) == (11, 1, 0)
    assert one.one_sided_share == pytest.approx(1 / 12)
    assert one.worst_violation == pytest.approx(3.0, rel=1e-9)  # the ask lies 3 below the model


def test_vega_gives_the_wings_less_weight() -> None:
    smiles = true_smiles(half_spread=SPREAD)
    bent = smiles[3].bid.copy()
    bent[0] += 0.01
    wing = [*smiles[:3], smiles[3]._replace(bid=bent, ask=bent + 2 * SPREAD), smiles[4]]
    one = measure(fit_of(chain_of(wing), true_svi())).slices[3]
    assert one.vega_vol_error < 0.8 * one.rms_vol_error
    assert one.worst_share > 0.99


def test_venues_that_agree_about_a_strike_are_one_witness_of_the_shape() -> None:
    zigzag = 0.3 * SPREAD * (-1.0) ** np.arange(12)
    smiles = [
        one._replace(bid=one.bid + zigzag, ask=one.ask + zigzag)
        for one in true_smiles(half_spread=SPREAD)
    ]
    alone = chain_of(smiles)
    quotes = alone.chain.quotes
    venues = [replace(quotes, venue=Labels(quotes.venue.codes, (name,))) for name in "VWXY"]
    (chain,) = chains(joined(venues))
    one, together = (
        measure(fit_of(slices, true_svi())).slices[2] for slices in (alone, slices_of(chain))
    )
    assert together.two_sided == 4 * one.two_sided
    assert together.runs_z == one.runs_z > 2.0


def test_an_expiry_that_was_not_fitted_says_why_and_has_no_numbers() -> None:
    states = [FitState.CONVERGED] * 4 + [FitState.NON_FINITE]
    measured = measure(fit_of(chain_of(true_smiles()), true_svi(), states=states))
    assert measured.fitted == 4
    assert measured.slices[4].state is FitState.NON_FINITE
    assert isnan(measured.slices[4].rms_vol_error)
    assert measured.slices[4].quotes_used == 0


def test_rejections_are_counted_by_reason() -> None:
    smiles = true_smiles()
    bid = smiles[1].bid.copy()
    bid[3] = smiles[1].ask[3] + 0.01  # crossed
    measured = measure(
        fit_of(chain_of([smiles[0], smiles[1]._replace(bid=bid), *smiles[2:]]), true_svi())
    )
    assert measured.slices[1].rejected == ((Reason.CROSSED, 1),)
    assert measured.slices[1].values()["rejected_crossed"] == 1
    assert measured.slices[2].rejected == ()
    assert [one.crossed for one in measured.slices] == [0, 1, 0, 0, 0]


@pytest.mark.parametrize("rights", ["CP", "C"])
@pytest.mark.parametrize("unit", ["inverse", "vol"])
def test_only_what_could_have_been_used_counts_as_crossed(unit: str, rights: str) -> None:
    frame = pd.read_parquet(sample_quotes())
    frame = frame[(frame.quote_time == frame.quote_time.min()) & (frame.underlying == "BTC")]
    frame = frame[(frame.bid > 0.0) & (frame.ask > 0.0) & frame.right.isin(list(rights))]
    frame = frame.reset_index(drop=True).assign(unit=unit)
    if unit == "vol":
        frame = frame.assign(bid=0.58, ask=0.62)
    sound = measured(frame)
    crossed = frame.strike.isin(sorted(frame.strike.unique())[::4])
    worse = measured(frame.assign(bid=frame.bid.where(~crossed, 2.0 * frame.ask)))
    assert sum(one.crossed for one in worse) > 0
    for before, after in zip(sound, worse, strict=True):
        # What was used is used or crossed.
        assert after.crossed + after.quotes_used == before.quotes_used


def measured(frame: pd.DataFrame) -> tuple[SliceMetrics, ...]:
    (chain,) = chains(quotes_from_frame(frame))
    slices = slices_of(chain)
    some = np.array([[0.01], [0.02], [0.0], [0.0], [0.1]])
    return measure(fit_of(slices, np.tile(some, len(slices.expiry)))).slices


def test_handles_move_with_the_smile_and_not_with_the_level() -> None:
    slices = chain_of(true_smiles())
    before = fit_of(slices, true_svi()).surface
    lifted = true_svi() * np.array([1.1, 1.1, 1, 1, 1])[:, None]  # w, and so vol², by a tenth
    moves = parameter_moves(fit_of(slices, lifted).surface, before)
    vols = [sqrt(before.total_variance(0.0, e.years) / e.years) for e in before.expiries]
    assert [m.atm_vol for m in moves] == pytest.approx(
        [v * (sqrt(1.1) - 1) for v in vols], rel=1e-9
    )
    handles = zip(
        fit_of(slices, lifted).surface.handle_values(), before.handle_values(), strict=True
    )
    for move, (now, then) in zip(moves, handles, strict=True):
        assert move.skew == pytest.approx(now.value.skew - then.value.skew, rel=1e-9)
        assert move.curvature == pytest.approx(now.value.curvature - then.value.curvature, rel=1e-9)
    still = parameter_moves(with_levels(before, [1.02] * 5), before)
    assert [m.forward for m in still] == pytest.approx([log(1.02)] * 5)
    assert [m.atm_vol for m in still] == pytest.approx([0.0] * 5, abs=1e-12)


def test_mahalanobis_distance_of_one_standard_error_in_one_parameter() -> None:
    slices, covariance = chain_of(true_smiles()), np.diag([1e-6, 1e-4, 1e-2, 1e-4, 1e-4])
    before = fit_of(slices, true_svi(), covariance=covariance).surface
    moved = true_svi() + np.array([[0.0], [0.02], [0.0], [0.0], [0.0]])  # two errors of b
    (first, *_) = parameter_moves(fit_of(slices, moved, covariance=covariance).surface, before)
    assert first.freedom == 5
    assert first.mahalanobis == pytest.approx(2.0 / sqrt(2.0), rel=1e-9)  # both have that error


def test_there_is_no_move_without_a_last_smile() -> None:
    slices = chain_of(true_smiles())
    surface = fit_of(slices, true_svi()).surface
    none = parameter_moves(surface, None) + parameter_moves(surface, replace(surface, expiries=()))
    assert all(isnan(m.atm_vol) and isnan(m.mahalanobis) for m in none)


def test_the_condition_is_that_of_the_correlations() -> None:
    matrix = np.array([[4.0, 0.9 * 2 * 3], [0.9 * 2 * 3, 9.0]])
    assert condition_number(tuple(matrix.ravel())) == pytest.approx(sqrt(1.9 / 0.1), rel=1e-12)
    with_given = np.zeros((3, 3))
    with_given[np.ix_([0, 2], [0, 2])] = matrix
    assert condition_number(tuple(with_given.ravel())) == pytest.approx(sqrt(19.0), rel=1e-12)
    assert isnan(condition_number(()))


@pytest.mark.parametrize(
    ("model", "parameters", "distance"),
    [
        (ModelName.SVI, (0.04, 0.1, -0.3, 0.0, 0.2), 0.7),
        (ModelName.SVI, (0.04, 1.5, -0.25, 0.0, 0.2), 1.0 - 1.875 / 1.95),
        # The least variance is a + bσ = .0001, that at the money a + b√(m² + σ²) = .0415213562.
        (ModelName.SVI, (-0.0999, 1.0, 0.0, 0.1, 0.1), 0.0001 / 0.0415213562373095),
        (ModelName.ESSVI, (0.04, -0.9, 0.5), 0.1),
        (ModelName.ESSVI, (0.04, -0.5, 2.0), 0.25),
        (ModelName.SABR, (0.5, 1.0, -0.8, 1.0), 0.2),
    ],
)
def test_the_distance_to_the_nearest_bound(
    model: ModelName, parameters: tuple[float, ...], distance: float
) -> None:
    assert bound_distance(model, parameters) == pytest.approx(distance, rel=1e-9)


def test_a_forward_within_what_the_pairs_allow_has_no_gap() -> None:
    check = ForwardCheck(100.0, 100.2, 0.1, 99.0, 101.0, 100.1, 7)
    assert check.gap == 0.0
    assert check.basis == pytest.approx(log(100.2 / 100.1))
    assert replace(check, used=102.0).gap == pytest.approx(1.0 / 102.0)
    assert replace(check, floor=101.0, ceiling=99.0).gap == pytest.approx(1.0 / 100.0)
    assert isnan(ForwardCheck(100.0).gap)
    assert isnan(ForwardCheck(100.0).basis_z)


def test_every_stored_value_is_plain() -> None:
    measured = measure(fit_of(chain_of(true_smiles()), true_svi()), fit_seconds=0.02)
    whole, (one, *_) = measured.values(), measured.slices
    assert (whole["fit_seconds"], whole["certificate_scope"]) == (0.02, "WHOLE_LINE")
    assert {f"bias_{bucket}" for bucket in DELTA_BUCKETS} <= one.values().keys()
    for values in (measured.values(), *(one.values() for one in measured.slices)):
        assert all(type(v) in (float, int, str, bool, type(None)) for v in values.values())


@pytest.mark.parametrize("unit", ["linear", "inverse"])
def test_parity_finds_the_forward_that_prices_were_made_with(unit: str) -> None:
    forward, quoted, spread = 101.0, 100.0, 0.02
    time_value = {95.0: 1.2, 100.0: 2.5, 105.0: 1.4}
    rows = []
    for strike, value in time_value.items():
        for right, inside in (("call", forward - strike), ("put", strike - forward)):
            price = value + max(inside, 0.0)
            scale = forward if unit == "inverse" else 1.0
            sides = {"bid": (price - spread) / scale, "ask": (price + spread) / scale}
            rows.append({"strike": strike, "right": right, **sides})
    frame = pd.DataFrame(rows).assign(
        quote_time=QUOTE_TIME,
        venue="X",
        underlying="U",
        expiry=QUOTE_TIME + pd.Timedelta(days=30),
        unit=unit,
        forward=quoted,
    )
    (chain,) = chains(quotes_from_frame(frame))
    (check,) = forward_checks(slices_of(chain))
    assert check.pairs == 3
    assert (check.used, check.venue) == (quoted, quoted)
    assert check.parity == pytest.approx(forward, abs=0.01)
    assert check.floor < forward < check.ceiling
    assert check.basis == pytest.approx(log(forward / quoted), abs=1e-4)
    assert check.basis_z > 5.0
    assert check.gap == pytest.approx((check.floor - quoted) / quoted)
