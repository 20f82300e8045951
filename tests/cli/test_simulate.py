"""`calib simulate`: seeded markets as files, with their truth."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import calib
from calib.feeds.hostile.fault import FaultName
from tests.cli.samples import CommandLine

SMALL = ("--underlyings", 2, "--expiries", 2, "--strikes", 5, "--snapshots", 2)


def test_quotes_and_truth_have_the_same_rows(calib_command: CommandLine, tmp_path: Path) -> None:
    quotes, truth = tmp_path / "q.parquet", tmp_path / "t.parquet"
    ended = calib_command("simulate", "--out", quotes, "--truth", truth, *SMALL)
    assert ended.code == 0
    table, true = calib.read_quotes(quotes), pd.read_parquet(truth)
    assert len(table) == len(true) == 2 * 2 * 5 * 2 * 2
    assert table.underlyings == ("BTC", "ETH")
    assert len(np.unique(table.quote_time)) == 2
    np.testing.assert_array_equal(table.strike, true.strike)
    assert f"{len(table)} rows at 2 moments" in ended.out


def test_the_suffix_says_how_it_is_written(calib_command: CommandLine, tmp_path: Path) -> None:
    for name in ("q.csv", "q.parquet"):
        assert calib_command("simulate", "--out", tmp_path / name, *SMALL).code == 0
    text, binary = (calib.read_quotes(tmp_path / name) for name in ("q.csv", "q.parquet"))
    for column in ("quote_time", "expiry", "strike", "bid", "ask", "forward", "right", "unit"):
        np.testing.assert_array_equal(getattr(text, column), getattr(binary, column))


def test_a_seed_is_a_market(calib_command: CommandLine, tmp_path: Path) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        path = tmp_path / f"{name}.parquet"
        assert calib_command("simulate", "--out", path, "--seed", seed, *SMALL).code == 0
    a, b, c = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in "abc")
    pd.testing.assert_frame_equal(a, b)
    assert not a.bid.equals(c.bid)


def test_time_can_be_chosen(calib_command: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "q.parquet"
    when = ("--start", "2026-07-01T10:00:00+02:00", "--interval", "10min")
    assert calib_command("simulate", "--out", path, *when, *SMALL).code == 0
    times = np.unique(calib.read_quotes(path).quote_time).tolist()
    assert [str(t) for t in times] == ["2026-07-01 08:00:00", "2026-07-01 08:10:00"]


def test_a_hostile_market_has_its_causes_on_record(
    calib_command: CommandLine, tmp_path: Path
) -> None:
    quotes, truth, causes = (tmp_path / f"{name}.parquet" for name in ("q", "t", "c"))
    faults = ("--hostile", "shifted-venue,missing-strikes", "--causes", causes)
    size = (*SMALL, "--snapshots", 5)
    ended = calib_command("simulate", "--out", quotes, "--truth", truth, *faults, *size)
    assert ended.code == 0
    assert "2 faults" in ended.out
    table, true, found = calib.read_quotes(quotes), pd.read_parquet(truth), pd.read_parquet(causes)
    assert set(table.venue.texts()) == {"simulated", "simulated-2"}
    np.testing.assert_array_equal(table.strike, true.strike)
    assert found.cause.tolist() == ["shifted-venue", "missing-strikes"]
    assert found.underlying.tolist() == ["BTC", "ETH"]
    assert found.venue[0] == "simulated-2"


def test_the_help_names_every_fault(calib_command: CommandLine) -> None:
    words = set(calib_command("simulate", "--help").out.replace(",", " ").replace(".", " ").split())
    assert {name.value for name in FaultName} <= words


def test_the_packaged_sample_is_what_the_simulator_makes(
    calib_command: CommandLine, tmp_path: Path
) -> None:
    path = tmp_path / "sample.parquet"
    options = ("--expiries", 6, "--strikes", 24, "--snapshots", 3, "--interval", "10min")
    assert calib_command("simulate", "--out", path, *options).code == 0
    made, kept = calib.read_quotes(path), calib.read_quotes(calib.sample_quotes())
    np.testing.assert_array_equal(made.strike, kept.strike)
    np.testing.assert_array_equal(made.expiry, kept.expiry)
    # Prices stand on ticks: where the last digits of a platform differ, a few may be a tick apart.
    for side in ("bid", "ask"):
        same = np.isclose(getattr(made, side), getattr(kept, side), rtol=1e-9, equal_nan=True)
        assert same.mean() > 0.995


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "q.xlsx"], "suffix must be .csv or .parquet"),
        (["--out", "no/such/folder/q.csv"], "no/such/folder/q.csv cannot be written"),
        (["--out", "q.csv", "--strikes", "0"], "--strikes"),
        (["--out", "q.csv", "--interval", "fortnight"], "'fortnight'"),
        (["--out", "q.csv", "--start", "noon"], "'noon' is not an instant"),
        (["--out", "q.csv", "--hostile", "earthquake"], "'earthquake' is no fault"),
        (["--out", "q.csv", "--hostile", "vol-jump"], "need 3 snapshots, not 1"),
        (["--out", "q.csv", "--causes", "c.csv"], "--causes needs --hostile"),
        ([], "--out"),
    ],
)
def test_bad_usage(
    calib_command: CommandLine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = calib_command("simulate", *arguments, "--snapshots", 1, "--expiries", 1)
    assert ended.code == 2
    assert message in ended.err
    assert "Traceback" not in ended.err
