"""The view of each expiry says which quotes the fit had, which not, and what the model says."""

import numpy as np
import pytest

from calib.quotes.reasons import Reason
from calib.report.smiles import QuotedSurface, smile_at, smiles_of
from calib.report.style import expiry_texts
from tests.report.samples import DAYS, NOW, UNFITTED_DAYS


def test_every_expiry_of_the_chain_has_a_view_in_order(quoted: QuotedSurface) -> None:
    days = [(view.expiry - NOW) / np.timedelta64(1, "D") for view in smiles_of(quoted)]
    assert days == sorted((*DAYS, UNFITTED_DAYS))


def test_the_kinds_of_quotes_are_told_apart(quoted: QuotedSurface) -> None:
    for view in smiles_of(quoted):
        kinds = np.stack([view.two_sided, view.ceiling, view.floor, view.rejected])
        assert kinds.sum(axis=0).max() == 1
        if view.fitted is None:
            assert not (view.two_sided | view.ceiling | view.floor).any()
            continue
        assert [mask.sum() for mask in (view.two_sided, view.ceiling, view.floor)] == [8, 1, 1]
        assert np.isnan(view.bid_vol[view.ceiling]).all()
        assert np.isnan(view.ask_vol[view.floor]).all()


def test_quotes_of_an_expiry_that_the_surface_lacks_have_a_reason(quoted: QuotedSurface) -> None:
    lacking = quoted.slices.chain.quotes.expiry == NOW + np.timedelta64(UNFITTED_DAYS, "D")
    assert set(quoted.reason[lacking]) == {Reason.FIT_FAILED, Reason.CROSSED}
    assert set(quoted.reason[~lacking]) == {Reason.USABLE, Reason.CROSSED}


def test_the_model_line_is_the_surface(quoted: QuotedSurface) -> None:
    view = smiles_of(quoted)[0]
    k = np.linspace(-0.1, 0.1, 7)
    expected = quoted.surface.implied_vol(view.forward * np.exp(k), view.expiry)
    np.testing.assert_allclose(view.model_vol(k), expected, rtol=1e-12)
    assert view.atm_vol == pytest.approx(quoted.surface.implied_vol(view.forward, view.expiry))


def test_an_expiry_that_was_not_fitted_has_no_model(quoted: QuotedSurface) -> None:
    view = smile_at(quoted, NOW + np.timedelta64(UNFITTED_DAYS, "D"))
    assert view is not None
    assert np.isnan(view.model_vol(np.zeros(3))).all()
    assert smile_at(quoted, NOW) is None


def test_expiries_that_share_a_date_are_told_apart_by_their_time() -> None:
    texts = expiry_texts(
        np.array(["2026-04-17T13:30", "2026-04-17T20:00", "2026-05-01T20:00"], "datetime64[us]")
    )
    assert texts == ["17 Apr 2026 13:30", "17 Apr 2026 20:00", "1 May 2026"]
