"""What the proofs of SABR rest on: bounds on complex discs, interpolants, quartics, partitions."""

from __future__ import annotations

import numpy as np
import pytest
from mpmath import mp, mpf

from calib.arbitrage.interpolants import DEGREE, POINTS, bernstein, truncation
from calib.arbitrage.intervals import Intervals, partition, samples
from calib.arbitrage.quartics import Curves, denominator, mixed, numerator, numerator_size
from calib.arbitrage.sabr_discs import Columns, Sizes, reach, rounding_share
from calib.models import sabr
from tests.arbitrage.dense import Curves as DenseCurves
from tests.arbitrage.dense import durrleman
from tests.arbitrage.sabr_dense import Smiles, formula
from tests.arbitrage.sabr_samples import ordinary
from tests.conformance import reference


def hyperbolic(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Moduli of Λ′ = 1/sinh x − 1/x and of Λ″."""
    return np.abs(1 / np.sinh(x) - 1 / x), np.abs(1 / x**2 - np.cosh(x) / np.sinh(x) ** 2)


def test_universal_bounds_in_the_strip() -> None:
    """Both are largest at ±iπ/2 on the edge |Im x| = π/2, and stay below inside."""
    edge = np.linspace(-40, 40, 800_001) + 0.5j * np.pi
    first, second = hyperbolic(edge)
    assert first.max() == pytest.approx(1 - 2 / np.pi, abs=1e-12)
    assert second.max() == pytest.approx(4 / np.pi**2, abs=1e-12)
    rng = np.random.default_rng(1)
    inside = rng.normal(0, 5, 100_000) + 1j * rng.uniform(-np.pi / 2, np.pi / 2, 100_000)
    inside = inside[np.abs(inside) > 0.01]
    assert hyperbolic(inside)[0].max() < 0.3634
    assert hyperbolic(inside)[1].max() < 0.4053


def test_roots_of_the_elasticity_factor_are_as_far_as_stated() -> None:
    roots = np.polynomial.Polynomial([1, 0, 1 / 24, 0, 1 / 1920]).roots()
    assert 6.473 < np.abs(roots.imag).min() < 6.474


def circle_derivatives(
    smiles: Smiles, centre: np.ndarray, radius: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """|w|, |u′| and |u″| with u = ln σ at 16 points of each circle, by Cauchy's formula there."""
    turn = np.exp(2j * np.pi * np.arange(16) / 16)[:, None]
    points = centre + radius * turn
    small = 1e-3 * radius
    around = np.exp(2j * np.pi * np.arange(8) / 8)[:, None, None]
    values = np.log(formula(smiles, points + small * around) / formula(smiles, points)) / 2
    first = (values / around).mean(axis=0) / small
    second = 2 * (values / around**2).mean(axis=0) / small**2
    return np.abs(formula(smiles, points)), np.abs(first), np.abs(second)


@pytest.mark.parametrize("extreme", [False, True])
def test_sizes_hold_on_complex_discs(extreme: bool) -> None:
    """On the circle that bounds a disc they hold, and so within, by the maximum principle."""
    rng = np.random.default_rng(2)
    smiles = ordinary(rng, 4_000)
    if extreme:
        turned = np.sign(smiles.rho) * (1 - 10 ** rng.uniform(-6, -1, 4_000))
        smiles = smiles._replace(rho=turned, nu=smiles.nu * 2)
    centre = rng.uniform(smiles.k_min, smiles.k_max)
    columns = Columns(*smiles[:5])
    radius = reach(columns, centre) * rng.uniform(0.02, 1, 4_000)
    kept = radius > 1e-7
    smiles, centre, radius = smiles.take(kept), centre[kept], radius[kept]
    assert kept.mean() > 0.9
    w = formula(smiles, centre + 0j).real
    sizes = Sizes.on(Columns(*smiles[:5]), centre, radius, w)
    # Within 0.99 of the radius: the circles of the differences stay in the disc.
    value, first, second = circle_derivatives(smiles, centre, 0.99 * radius)
    assert np.isfinite(sizes.second).mean() > 0.98
    assert (value <= sizes.variance * (1 + 1e-9)).all()
    assert (first <= sizes.first * (1 + 1e-6)).all()
    # Differences of second order lose ε over the square of the small circle's radius.
    assert (second <= sizes.second * (1 + 1e-4) + 1e-8 / radius**2).all()
    # And they are not empty: within a factor of a hundred in the mean.
    finite = np.isfinite(sizes.first)
    assert np.median((sizes.first / first.max(axis=0))[finite]) < 100


@pytest.mark.parametrize("extreme", [False, True])
def test_rounding_stays_far_below_what_is_taken_off_for_it(extreme: bool) -> None:
    """w, w′ and w″ at 50 digits, through the seams of the series and close to full correlation."""
    rng = np.random.default_rng(6)
    smiles = ordinary(rng, 150)
    smiles = smiles._replace(nu=smiles.nu * 0.7)
    if extreme:
        smiles = smiles._replace(rho=np.sign(smiles.rho) * (1 - 10 ** rng.uniform(-8, -2, 150)))
    k = rng.uniform(smiles.k_min, smiles.k_max)
    by_x = rng.random(150) < 0.5  # around |x| = 1/8, and closer to the money
    k = np.where(by_x, smiles.alpha / smiles.nu * rng.choice([-1, 1], 150) * 0.125, k)
    k *= np.where(by_x, rng.choice([0.02, 0.9, 1.0, 1.1], 150), 1.0)
    columns = Columns(*smiles[:5])
    found = sabr.jet(smiles[:4], k, smiles.years)
    radius = 0.05 * reach(columns, k)
    sizes = Sizes.on(columns, k, radius, found[0])
    share = rounding_share(k, 0.0 * k, radius, sizes.amplification)
    p_size = 2 * sizes.variance * sizes.first
    q_size = sizes.variance * (2 * sizes.second + 4 * sizes.first**2)
    worst = 0.0
    for i in range(150):
        with mp.workdps(50):
            exact = mp.taylor(
                lambda x, i=i: reference.total_variance(
                    "sabr", [mpf(column[i]) for column in smiles[:4]], x, mpf(smiles.years[i])
                ),
                mpf(k[i]),
                2,
            )
        for value, truth, size in zip(
            (x[i] for x in found),
            (exact[0], exact[1], 2 * exact[2]),
            (sizes.variance[i], p_size[i], q_size[i]),
            strict=True,
        ):
            worst = max(worst, float(abs(value - truth) / (share[i] * size)))
    assert worst < 0.02


def test_discs_without_a_bound_say_so() -> None:
    wide = Columns(*(np.array([x]) for x in (0.5, 1.0, -0.3, 1.0, 0.5)))
    centre, w = np.array([0.1]), np.array([0.1])
    assert np.isinf(Sizes.on(wide, centre, np.array([5.0]), w).variance).all()
    # 1 + T·H < 0: (2 − 3ρ²)ν²T/24 = −2.
    broken = Columns(*(np.array([x]) for x in (0.5, 1.0, -0.99, 7.0, 1.05)))
    assert reach(broken, centre)[0] == 0.0
    assert np.isinf(Sizes.on(broken, centre, np.array([1e-3]), w).variance).all()


def test_truncation_bounds_what_interpolation_leaves() -> None:
    """On 1/(1 − k/p), the worst that a disc of radius just below |p| allows."""
    k = np.linspace(-1, 1, 2001)
    for pole in (1.2, 1.5, -2.0, 3.0, -6.0):
        radius = 0.999 * abs(pole)
        largest = 1 / (1 - radius / abs(pole))
        values = 1 / (1 - POINTS / pole)
        polynomial = np.polynomial.Polynomial.fit(POINTS, values, DEGREE)
        wrong = np.abs(polynomial(k) - 1 / (1 - k / pole)).max()
        assert wrong <= truncation(np.array([radius]))[0] * largest
    assert np.isinf(truncation(np.array([1.0, 0.5, np.nan]))).all()
    assert truncation(np.array([np.inf]))[0] == 0.0


def test_bernstein_coefficients_enclose_the_polynomial_closely() -> None:
    rng = np.random.default_rng(3)
    k = np.linspace(-1, 1, 4001)
    for _ in range(50):
        polynomial = np.polynomial.Polynomial(rng.normal(size=DEGREE + 1))
        coefficients = bernstein(polynomial(POINTS))
        seen, size = polynomial(k).min(), np.abs(polynomial(k)).max()
        assert seen - 0.3 * size <= coefficients.min() <= seen + 1e-13 * size
        # Ends of quarters are values: the first and last coefficient of each.
        ends = coefficients.reshape(4, -1)[:, [0, -1]]
        at = np.array([[-1, -0.5], [-0.5, 0], [0, 0.5], [0.5, 1]])
        np.testing.assert_allclose(ends, polynomial(at), atol=1e-13 * size)
    assert np.abs(bernstein(np.eye(DEGREE + 1))).sum(axis=1).max() < 3.0 + 1e-12


def test_quartics_are_butterfly_between_two_curves() -> None:
    """w²g by its coefficients against Durrleman's function of the mixture itself."""
    rng = np.random.default_rng(4)
    k = rng.normal(0, 0.5, 500)
    w = np.exp(rng.normal(-3, 1, (2, 500)))
    p, q = w * rng.normal(0, 1, (2, 500)), w * rng.normal(0, 3, (2, 500))
    pair = Curves(w, w - k * p / 2, p, q)
    for begin, end in ((0.0, 1.0), (0.2, 0.5), (0.7, 0.7)):
        one, two = mixed(pair, np.full(500, begin)), mixed(pair, np.full(500, end))
        above, below = numerator(one, two), denominator(one, two)
        for t in np.linspace(0, 1, 7):
            weights = np.array([(1, 4, 6, 4, 1)[i] * t**i * (1 - t) ** (4 - i) for i in range(5)])
            share = begin + t * (end - begin)
            dense = DenseCurves(*((1 - share) * x[0] + share * x[1] for x in (w, p, q)))
            g = durrleman(dense, k)
            size = (weights @ numerator_size(*(Curves(*map(np.abs, c)) for c in (one, two)))) / (
                weights @ below
            )
            assert (np.abs((weights @ above) / (weights @ below) - g) <= 1e-12 * size).all()
            assert (np.abs(g) <= size * (1 + 1e-12)).all()
            assert (g >= (above / below).min(axis=0) - 1e-12 * size).all()


def test_partitions_leave_nothing_out() -> None:
    rng = np.random.default_rng(5)
    start = rng.normal(0, 1, 300)
    pieces = Intervals(np.arange(300), start, start + np.exp(rng.uniform(-30, 2, 300)))
    pieces = pieces._replace(end=np.where(rng.random(300) < 0.1, pieces.start, pieces.end))
    k = samples(pieces, 9)
    cells = partition(pieces, k, np.exp(rng.uniform(-3, 8, k.shape)))
    for part in (cells, cells.divided(3)):
        order = np.lexsort((part.end, part.start, part.owner))
        owner, begin, end = part.owner[order], part.start[order], part.end[order]
        first = np.flatnonzero(np.append(True, owner[1:] != owner[:-1]))
        last = np.append(first[1:], owner.size) - 1
        np.testing.assert_array_equal(begin[first], pieces.start)
        np.testing.assert_array_equal(end[last], pieces.end)
        inner = np.setdiff1d(np.arange(owner.size), first)
        np.testing.assert_array_equal(begin[inner], end[inner - 1])
        assert (part.centre - part.half_width <= part.start).all()
        assert (part.centre + part.half_width >= part.end).all()
