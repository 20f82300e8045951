"""The evaluator gives what the rule says, from the JSON of the message alone."""

from __future__ import annotations

import json
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.json_format import ParseDict

from calib.client.update import update_of
from calib.conventions import to_instant
from calib.errors import NotFitted
from calib.surface.instants import years_from
from calib.surface.surface import Surface
from calib.v1 import surface_service_pb2
from tests.conformance.generate import fixtures

FOLDER = Path(__file__).parent
STATES = FOLDER / "states.json"
FILES = sorted({*FOLDER.glob("*.json")} - {STATES})
TOLERANCE = 1e-12

Json = dict[str, Any]


def _load(path: Path) -> tuple[Surface, list[Json]]:
    fixture = json.loads(path.read_text())
    return Surface.from_json(json.dumps(fixture["surface"])), fixture["cases"]


def _time(case: Json) -> str | float:
    return case["years"] if "years" in case else case["expiry"]  # type: ignore[no-any-return]


def _answers(surface: Surface, strike: Any, time: Any) -> Json:
    forward = surface.forward(time)
    with np.errstate(invalid="ignore", divide="ignore"):
        k = np.log(np.asarray(strike) / forward)
    return {
        "forward": forward,
        "discountFactor": surface.discount_factor(time),
        "totalVariance": surface.total_variance(k, time),
        "impliedVol": surface.implied_vol(strike, time),
        "volError": surface.vol_error(strike, time),
    }


def _agrees(value: float, expected: float | None) -> bool:
    if expected is None:
        return isnan(value)
    return abs(value - expected) <= TOLERANCE * max(1.0, abs(expected))


def test_there_are_cases() -> None:
    assert {path.stem for path in (*FILES, STATES)} == {name for name, _ in fixtures()}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_case_one_by_one(path: Path) -> None:
    surface, cases = _load(path)
    wrong = []
    for case in cases:
        strike, time, expected = case["strike"], _time(case), case["expected"]
        if "notFitted" in expected:
            with pytest.raises(NotFitted):
                surface.implied_vol(strike, time)
            continue
        for name, value in _answers(surface, strike, time).items():
            if not _agrees(value, expected[name]):
                wrong.append((name, strike, time, value, expected[name]))
        if surface.is_extrapolated(strike, time) is not expected["extrapolated"]:
            wrong.append(("extrapolated", strike, time, None, expected["extrapolated"]))
    assert wrong == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_all_cases_as_arrays(path: Path) -> None:
    surface, cases = _load(path)
    if not surface.expiries:
        with pytest.raises(NotFitted):
            surface.forward(np.array([0.5]))
        return
    cases = [case for case in cases if "notFitted" not in case["expected"]]
    strikes = np.array([case["strike"] for case in cases])
    for instants in (True, False):  # an array holds instants or years, not both
        chosen = [i for i, case in enumerate(cases) if ("expiry" in case) is instants]
        times: Any = [_time(cases[i]) for i in chosen]
        if not instants:
            times = np.array(times, np.float64)
        answers = _answers(surface, strikes[chosen], times)
        for name, values in answers.items():
            expected = [cases[i]["expected"][name] for i in chosen]
            assert len(values) == len(expected)
            assert all(map(_agrees, values, expected)), name
        flags = surface.is_extrapolated(strikes[chosen], times)
        assert list(flags) == [cases[i]["expected"]["extrapolated"] for i in chosen]


def test_an_update_is_relied_on_no_further_than_it_says() -> None:
    fixture = json.loads(STATES.read_text())
    seen = set()
    for case in fixture["cases"]:
        message = ParseDict(
            {**case["update"], "surface": fixture["surface"]}, surface_service_pb2.SurfaceUpdate()
        )
        update = update_of(message, lambda now=case["now"]: to_instant(now))  # type: ignore[misc]
        levels = [update.level_of(one.expiry).name for one in update.surface.expiries]
        found = {"state": update.state.name, "level": update.level.name, "expiries": levels}
        assert found == case["expected"], case["update"]
        seen |= {found["state"], found["level"], *levels}
    assert seen == {"LIVE", "STALE", "NORMAL", "WIDENED", "HELD", "HALTED"}


def test_the_files_are_what_the_reference_says() -> None:
    for name, fixture in fixtures():
        stored = json.loads((FOLDER / f"{name}.json").read_text())
        assert stored == json.loads(json.dumps(fixture)), name


def test_the_cases_reach_every_clause() -> None:
    """Each kind of answer is among them, so that an engine cannot pass by leaving one out."""
    seen = set()
    for path in FILES:
        surface, cases = _load(path)
        for case in cases:
            expected = case["expected"]
            if "notFitted" in expected:
                seen.add("not fitted")
                continue
            unknown = expected["volError"] is None and expected["impliedVol"] is not None
            seen |= {"error unknown"} if unknown else set()
            seen |= {"extrapolated"} if expected["extrapolated"] else {"inside"}
            seen |= {"no strike"} if expected["logMoneyness"] is None else set()
            seen |= {"no time"} if expected["forward"] is None else set()
            time = float(years_from(surface.quote_time, _time(case)))
            if surface.expiries and time > surface.expiries[-1].years:
                seen.add("beyond")
            if surface.variance_clock and time not in {one.years for one in surface.expiries}:
                last = surface.expiries[-1].years < time <= surface.variance_clock[-1].years
                seen.add("beyond by the clock" if last else "by the clock")
    assert seen == {
        "not fitted",
        "error unknown",
        "extrapolated",
        "inside",
        "no strike",
        "no time",
        "beyond",
        "by the clock",
        "beyond by the clock",
    }
