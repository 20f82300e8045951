"""What a quoter pays for an answer: one strike, a strip of strikes, a whole grid, a message."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from math import exp, sqrt
from typing import Any

import numpy as np
import pytest

from calib.models import svi
from calib.states import ModelName
from calib.surface.surface import Surface
from tests.surface.markets import make_slice, make_surface

STRIKES = np.linspace(55.0, 180.0, 50)
MOMENT = datetime(2026, 9, 1, 12, tzinfo=UTC)


def surface_of(model: ModelName) -> Surface:
    """Twelve expiries from a week to a year, with error bars."""
    slices = []
    for days in np.geomspace(7, 365, 12):
        t = days / 365
        root = sqrt(t)
        parameters = {
            ModelName.SVI: (0.1 * t, 0.2 * root, -0.3, 0.02, 0.4 * root),
            ModelName.ESSVI: (0.25 * t, -0.3, 0.5 * root),
            ModelName.SABR: (0.5, 1.0, -0.3, 0.8 / max(root, 0.3)),
        }[model]
        slices.append(
            make_slice(
                24 * float(days),
                parameters,
                forward=100.0 * exp(0.04 * t),
                forward_error=0.02,
                log_moneyness_min=-0.9 * root,
                log_moneyness_max=0.8 * root,
                covariance=tuple((1e-6 * np.eye(len(parameters))).ravel().tolist()),
            )
        )
    return make_surface(*slices, model=model, spot=100.0)


@pytest.mark.parametrize("model", ModelName, ids=lambda model: model.name)
@pytest.mark.parametrize(
    ("name", "ask"),
    [
        ("vol_1_strike_by_years", lambda s, t, ts: s.implied_vol(97.0, t)),
        ("vol_1_strike_by_datetime", lambda s, t, ts: s.implied_vol(97.0, MOMENT)),
        ("vol_50_strikes", lambda s, t, ts: s.implied_vol(STRIKES, t)),
        ("vol_50_strikes_12_expiries", lambda s, t, ts: s.implied_vol(STRIKES, ts)),
        ("error_1_strike", lambda s, t, ts: s.vol_error(97.0, t)),
        ("error_50_strikes", lambda s, t, ts: s.vol_error(STRIKES, t)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_evaluation(
    benchmark: Any, model: ModelName, name: str, ask: Callable[[Surface, float, Any], Any]
) -> None:
    surface = surface_of(model)
    years = np.array([one.years for one in surface.expiries])
    benchmark.group = f"evaluate {name}"
    assert np.all(benchmark(ask, surface, float(years[4]), years[:, None]) > 0)


def test_formula_alone(benchmark: Any) -> None:
    """The floor under 50 strikes at one expiry: raw SVI in numpy, parameters and k at hand."""
    parameters = surface_of(ModelName.SVI).expiries[4].parameters
    k = np.log(STRIKES / 100.0)
    benchmark.group = "evaluate vol_50_strikes"
    assert (benchmark(lambda: np.sqrt(svi.total_variance(parameters, k) / 0.3)) > 0).all()


@pytest.mark.parametrize("way", ["to_proto", "from_proto", "serialize", "to_json", "from_json"])
def test_message(benchmark: Any, way: str) -> None:
    surface = surface_of(ModelName.SVI)
    message, text = surface.to_proto(), surface.to_json()
    benchmark.group = "message of 12 expiries"
    ways: dict[str, Callable[[], Any]] = {
        "to_proto": surface.to_proto,
        "from_proto": lambda: Surface.from_proto(message),
        "serialize": message.SerializeToString,
        "to_json": surface.to_json,
        "from_json": lambda: Surface.from_json(text),
    }
    assert benchmark(ways[way])
