"""Each rule fires on its own cause, and the cause that explains the others comes first."""

from dataclasses import replace
from math import inf, nan
from typing import Any

import numpy as np
import pytest

from calib.modelrisk.alarms import Alarm
from calib.modelrisk.attribution import AttributionSettings, attribute
from calib.modelrisk.findings import Cause, CauseGroup, Finding
from calib.modelrisk.forward_check import ForwardCheck
from calib.modelrisk.innovations import Innovation
from calib.modelrisk.measurement import measure
from calib.modelrisk.metrics import BucketBias, SliceMetrics
from calib.modelrisk.parameter_moves import ParameterMove
from calib.modelrisk.tenors import Tenor
from calib.modelrisk.usual import Usual
from calib.quotes.reasons import Reason
from calib.states import FitState
from tests.fitting.surface_samples import chain_of, true_smiles, true_svi
from tests.modelrisk.samples import fit_of

SOUND = replace(
    measure(fit_of(chain_of(true_smiles(half_spread=0.002)), true_svi())).slices[2],
    runs_z=0.0,
    condition=100.0,
)
ALARM = Alarm(
    "U", np.datetime64("2026-03-02", "us"), None, Tenor.MONTH, "ewma", "level", "x", 0.7, 0.6
)


def causes(metrics: SliceMetrics, **others: Any) -> list[Cause]:
    return [one.cause for one in attribute(metrics, **others)]


def innovation(**values: float) -> Innovation:
    return Innovation(SOUND.expiry, SOUND.years, SOUND.tenor, 1e-3, count=12, **values)


def test_a_sound_expiry_has_no_finding() -> None:
    quiet = innovation(level_z=0.4, forward_z=-1.0)
    assert causes(SOUND, innovation=quiet, usual=Usual(12.0, 0.002), disagreement=0.5) == []


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (
            {"forward": ForwardCheck(100.0, 101.0, 0.1, 100.8, 101.2, 100.0, 9)},
            Cause.INCONSISTENT_FORWARD,
        ),
        ({"rejected": ((Reason.CROSSED, 3),), "crossed": 3}, Cause.CROSSED_QUOTES),
        ({"venue_gap": 2.5}, Cause.VENUES_APART),
        ({"worst_violation": 20.0, "worst_share": 0.9}, Cause.OUTLIER),
        ({"median_age_seconds": 400.0}, Cause.STALE_QUOTES),  # a server uses none from 600 on
        ({"two_sided": 5, "ceilings": 7}, Cause.ONE_SIDED_QUOTES),
        ({"bracketed": 2}, Cause.FEW_QUOTES),
        ({"stated_noise": 0.05}, Cause.WIDE_QUOTES),
        ({"state": FitState.NON_FINITE}, Cause.FIT_FAILED),
        ({"state": FitState.STEP_LIMIT, "chi2_reduced": 4.0}, Cause.NOT_CONVERGED),
        ({"bound_distance": 0.001}, Cause.AT_BOUND),
        ({"condition": inf}, Cause.ILL_CONDITIONED),
        (
            {"runs_z": -4.0, "bias": (BucketBias(4, 0.004, 2.0), *SOUND.bias[1:])},
            Cause.SYSTEMATIC_RESIDUALS,
        ),
        ({"move": ParameterMove(mahalanobis=25.0, freedom=5)}, Cause.PARAMETERS_JUMPED),
    ],
)
def test_each_rule_names_its_cause_with_its_evidence(change: dict[str, Any], cause: Cause) -> None:
    (finding,) = attribute(replace(SOUND, **change))
    assert finding.cause is cause
    assert finding.expiry == SOUND.expiry
    assert finding.text
    assert finding.values()["group"] == cause.group.value


@pytest.mark.parametrize(
    ("others", "cause"),
    [
        ({"innovation": innovation(level_z=-6.0)}, Cause.LEVEL_JUMPED),
        ({"innovation": innovation(forward_z=7.0)}, Cause.FORWARD_JUMPED),
        ({"blend": 0.3}, Cause.BLENDED),
        ({"usual": Usual(24.0, 0.002)}, Cause.FEW_QUOTES),
        ({"usual": Usual(12.0, 0.0005)}, Cause.WIDE_QUOTES),
        ({"disagreement": 6.0}, Cause.MODELS_DISAGREE),
        ({"alarms": (ALARM,)}, Cause.ERRORS_LEAVE_BARS),
    ],
)
def test_what_lies_beside_the_metrics_counts_as_well(others: dict[str, Any], cause: Cause) -> None:
    assert causes(SOUND, **others) == [cause]


def test_data_explain_jumps_and_these_numerics() -> None:
    wrong = replace(
        SOUND,
        rejected=((Reason.CROSSED, 3),),
        crossed=3,
        bound_distance=0.0,
        move=ParameterMove(mahalanobis=30.0, freedom=5),
    )
    found = causes(wrong, innovation=innovation(level_z=9.0), alarms=(ALARM,))
    assert [one.group for one in found] == [
        CauseGroup.DATA,
        CauseGroup.REGIME,
        CauseGroup.NUMERICS,
        CauseGroup.REGIME,
        CauseGroup.REGIME,
    ]
    assert found[0] is Cause.CROSSED_QUOTES


def test_a_forward_that_jumps_explains_few_quotes_and_a_wrong_one_explains_the_jump() -> None:
    jumped, usual = innovation(forward_z=8.0), Usual(24.0, 0.002)
    assert causes(SOUND, innovation=jumped, usual=usual) == [Cause.FORWARD_JUMPED, Cause.FEW_QUOTES]
    wrong = replace(SOUND, forward=ForwardCheck(100.0, 101.0, 0.1, 100.8, 101.2, 100.0, 9))
    assert causes(wrong, innovation=jumped)[0] is Cause.INCONSISTENT_FORWARD


def test_a_stale_venue_explains_that_venues_lie_apart() -> None:
    stale = replace(SOUND, venue_gap=3.0, median_age_seconds=900.0)
    assert causes(stale) == [Cause.STALE_QUOTES, Cause.VENUES_APART]


def test_lost_quotes_explain_lone_sides_and_these_that_few_hold_the_money() -> None:
    lone = replace(SOUND, two_sided=5, ceilings=7, bracketed=1)
    assert causes(lone) == [Cause.ONE_SIDED_QUOTES]
    found = causes(lone, usual=Usual(24.0, 0.002))
    assert found == [Cause.FEW_QUOTES, Cause.ONE_SIDED_QUOTES]


def test_every_cause_of_data_but_the_jump_comes_before_the_rest() -> None:
    groups = [cause.group for cause in Cause if cause is not Cause.FORWARD_JUMPED]
    assert groups[:10] == [CauseGroup.DATA] * 10
    assert CauseGroup.DATA not in groups[10:]


def test_an_expiry_that_could_not_be_fitted_has_no_shape_to_speak_of() -> None:
    bare = SliceMetrics(
        SOUND.expiry, 0.1, Tenor.QUARTER, FitState.TOO_FEW_QUOTES, None, ForwardCheck(nan)
    )
    assert causes(bare, usual=Usual(12.0, 0.002)) == [Cause.FEW_QUOTES]
    assert causes(bare) == [Cause.FEW_QUOTES]


@pytest.mark.parametrize(
    ("state", "cause"),
    [(FitState.NO_FORWARD, Cause.NO_FORWARD), (FitState.EXPIRED, Cause.EXPIRED)],
)
def test_what_keeps_an_expiry_from_being_fitted_is_no_want_of_quotes(
    state: FitState, cause: Cause
) -> None:
    bare = SliceMetrics(SOUND.expiry, 0.1, Tenor.QUARTER, state, None, ForwardCheck(nan))
    assert causes(bare) == causes(bare, usual=Usual(12.0, 0.002)) == [cause]


def test_an_outlier_is_one_quote() -> None:
    # An offer 5 half-spreads below the smile, and elsewhere a mid that the smile is 3 off.
    smiles = true_smiles(half_spread=0.002)
    bid, ask = smiles[2].bid.copy(), smiles[2].ask.copy()
    bid[3], ask[3] = nan, bid[3] - 0.008
    bid[8] += 0.006
    ask[8] += 0.006
    smiles[2] = smiles[2]._replace(bid=bid, ask=ask)
    one = measure(fit_of(chain_of(smiles), true_svi())).slices[2]
    assert one.worst_violation == pytest.approx(5.0, rel=1e-6)
    assert one.worst_share == pytest.approx(25.0 / (25.0 + 9.0), rel=1e-6)
    (finding,) = attribute(replace(one, runs_z=0.0, condition=100.0))
    assert finding.cause is Cause.OUTLIER
    assert finding.text == (
        "the smile lies 5.0 half-spreads outside the bid-ask of one quote, which makes up 74% of "
        "all squared residuals"
    )


def test_limits_are_reached_from_both_sides() -> None:
    strict = AttributionSettings(level_z=2.0)
    quiet = innovation(level_z=-2.0)
    assert causes(SOUND, innovation=quiet) == []
    assert causes(SOUND, innovation=quiet, settings=strict) == [Cause.LEVEL_JUMPED]


def test_every_cause_lies_in_a_group_and_groups_stand_in_order() -> None:
    assert {cause.group for cause in Cause} == set(CauseGroup)
    first = {group: min(i for i, c in enumerate(Cause) if c.group is group) for group in CauseGroup}
    assert first[CauseGroup.DATA] < first[CauseGroup.NUMERICS] < first[CauseGroup.SHAPE]


def test_a_sentence_carries_its_numbers() -> None:
    check = ForwardCheck(100.0, 101.0, 0.1, 100.8, 101.2, 100.0, 9)
    (finding,) = attribute(replace(SOUND, forward=check))
    assert finding == Finding(
        SOUND.expiry,
        Cause.INCONSISTENT_FORWARD,
        "forward_basis_z",
        check.basis_z,
        5.0,
        "put-call parity over 9 strikes gives a forward of 101, +99.5 bp from the venue's 100: "
        "10.0 standard errors",
    )
