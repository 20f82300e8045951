"""`--check-config`: what is printed is a file that gives the same settings, and tells no secret."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from calib.errors import InvalidRequest
from calib.service.effective_settings import check_files, effective
from calib.service.settings import load_settings

FILE = """
listen = "[::1]:50100"
model = "essvi"
quote_max_age = "90s"
heartbeat = 0.25
keep_rows = "365d"
warm_up_expiries = [8, 24]
[models]
"BRK.B" = "sabr"
[calendars]
VIX = "independent"
[clocks.BTC]
weekly = [{ start = "Saturday 06:00", end = "Sunday 18:00", weight = 0.4 }]
closures = [{ start = 2026-12-25T00:00:00Z, end = 2026-12-26T00:00:00Z, weight = 0.6 }]
events = [{ start = 2026-12-09T19:00:00Z, extra_days = 0.5 }]
[identities.anonymous]
read = ["*"]
limits = { streams = 5 }
[limits]
rows_per_second = 2e6
[model_risk.breakers.limits.stale_feed]
held = 3.0
halted = inf
[model_risk.charts.cusum]
limit = 6.0
"""


def test_what_is_printed_gives_the_same_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, printed = tmp_path / "given.toml", tmp_path / "printed.toml"
    given.write_text(FILE)
    monkeypatch.setenv("CALIB_MAX_WATCHES", "7")
    flags = {"store": "none", "listen": None}
    settings = load_settings(given, flags)
    text = effective(settings, given, flags)
    monkeypatch.delenv("CALIB_MAX_WATCHES")
    printed.write_text(text)
    assert load_settings(printed) == settings
    assert settings != load_settings(given)
    for line in (
        f'listen = "[::1]:50100"  # {given}',
        "max_watches = 7  # CALIB_MAX_WATCHES",
        'store = "none"  # --store',
        'heartbeat = "0.25s"  # ' + str(given),
        'write_timeout = "5s"',
        f"[identities.anonymous]  # {given}",
    ):
        assert line in text.splitlines()


def test_the_defaults_are_printed_too() -> None:
    names = set(tomllib.loads(effective(load_settings())))
    assert names == set(type(load_settings()).model_fields)


def test_a_password_is_masked() -> None:
    flags = {"store": "postgresql://calib:pass-word@db.desk/calib", "quotes_folder": "/q"}
    text = effective(load_settings(flags=flags), None, flags)
    assert "pass-word" not in text
    assert "postgresql+pg8000://calib:***@db.desk/calib" in text or "calib:***@db.desk" in text


def test_files_that_the_settings_name_are_looked_at(tmp_path: Path) -> None:
    tls = {"tls_certificate": tmp_path / "absent.pem", "tls_key": tmp_path / "absent.key"}
    with pytest.raises(InvalidRequest, match=r"absent\.pem cannot be read"):
        check_files(load_settings(flags=tls))
    tokens = {
        "tokens": tmp_path / "absent",
        "identities": {"quoter": {"read": ["*"]}},
        "insecure": True,
    }
    with pytest.raises(InvalidRequest, match="absent cannot be read"):
        check_files(load_settings(flags=tokens))
    check_files(load_settings())
