"""Fit settings as documents: whatever they are, JSON gives them back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from calib.conventions import ExpiryCalendar
from calib.errors import InvalidRequest
from calib.fitting.least_squares import Tolerances
from calib.fitting.memory import Memory
from calib.fitting.settings import FitSettings
from calib.fitting.settings_document import settings_from_document, settings_to_document
from calib.fitting.smile import LossName
from calib.market.closures import Closure, Event, WeeklyClosure
from calib.market.variance_clock import VarianceClock
from calib.states import ModelName

CLOCK = VarianceClock(
    weekly=(WeeklyClosure("Saturday 06:00", "Sunday 18:00", 1 / 3),),
    closures=(Closure("2026-12-25", "2026-12-26T00:00:00.000001", 0.6),),  # type: ignore[arg-type]
    events=(Event("2026-12-09T19:00", 0.5), Event("2026-12-09", 0.1, "2026-12-10")),  # type: ignore[arg-type]
)


@pytest.mark.parametrize(
    "settings",
    [
        FitSettings(),
        FitSettings(memory=None, arbitrage_free=False, loss=LossName.SOFT_L1, beta=0.7),
        FitSettings(
            model=ModelName.SABR,
            calendar=ExpiryCalendar.INDEPENDENT,
            memory=Memory(1 / 3, (0.1, 0.2, 0.3, 0.4, 0.5)),
            clocks={"BTC": CLOCK, "ETH": VarianceClock()},
            tolerances=Tolerances(cost=1e-9, max_steps=7),
        ),
    ],
)
def test_settings_come_back_from_json(settings: FitSettings) -> None:
    text = json.dumps(settings_to_document(settings), allow_nan=False)
    assert settings_from_document(json.loads(text)) == settings


def test_a_document_of_another_version_is_refused() -> None:
    document = settings_to_document(replace(FitSettings(), min_quotes=3))
    with pytest.raises(InvalidRequest, match="nonsense"):
        settings_from_document(document | {"nonsense": 1})
    with pytest.raises(InvalidRequest, match="QUADRATIC"):
        settings_from_document(document | {"model": "QUADRATIC"})
