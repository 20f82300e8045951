"""Marks do what they say, hold what they do not name, and never without a proof."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.arbitrage.certificate import CertificateScope
from calib.errors import InvalidSurface
from calib.fitting.blend import certify_all
from calib.modelrisk.marks import AtmHandles, Refusal, apply_marks, from_atm_handles, to_atm_handles
from calib.models.svi import SviParameters
from calib.states import ModelName
from calib.surface.marks import Mark, MarkHandle
from calib.surface.surface import Surface
from tests.fitting.surface_samples import chain_of, true_smiles, true_svi
from tests.modelrisk.samples import fit_of

NOW = np.datetime64("2026-03-02T12:00:00", "us")
HOUR = np.timedelta64(3600, "s")


def surface() -> Surface:
    (certificate,) = certify_all([true_svi()], [True])
    return fit_of(chain_of(true_smiles()), true_svi(), certificate=certificate).surface


def mark(handle: MarkHandle, value: float, *, pinned: bool = False, number: int = 2) -> Mark:
    expiry = surface().expiries[number].expiry
    return Mark(expiry, handle, pinned, value, "ann", "broker colour", NOW, NOW + HOUR)


@given(
    st.floats(0.001, 1.0),
    st.floats(-0.95, 0.95),
    st.floats(0.05, 20.0),
    st.floats(0.01, 1.9),
    st.floats(0.01, 1.9),
)
def test_a_smile_is_one_to_one_with_its_handles(
    w: float, way: float, curvature: float, left: float, right: float
) -> None:
    slope = 0.5 * (right - left) + way * 0.5 * (left + right)
    handles = AtmHandles(w, slope, curvature, left, right)
    found = to_atm_handles(from_atm_handles(handles))
    assert found == pytest.approx(handles, rel=1e-9, abs=1e-12)


def test_handles_of_a_known_smile() -> None:
    # a, b, ρ, m, σ = .02, .4, −.6, 0, .2 at k = 0: w = .1, w′ = bρ, w″ = b/σ, b(1 ∓ ρ).
    smile = SviParameters(0.02, 0.4, -0.6, 0.0, 0.2)
    assert to_atm_handles(smile) == pytest.approx((0.1, -0.24, 2.0, 0.64, 0.16), rel=1e-12)
    assert from_atm_handles(to_atm_handles(smile)) == pytest.approx(smile, abs=1e-15)


@pytest.mark.parametrize(
    ("handles", "message"),
    [
        (AtmHandles(0.0, 0.0, 1.0, 0.5, 0.5), "must be positive"),
        (AtmHandles(0.1, 0.0, 0.0, 0.5, 0.5), "must be positive"),
        (AtmHandles(0.1, 0.0, 1.0, 1.99, 0.5), "left wing"),
        (AtmHandles(0.1, 0.0, 1.0, 0.5, -0.1), "right wing"),
        (AtmHandles(0.1, 0.6, 1.0, 0.5, 0.5), "lies outside"),
    ],
)
def test_handles_that_no_smile_has_are_refused(handles: AtmHandles, message: str) -> None:
    with pytest.raises(InvalidSurface, match=message):
        from_atm_handles(handles)


@pytest.mark.parametrize("pinned", [True, False])
def test_a_mark_moves_its_handle_and_the_surface_says_so(pinned: bool) -> None:
    before = surface()
    old = before.handle_values()[2].value
    for handle, name, by, sign in (
        (MarkHandle.ATM_VOL, "atm_vol", 0.003, 1.0),
        (MarkHandle.SKEW, "skew", -0.02, 1.0),
        (MarkHandle.LEFT_WING, "left_slope", 0.01, -1.0),
        (MarkHandle.RIGHT_WING, "right_slope", 0.01, 1.0),
    ):
        target = sign * getattr(old, name) + by
        wanted = mark(handle, target if pinned else by, pinned=pinned)
        marked = apply_marks(before, [wanted], NOW)
        assert marked.refused == ()
        assert marked.surface.marks == (wanted,)
        assert marked.surface.certificate.arbitrage_free
        assert marked.surface.certificate.scope is CertificateScope.WHOLE_LINE
        new = marked.surface.handle_values()[2].value
        assert sign * getattr(new, name) == pytest.approx(target, rel=1e-9)
        others = [i for i in range(5) if i != 2]
        assert [marked.surface.expiries[i] for i in others] == [before.expiries[i] for i in others]


def test_a_skew_holds_the_vol_its_curvature_and_the_wings() -> None:
    before = surface()
    after = apply_marks(before, [mark(MarkHandle.SKEW, -0.02)], NOW).surface
    old, new = before.handle_values()[2].value, after.handle_values()[2].value
    for name in ("atm_vol", "curvature", "left_slope", "right_slope"):
        assert getattr(new, name) == pytest.approx(getattr(old, name), rel=1e-9)


def test_marks_of_one_expiry_hold_each_other() -> None:
    skew, vol = mark(MarkHandle.SKEW, -0.2, pinned=True), mark(MarkHandle.ATM_VOL, 0.002)
    new = apply_marks(surface(), [skew, vol], NOW).surface.handle_values()[2].value
    assert new.skew == pytest.approx(-0.2, rel=1e-9)
    assert new.atm_vol == pytest.approx(surface().handle_values()[2].value.atm_vol + 0.002)


def test_a_mark_that_cannot_be_certified_is_refused_with_the_reason() -> None:
    too_high = mark(MarkHandle.ATM_VOL, 1.5, pinned=True)  # far above the next expiry's variance
    fine = mark(MarkHandle.ATM_VOL, 0.001, number=0)
    marked = apply_marks(surface(), [too_high, fine], NOW)
    assert marked.surface.marks == (fine,)
    (refusal,) = marked.refused
    assert refusal.mark == too_high
    assert "not proved" in refusal.reason
    assert "calendar" in refusal.reason
    assert marked.surface.certificate.arbitrage_free


def test_marks_end_and_begin() -> None:
    one = mark(MarkHandle.ATM_VOL, 0.001)
    before = surface()
    assert apply_marks(before, [one], NOW + HOUR).surface is before
    assert apply_marks(before, [one], NOW - HOUR).surface is before
    assert apply_marks(before, [one], NOW + HOUR - np.timedelta64(1, "us")).surface.marks


def test_other_models_and_unknown_expiries_are_refused() -> None:
    one = mark(MarkHandle.ATM_VOL, 0.001)
    elsewhere = replace(one, expiry=NOW + 24 * 365 * HOUR)
    (refusal,) = apply_marks(surface(), [elsewhere], NOW).refused
    assert refusal == Refusal(elsewhere, "there is no expiry 2027-03-02T12:00:00Z")
    slices = tuple(
        replace(e, parameters=(w, -0.3, 0.5 * sqrt(w)), covariance=())
        for e, w in zip(surface().expiries, (0.01, 0.02, 0.03, 0.05, 0.1), strict=True)
    )
    essvi = replace(surface(), model=ModelName.ESSVI, expiries=slices)
    marked = apply_marks(essvi, [one], NOW)
    assert marked.surface is essvi
    assert marked.refused[0].reason == "marks are made on SVI surfaces, this one is ESSVI"


def test_a_marked_surface_travels_with_its_marks() -> None:
    marked = apply_marks(surface(), [mark(MarkHandle.SKEW, -0.02)], NOW).surface
    assert Surface.from_proto(marked.to_proto()) == marked
    assert Surface.from_json(marked.to_json()) == marked
    message = marked.to_proto()
    message.marks[0].ClearField("until")
    with pytest.raises(InvalidSurface, match="a mark without until"):
        Surface.from_proto(message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"author": " "}, "author and a reason"),
        ({"reason": ""}, "author and a reason"),
        ({"value": float("nan")}, "must be finite"),
        ({"until": NOW}, "must end after"),
    ],
)
def test_a_mark_says_who_why_and_until_when(change: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidSurface, match=message):
        replace(mark(MarkHandle.SKEW, 0.1), **change)  # type: ignore[arg-type]


def test_a_mark_reads_as_a_sentence() -> None:
    assert str(mark(MarkHandle.SKEW, -0.02)) == (
        "SKEW of 2026-04-01T12:00:00Z shifted by -0.02 by ann until 2026-03-02T13:00:00Z: "
        "broker colour"
    )
