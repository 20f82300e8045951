"""Settings: flags before environment before file before defaults; errors name the culprit."""

from __future__ import annotations

from datetime import timedelta
from math import inf
from pathlib import Path

import numpy as np
import pytest

from calib.conventions import ExpiryCalendar
from calib.errors import InvalidRequest
from calib.market.closures import Closure, Event, WeeklyClosure
from calib.market.variance_clock import VarianceClock
from calib.modelrisk.breakers import Limits, Trigger
from calib.service.settings import ServiceSettings, load_settings
from calib.states import ModelName


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "calib.toml"
    path.write_text(
        """
listen = "127.0.0.1:1001"
model = "sabr"
heartbeat = "3s"
[calendars]
VIX = "independent"
[models]
ETH = "essvi"
"""
    )
    return path


def test_defaults_listen_on_loopback_with_a_store() -> None:
    settings = load_settings()
    assert settings.listen == "127.0.0.1:50051"
    assert settings.store == "sqlite:///calib.db"
    assert settings.model_of("BTC") is ModelName.SVI
    assert settings.calendar_of("BTC") is ExpiryCalendar.SAME_ASSET


def test_each_layer_overrides_the_one_below(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings(file).listen == "127.0.0.1:1001"
    monkeypatch.setenv("CALIB_LISTEN", "127.0.0.1:1002")
    monkeypatch.setenv("CALIB_QUOTE_MAX_AGE", "90s")
    monkeypatch.setenv("CALIB_QUOTES_DIR", "/somewhere")  # not a setting of the server
    settings = load_settings(file, {"listen": None})
    assert settings.listen == "127.0.0.1:1002"
    assert settings.quote_max_age == timedelta(seconds=90)
    assert settings.heartbeat == timedelta(seconds=3)
    assert load_settings(file, {"listen": "127.0.0.1:1003"}).listen == "127.0.0.1:1003"


def test_tables_name_single_underlyings(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_CALENDARS", '{"TTF": "independent"}')
    settings = load_settings(file)
    assert settings.calendar_of("VIX") is ExpiryCalendar.INDEPENDENT
    assert settings.calendar_of("TTF") is ExpiryCalendar.INDEPENDENT
    assert settings.calendar_of("BTC") is ExpiryCalendar.SAME_ASSET
    assert settings.model_of("ETH") is ModelName.ESSVI
    assert settings.model_of("BTC") is ModelName.SABR


def test_clocks_name_single_underlyings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "calib.toml"
    path.write_text(
        """
[clocks.BTC]
weekly = [{ start = "Saturday 06:00", end = "Sunday 18:00", weight = 0.4 }]
closures = [{ start = 2026-12-25T00:00:00Z, end = "2026-12-26T00:00:00Z", weight = 0.6 }]
events = [{ start = 2026-12-09T19:00:00Z, extra_days = 0.5 }]
"""
    )
    settings = load_settings(path)
    clock = VarianceClock(
        weekly=(WeeklyClosure("Saturday 06:00", "Sunday 18:00", 0.4),),
        closures=(Closure(np.datetime64("2026-12-25"), np.datetime64("2026-12-26"), 0.6),),
        events=(Event(np.datetime64("2026-12-09T19:00"), 0.5),),
    )
    assert settings.clock_of("BTC") == clock
    assert settings.clock_of("ETH") is None
    assert load_settings(None, {"clocks": {"BTC": clock}}).clock_of("BTC") == clock
    weekly = '[{"start": "sat 00:00", "end": "mon 00:00", "weight": 0.5}]'
    monkeypatch.setenv("CALIB_CLOCKS", f'{{"ETH": {{"weekly": {weekly}}}}}')
    assert load_settings().clock_of("ETH") == VarianceClock.weekends(0.5)


def test_no_store_can_be_asked_for() -> None:
    assert load_settings(None, {"store": "none"}).store is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"listen": "somewhere"}, "setting listen = 'somewhere'"),
        ({"model": "heston"}, "setting model = 'heston': must be one of svi, essvi, sabr"),
        ({"quote_max_age": "soon"}, "setting quote_max_age = 'soon'"),
        ({"heartbeat": -1}, "setting heartbeat = -1"),
        ({"max_watches": 0}, "setting max_watches = 0"),
        ({"calendars": {"VIX": "odd"}}, "setting calendars.VIX = 'odd'"),
        ({"clocks": {"BTC": {"weekend": []}}}, "setting clocks.BTC = {'weekend': []}: a clock has"),
        (
            {"clocks": {"BTC": {"events": [{"start": "2026-01-01", "extra_days": -1}]}}},
            "extra_days is -1, must be positive",
        ),
        ({"store": "postgresql://desk/calib"}, "needs quotes_folder"),
        ({"store": "mysql://desk/calib"}, "a store is an SQLite file or a PostgreSQL database"),
        ({"colour": "red"}, "there is no setting 'colour'"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(flags: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        load_settings(None, flags)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("listen = ", "cannot be read"), ("colour = 'red'", "there is no setting 'colour'")],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(InvalidRequest, match=message) as caught:
        load_settings(path)
    assert "bad.toml" in str(caught.value)
    with pytest.raises(InvalidRequest, match="absent"):
        load_settings(tmp_path / "absent.toml")


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        ServiceSettings().listen = "127.0.0.1:1"  # type: ignore[misc]


def test_thresholds_of_model_risk_replace_what_they_name(tmp_path: Path) -> None:
    path = tmp_path / "calib.toml"
    path.write_text(
        """
quote_max_age = "2min"
compare_every = "none"
metrics = "127.0.0.1:9100"
[model_risk.breakers]
probation_seconds = 60
[model_risk.breakers.limits.innovation]
widened = 5.0
held = inf
[model_risk.charts.cusum]
limit = 6.0
"""
    )
    settings = load_settings(path)
    monitor = settings.monitor
    assert monitor.quote_max_age_seconds == 120.0
    assert monitor.breakers.probation_seconds == 60.0
    assert monitor.breakers.limits[Trigger.INNOVATION] == Limits(5.0, inf)
    assert monitor.breakers.limits[Trigger.RESIDUALS] == Limits(3.0, 7.0)
    assert (monitor.charts.cusum.limit, monitor.charts.cusum.slack) == (6.0, 0.5)
    assert settings.compare_every is None
    assert settings.metrics == "127.0.0.1:9100"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"breaker": {}}, "there is no breaker; choose"),
        ({"breakers": {"limits": {"inovation": {}}}}, "there is no breakers.limits.inovation"),
        ({"breakers": {"limits": {"alarm": {"held": "high"}}}}, "limits.alarm.held must be a numb"),
        ({"breakers": {"limits": {"stale_feed": {"held": 9.0}}}}, "limits.stale_feed = .* ascend"),
        ({"breakers": {"release": 1.5}}, "breakers.release = 1.5 must be above 0"),
        ({"breakers": {"probation": 2.5}}, "breakers.probation must be a whole number, not 2.5"),
        ({"breakers": {"probation": 0}}, "breakers.probation = 0 must be at least 1"),
        ({"venues": {"probation": 0}}, "venues.probation = 0 must be at least 1"),
        ({"venues": {"apart": -1.0}}, "venues.apart = -1.0 must be positive"),
        ({"venues": {"patience": 1.0}}, "there is no venues.patience; choose silent_seconds"),
        ({"breakers": {"least_multiplier": 20.0}}, "at most greatest_multiplier = 10"),
        ({"charts": {"ewma": {"weight": 0.0}}}, "charts.ewma.weight = 0.0 must be above 0"),
        ({"charts": 3}, "charts must be a table, not 3"),
        ({"quote_max_age_seconds": 5.0}, "follows the setting quote_max_age"),
    ],
)
def test_thresholds_that_cannot_be_are_refused_by_name(table: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidRequest, match=f"setting model_risk = .*{said}"):
        load_settings(flags={"model_risk": table})
