"""What a fit did not see it still says, as well as its error bars claim."""

import numpy as np
import pytest

from calib.errors import InvalidRequest
from calib.fitting.fit import fit_chains
from calib.modelrisk.holdout import HeldOutPart, leave_strikes_out, leave_wing_out
from calib.quotes.chain import Chain
from tests.fitting.surface_samples import chain_of, true_smiles

H = 0.003


def chain(outlier: float = 0.0, noise: float = 0.0, quotes: int = 12) -> Chain:
    smiles = true_smiles(quotes=quotes, half_spread=H, noise=noise, seed=3)
    bid, ask = smiles[2].bid.copy(), smiles[2].ask.copy()
    bid[6] += outlier
    ask[6] += outlier
    smiles[2] = smiles[2]._replace(bid=bid, ask=ask)
    return chain_of(smiles).chain


def test_every_strike_is_left_out_once_and_met() -> None:
    found = leave_strikes_out(chain(), folds=4)
    assert sorted(found.row.tolist()) == list(range(60))
    inner = ~np.isin(found.row % 12, (0, 11))
    assert np.abs(found.mid_vol - found.predicted)[inner].max() < H
    assert (found.error > 0.0).all()
    assert found.rms < 1.0
    assert [len(found.of_expiry(i).z) for i in range(5)] == [12] * 5


def test_a_fat_finger_is_met_by_no_fit_that_did_not_see_it() -> None:
    found = leave_strikes_out(chain(outlier=0.05), folds=4)
    odd = found.row == 30
    assert (found.mid_vol - found.predicted)[odd] == pytest.approx(0.05, abs=H)
    assert found.z[odd] > 3.0


def test_a_row_that_is_held_out_has_no_say() -> None:
    plain, odd = leave_strikes_out(chain(), folds=4), leave_strikes_out(chain(0.05), folds=4)
    at = plain.row == 30
    assert odd.predicted[odd.row == 30] == pytest.approx(plain.predicted[at], abs=1e-6)


@pytest.mark.parametrize(
    ("part", "side"), [(HeldOutPart.LEFT_WING, -1), (HeldOutPart.RIGHT_WING, 1)]
)
def test_a_wing_is_predicted_from_the_rest_with_wider_bars(part: HeldOutPart, side: int) -> None:
    found = leave_wing_out(chain(), part)
    assert len(found.z) >= 5
    assert (np.sign(found.log_moneyness) == side).all()
    (whole,) = fit_chains([chain()])
    strike = whole.slices.forward[found.number] * np.exp(found.log_moneyness)
    seen = np.asarray(whole.surface.vol_error(strike, whole.slices.years[found.number]))
    assert (found.error > seen).mean() > 0.8
    assert found.rms < 2.0


@pytest.mark.parametrize("noise", [H / 3.0, H])
def test_noisy_quotes_lie_about_as_far_off_as_the_error_bars_say(noise: float) -> None:
    found = leave_strikes_out(chain(noise=noise, quotes=24), folds=6)
    # At the ends of a smile the rest of it has less to say; 110 quotes within: ± 3·7 %.
    inner = ~np.isin(found.row % 24, (0, 23))
    z = found.z[inner]
    assert np.sqrt(np.mean(z * z)) == pytest.approx(1.0, abs=0.25)
    assert (np.abs(z) < 1.96).mean() == pytest.approx(0.95, abs=0.06)


def test_a_fold_that_leaves_nothing_to_fit_predicts_nothing() -> None:
    found = leave_strikes_out(chain(), folds=1)
    assert found.z.size == found.row.size == 0
    assert np.isnan(found.rms)


@pytest.mark.parametrize("folds", [0, -3])
def test_folds_are_counted_from_one(folds: int) -> None:
    with pytest.raises(InvalidRequest, match=f"folds is {folds}"):
        leave_strikes_out(chain(), folds=folds)
