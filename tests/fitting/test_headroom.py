"""How far the variances of a certified surface may be scaled, against proofs and a dense look."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import calib
from calib.arbitrage.certificate import Certificate
from calib.fitting.blend import certify_all
from calib.fitting.fit_value import Fit
from calib.fitting.headroom import variance_headroom
from calib.surface.transport import with_levels
from tests.arbitrage.dense import essvi_as_raw, look


@pytest.fixture(scope="module", params=["svi", "essvi", "sabr"])
def fits(request: pytest.FixtureRequest) -> list[Fit]:
    return calib.fit_many(calib.read_quotes(calib.sample_quotes()), model=request.param)[:6]


def test_every_scale_within_the_headroom_holds(fits: list[Fit]) -> None:
    scales = np.random.default_rng(5).uniform(0.0, 1.0, (len(fits), 4))
    for fit, own in zip(fits, scales, strict=True):
        surface, headroom = fit.surface, variance_headroom(fit.surface)
        assert headroom >= 1.0
        if len(surface.expiries[0].parameters) == 4:  # SABR cannot be scaled
            assert headroom == 1.0
            continue
        for scale in (*(headroom * own), headroom):
            moved = with_levels(surface, [1.0] * len(surface.expiries), None, scale)
            raw = np.array([one.parameters for one in moved.expiries])
            raw = essvi_as_raw(raw) if raw.shape[1] == 3 else raw
            found = look(raw)
            assert min(found) >= 0.0
            assert found.g >= moved.certificate.butterfly_margin
            if scale > 0.01:  # a proof has its own rounding to pay for
                (proof,) = certify_all([raw.T], [True])
                assert proof.arbitrage_free


def test_some_surfaces_have_room_above() -> None:
    fits = calib.fit_many(calib.read_quotes(calib.sample_quotes()), model="essvi")[:6]
    assert max(variance_headroom(fit.surface) for fit in fits) > 1.0


def test_an_unproved_surface_has_none() -> None:
    (fit, *_) = calib.fit_many(calib.read_quotes(calib.sample_quotes()), model="essvi")
    unproved = replace(fit.surface, certificate=Certificate.not_checked())
    assert variance_headroom(unproved) == 0.0
