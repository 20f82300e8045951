"""Certificates of whole surfaces, and the dense look that they are held against."""

from __future__ import annotations

import numpy as np
import pytest

from calib.arbitrage.certificate import Certificate, CertificateScope
from calib.arbitrage.essvi import EssviSlices, as_svi
from calib.arbitrage.slices import Floats, SviSlices
from calib.arbitrage.surfaces import certify_surfaces
from calib.models.essvi_bound import psi_bound
from tests.arbitrage.dense import look
from tests.arbitrage.slice_samples import from_rows, rows


def essvi_surface(rng: np.random.Generator, expiries: int) -> Floats:
    """A random eSSVI surface free of arbitrage, as raw SVI rows: Mingone (2022), section 4."""
    rho = np.clip(rng.uniform(-0.8, 0.3) + 0.1 * rng.normal(0, 1, expiries), -0.95, 0.95)
    turn = np.maximum((1 + rho[:-1]) / (1 + rho[1:]), (1 - rho[:-1]) / (1 - rho[1:]))
    theta = [np.exp(rng.uniform(-9, -4))]
    for factor in turn:
        theta.append(theta[-1] * factor + theta[0] * rng.uniform(0.1, 1.5))
    bound = psi_bound(np.array(theta), rho)
    ceiling = list(bound)
    for i in range(expiries - 2, -1, -1):
        ceiling[i] = min(bound[i], ceiling[i + 1] / turn[i])
    share = rng.uniform(0.1, 0.999, expiries)
    psi = [share[0] * ceiling[0]]
    for i in range(1, expiries):
        low = psi[-1] * turn[i - 1]
        high = min(psi[-1] * theta[i] / theta[i - 1], ceiling[i])
        psi.append(low + share[i] * (high - low))
    return rows(as_svi(EssviSlices.of(theta, rho, psi)))


@pytest.fixture(scope="module")
def surfaces() -> list[Floats]:
    rng = np.random.default_rng(51)
    return [essvi_surface(rng, int(number)) for number in rng.integers(1, 14, 60)]


def certify(parts: list[Floats], coupled: bool | list[bool] = True) -> tuple[Certificate, ...]:
    slices = from_rows(np.concatenate(parts))
    return certify_surfaces(slices, [len(part) for part in parts], coupled).certificates


def test_surfaces_free_of_arbitrage_are_certified_on_the_whole_line(
    surfaces: list[Floats],
) -> None:
    for certificate, parameters in zip(certify(surfaces), surfaces, strict=True):
        assert certificate.arbitrage_free, certificate.detail
        assert certificate.scope is CertificateScope.WHOLE_LINE
        assert certificate.detail == ""
        seen = look(parameters)
        assert 0 < certificate.butterfly_margin <= min(seen.g, seen.g_between, seen.g_beyond)
        assert 0 < certificate.calendar_margin <= seen.growth


def test_one_surface_has_the_certificate_that_it_has_among_many(surfaces: list[Floats]) -> None:
    for alone, together in zip(
        (certify([part])[0] for part in surfaces[:12]), certify(surfaces), strict=False
    ):
        assert alone.arbitrage_free == together.arbitrage_free
        assert alone.butterfly_margin == pytest.approx(together.butterfly_margin, rel=1e-6)
        assert alone.calendar_margin == pytest.approx(together.calendar_margin, rel=1e-6)


def test_failures_are_named_where_they_are(surfaces: list[Floats]) -> None:
    good = next(part for part in surfaces if len(part) >= 5)
    steep, crossing = good.copy(), good.copy()
    steep[2] = (0.04, 2.0, 0.5, 0.0, 0.1)
    crossing[[1, 2]] = crossing[[2, 1]]
    results = certify([good, steep, crossing])
    assert results[0].arbitrage_free
    for certificate in results[1:]:
        assert not certificate.arbitrage_free
        assert certificate.scope is CertificateScope.FAILED
    assert "butterfly at expiry 3" in results[1].detail
    assert results[1].butterfly_margin == -np.inf
    assert "calendar at expiries 2-3" in results[2].detail
    assert "butterfly" not in results[2].detail
    assert results[2].calendar_margin < 0


def test_independent_expiries_are_certified_one_by_one(surfaces: list[Floats]) -> None:
    part = next(part for part in surfaces if len(part) >= 5)
    shuffled = part[::-1].copy()
    free, failed = certify([shuffled, shuffled], [False, True])
    assert free.arbitrage_free
    assert free.scope is CertificateScope.SLICES
    assert free.calendar_margin == np.inf
    assert failed.scope is CertificateScope.FAILED


def test_surfaces_without_expiries_are_not_checked() -> None:
    nothing = SviSlices.of(*np.empty((5, 0)))
    assert certify_surfaces(nothing, []).certificates == ()
    assert certify_surfaces(nothing, [0, 0]).certificates == (Certificate.not_checked(),) * 2


def test_single_expiry_has_no_calendar_margin_to_speak_of(surfaces: list[Floats]) -> None:
    certificate = certify([surfaces[0][:1]])[0]
    assert certificate.scope is CertificateScope.WHOLE_LINE
    assert certificate.calendar_margin == np.inf


@pytest.mark.parametrize("counts", [[1], [1, 1, 1], [3, -1]])
def test_counts_that_do_not_add_up_are_refused(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="do not add up to 2 slices"):
        certify_surfaces(SviSlices.of([0.04, 0.05], 0.1, 0.0, 0.0, 0.2), counts)


def test_numbers_that_are_no_slices_fail_without_a_warning() -> None:
    rng = np.random.default_rng(52)
    wild = rng.normal(0, 1, (400, 5)) * 10 ** rng.uniform(-300, 300, (400, 5))
    wild[rng.random((400, 5)) < 0.1] = np.nan
    wild[rng.random((400, 5)) < 0.1] = np.inf
    proofs = certify_surfaces(from_rows(wild), np.full(100, 4))
    assert not any(certificate.arbitrage_free for certificate in proofs.certificates)
    assert not any(np.isnan(certificate.butterfly_margin) for certificate in proofs.certificates)


def test_scope_numbers_are_those_of_the_protocol() -> None:
    from calib.v1 import surface_pb2

    for scope in CertificateScope:
        number = surface_pb2.CertificateScope.Value(f"CERTIFICATE_SCOPE_{scope.name}")
        assert int(number) == int(scope)
