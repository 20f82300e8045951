"""Models side by side, and what a prudent price takes off: against flat smiles and bumps."""

from dataclasses import replace
from math import isnan, log, nan, sqrt

import numpy as np
import pytest
from scipy.stats import norm

from calib.conventions import Floats
from calib.errors import InvalidRequest
from calib.modelrisk.comparison import Quantity, compare, corridor_vol, out_of_the_money
from calib.modelrisk.delta_buckets import DELTA_BUCKETS
from calib.modelrisk.prudence import CONFIDENCE_POINT, model_uncertainty, prudent_lines
from calib.states import ModelName
from calib.surface.surface import Surface
from tests.fitting.surface_samples import TRUTH, Smile, chain_of, true_smiles, true_svi
from tests.modelrisk.samples import fit_of

DAYS = 73.0  # a fifth of a year


def flat(vol: float, covariance: Floats | None = None) -> Surface:
    k = np.linspace(-0.3, 0.3, 9)
    smile = Smile(DAYS, k, np.full(9, vol - 0.01), np.full(9, vol + 0.01))
    parameters = np.array([[vol * vol * DAYS / 365], [0.0], [0.0], [0.0], [0.1]])
    return fit_of(chain_of([smile]), parameters, covariance=covariance).surface


def essvi_truth() -> Surface:
    """The sample surface as eSSVI: the same smiles in another model."""
    svi = fit_of(chain_of(true_smiles()), true_svi()).surface
    expiries = tuple(
        replace(one, parameters=tuple(p), covariance=())
        for one, p in zip(svi.expiries, np.array(TRUTH).T.tolist(), strict=True)
    )
    return replace(svi, model=ModelName.ESSVI, expiries=expiries)


def test_models_that_say_the_same_leave_nothing_open() -> None:
    found = compare([fit_of(chain_of(true_smiles()), true_svi()).surface, essvi_truth()])
    assert len(found) == 5
    for one in found:
        assert one.models == (ModelName.SVI, ModelName.ESSVI)
        assert one.variance_swap.range < 1e-10
        assert one.corridor.range < 1e-12
        assert one.vol_range < 1e-12
        for node in one.nodes:
            assert node.call.range < 1e-12
            assert node.digital.range < 1e-10


@pytest.mark.parametrize("unknown", [(1,), (2,), (3,), (1, 3), (1, 2, 3)])
def test_a_node_without_a_vol_hides_no_range_of_the_others(unknown: tuple[int, ...]) -> None:
    (one,) = compare([flat(0.4), flat(0.5)])
    nodes = tuple(
        replace(node, vol=Quantity((0.4, nan))) if place in unknown else node
        for place, node in enumerate(one.nodes)
    )
    found = replace(one, nodes=nodes).vol_range
    expected = nan if len(unknown) == 3 else 0.1
    assert found == pytest.approx(expected, rel=1e-10, nan_ok=True)


def test_ranges_of_two_flat_smiles_are_blacks() -> None:
    (one,) = compare([flat(0.4), flat(0.5)])
    years = DAYS / 365
    assert [node.bucket for node in one.nodes] == list(DELTA_BUCKETS)
    assert one.variance_swap.by_model == pytest.approx((0.4, 0.5), rel=1e-10)
    assert one.vol_range == pytest.approx(0.1, rel=1e-10)
    put_25 = one.nodes[1]
    d1 = norm.ppf(0.75)  # of the first model, in which the strikes are chosen
    root = 0.4 * sqrt(years)
    assert put_25.strike == pytest.approx(100.0 * np.exp(-d1 * root + 0.5 * root * root))
    for vol, call, digital in zip(
        (0.4, 0.5), put_25.call.by_model, put_25.digital.by_model, strict=True
    ):
        root = vol * sqrt(years)
        d1 = -log(put_25.strike / 100.0) / root + 0.5 * root
        assert digital == pytest.approx(norm.cdf(d1 - root), rel=1e-12)
        assert call == pytest.approx(
            norm.cdf(d1) - put_25.strike / 100.0 * norm.cdf(d1 - root), rel=1e-12
        )


def test_a_corridor_of_all_strikes_is_the_variance_swap() -> None:
    surface = fit_of(chain_of(true_smiles()), true_svi()).surface
    years = surface.expiries[2].years
    wide = corridor_vol(surface, years, 100.0 * np.exp(-1.5), 100.0 * np.exp(1.5))
    assert wide == pytest.approx(surface.variance_swap(years), rel=1e-4)
    narrow = corridor_vol(surface, years, 95.0, 105.0)
    assert 0.0 < narrow < 0.7 * wide
    assert isnan(corridor_vol(surface, years, 101.0, 105.0))


def test_corridors_add_up() -> None:
    surface = fit_of(chain_of(true_smiles()), true_svi()).surface
    years = surface.expiries[2].years
    low, high = (
        corridor_vol(surface, years, *ends) ** 2 for ends in ((90.0, 100.0), (100.0, 110.0))
    )
    assert corridor_vol(surface, years, 90.0, 110.0) ** 2 == pytest.approx(low + high, rel=1e-12)


def test_options_out_of_the_money_meet_at_the_forward() -> None:
    below, at = out_of_the_money(np.array([0.04, 0.04]), np.array([-1e-13, 0.0]))
    assert below == pytest.approx(at, abs=1e-12)
    assert at == pytest.approx(2.0 * norm.cdf(0.1) - 1.0, rel=1e-12)


def test_only_surfaces_of_the_same_quotes_are_compared() -> None:
    with pytest.raises(InvalidRequest, match="one underlying and quote time"):
        compare([flat(0.4), replace(flat(0.4), underlying="V")])


def test_the_two_lines_of_a_vol() -> None:
    years = DAYS / 365
    error_of_w = 1e-3
    covariance = np.zeros((5, 5))
    covariance[0, 0] = error_of_w**2
    surface = flat(0.4, covariance)
    lines = {one.quantity: one for one in prudent_lines(surface, compare([surface, flat(0.5)]))}
    error = error_of_w / (2.0 * 0.4 * years)  # of the vol: δw = 2σT·δσ
    atm = lines["vol_ATM"]
    assert atm.value == pytest.approx(0.4)
    assert atm.market_price_uncertainty == pytest.approx(CONFIDENCE_POINT * error, rel=1e-9)
    assert atm.model_uncertainty == pytest.approx(0.9 * 0.1, rel=1e-9)
    # Digital at the forward: Φ(−√w/2), of slope −φ(√w/2)/(4√w) in w. The call: φ(√w/2)/(2√w).
    root = 0.4 * sqrt(years)
    slope = norm.pdf(0.5 * root) / (2.0 * root)
    assert lines["digital_ATM"].market_price_uncertainty == pytest.approx(
        CONFIDENCE_POINT * error_of_w * 0.5 * slope, rel=1e-6
    )
    assert lines["call_ATM"].market_price_uncertainty == pytest.approx(
        CONFIDENCE_POINT * error_of_w * slope, rel=1e-9
    )
    swap = lines["variance_swap"]
    assert swap.market_price_uncertainty == pytest.approx(CONFIDENCE_POINT * error, rel=1e-6)
    assert 0.0 < lines["corridor"].market_price_uncertainty < CONFIDENCE_POINT * error


def test_the_confidence_point_is_that_of_a_normal_law() -> None:
    assert pytest.approx(norm.ppf(0.9), rel=1e-15) == CONFIDENCE_POINT


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1.0, 2.0), 0.9),
        ((2.0, 1.0), 0.9),
        ((1.0, 2.0, 3.0), 1.8),  # the 90 % point of three lies at 2.8
        ((2.0, 1.0, 3.0), 0.8),
        ((1.0, 1.0, 1.0), 0.0),
    ],
)
def test_the_ninety_percent_point_of_the_models(values: tuple[float, ...], expected: float) -> None:
    assert model_uncertainty(values) == pytest.approx(expected)


def test_one_model_is_no_range_and_no_covariance_no_error() -> None:
    assert isnan(model_uncertainty((1.0,)))
    lines = prudent_lines(flat(0.4), compare([flat(0.4)]))
    assert all(isnan(one.market_price_uncertainty) for one in lines)
    assert all(isnan(one.model_uncertainty) for one in lines)
    assert len(lines) == 3 * len(DELTA_BUCKETS) + 2


def one_smile(
    model: ModelName, parameters: tuple[float, ...], deviations: tuple[float, ...]
) -> Surface:
    """A surface of one smile whose parameters have these standard errors, strongly correlated."""
    mixing = np.full((len(deviations), len(deviations)), 0.9) + 0.1 * np.eye(len(deviations))
    covariance = mixing * np.outer(deviations, deviations)
    surface = flat(0.4)
    one = replace(
        surface.expiries[0], parameters=parameters, covariance=tuple(covariance.ravel().tolist())
    )
    return replace(surface, model=model, expiries=(one,))


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_what_is_given_has_no_error_and_takes_no_step(beta: float) -> None:
    surface = one_smile(ModelName.SABR, (0.4, beta, -0.3, 0.8), (0.004, 0.0, 0.05, 0.05))
    lines = {one.quantity: one for one in prudent_lines(surface, compare([surface]))}
    assert all(one.market_price_uncertainty > 0.0 for one in lines.values())
    # alpha is the vol of a forward of 1, about.
    assert lines["vol_ATM"].market_price_uncertainty == pytest.approx(
        CONFIDENCE_POINT * 0.004, rel=0.3
    )


EDGE = 1.0 - 1e-13


@pytest.mark.parametrize(
    ("model", "parameters", "inner", "deviations"),
    [
        (
            ModelName.SVI,
            (0.01, 0.05, -EDGE, 0.0, 0.3),
            (0.01, 0.05, -0.999, 0.0, 0.3),
            (1e-3, 5e-3, 0.1, 0.01, 0.01),
        ),
        # The least variance is 0: every step in a that is not upwards leaves the domain.
        (
            ModelName.SVI,
            (-0.03, 0.125, -0.6, 0.0, 0.3),
            (-0.0299, 0.125, -0.6, 0.0, 0.3),
            (1e-3, 5e-3, 0.02, 0.01, 0.01),
        ),
        (ModelName.ESSVI, (0.03, -EDGE, 0.2), (0.03, -0.999, 0.2), (1e-3, 0.1, 0.01)),
        (ModelName.ESSVI, (0.03, -0.4, 0.2), (0.03, -0.4, 0.2001), (1e-3, 0.05, 0.01)),
        (
            ModelName.SABR,
            (0.4, 1.0, -0.99999, 0.8),
            (0.4, 1.0, -0.999, 0.8),
            (4e-3, 0.0, 0.1, 0.05),
        ),
        (ModelName.SABR, (0.4, 1.0, -0.3, 0.0), (0.4, 1.0, -0.3, 1e-3), (4e-3, 0.0, 0.1, 0.05)),
    ],
)
def test_a_smile_at_a_bound_has_the_errors_of_one_just_inside(
    model: ModelName,
    parameters: tuple[float, ...],
    inner: tuple[float, ...],
    deviations: tuple[float, ...],
) -> None:
    at, inside = (
        {one.quantity: one.market_price_uncertainty for one in prudent_lines(s, compare([s]))}
        for s in (one_smile(model, p, deviations) for p in (parameters, inner))
    )
    for name, error in at.items():
        assert error == pytest.approx(inside[name], rel=0.1), name
