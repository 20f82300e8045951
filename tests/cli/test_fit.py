"""`calib fit`: files in, tables and files out, and one clear message for what cannot be used."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import calib
from tests.cli.samples import CommandLine, quotes, written


def test_every_expiry_is_printed_with_its_state(calib_command: CommandLine, tmp_path: Path) -> None:
    ended = calib_command("fit", written(tmp_path, quotes()))
    assert ended.code == 0
    assert "AAA  2026-03-02T08:00:00Z  SVI" in ended.out
    for date in ("2026-04-01 08:00", "2026-06-30 08:00"):
        (line,) = [line for line in ended.out.splitlines() if date in line]
        assert "100.0%" in line  # inside bid-ask
        assert line.rstrip().endswith(("converged", "step limit"))
    assert "18 rows, 18 used" in ended.out
    assert ended.err == ""


def test_surfaces_are_lines_of_json_one_a_chain(calib_command: CommandLine, tmp_path: Path) -> None:
    table = written(tmp_path, quotes(("AAA", "BBB"), times=2))
    out = tmp_path / "surfaces.jsonl"
    assert calib_command("fit", table, "--out", out).code == 0
    surfaces = [calib.Surface.from_json(line) for line in out.read_text("utf-8").splitlines()]
    assert [each.underlying for each in surfaces] == ["AAA", "BBB", "AAA", "BBB"]
    direct = [fit.surface for fit in calib.fit_many(calib.read_quotes(table))]
    assert surfaces == direct


@pytest.mark.parametrize("name", ["residuals.parquet", "residuals.csv"])
def test_residuals_have_a_row_for_every_quote(
    calib_command: CommandLine, tmp_path: Path, name: str
) -> None:
    frame = quotes(("AAA", "BBB"))
    frame.loc[3, "strike"] = -1.0
    path = tmp_path / name
    assert calib_command("fit", written(tmp_path, frame), "--residuals", path).code == 0
    read = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    assert len(read) == len(frame)
    assert sorted(set(read.underlying)) == ["AAA", "BBB"]
    assert (read.used == (read.reason.fillna("") == "")).all()
    assert read[~read.used].reason.tolist() == ["BAD_STRIKE"]


def test_a_page_and_pictures_are_written(calib_command: CommandLine, tmp_path: Path) -> None:
    page, pictures = tmp_path / "page.html", tmp_path / "pictures"
    table = written(tmp_path, quotes(("A/A",)))
    ended = calib_command("fit", table, "--page", page, "--pictures", pictures)
    assert ended.code == 0
    assert "A/A" in page.read_text("utf-8")
    names = sorted(path.name for path in pictures.iterdir())
    assert names == ["A_A-smiles.png", "A_A-surface.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures.iterdir())


def test_many_chains_are_summed_up_by_underlying(
    calib_command: CommandLine, tmp_path: Path
) -> None:
    ended = calib_command("fit", written(tmp_path, quotes(("AAA", "BBB"), times=3)))
    assert ended.code == 0
    assert "6 chains" in ended.out
    for name in ("AAA", "BBB"):
        (line,) = [line for line in ended.out.splitlines() if line.strip().startswith(name)]
        assert line.split()[1:5] == ["3", "3", "6", "6"]


def test_one_underlying_can_be_chosen(calib_command: CommandLine, tmp_path: Path) -> None:
    ended = calib_command("fit", written(tmp_path, quotes(("AAA", "BBB"))), "--underlying", "BBB")
    assert ended.code == 0
    assert "BBB" in ended.out
    assert "AAA" not in ended.out


def test_row_stamped_quotes_make_chains_by_the_clock(
    calib_command: CommandLine, tmp_path: Path
) -> None:
    frame = quotes()
    frame["quote_time"] += pd.to_timedelta(np.arange(len(frame)), "s")
    table = written(tmp_path, frame)
    ended = calib_command("fit", table, "--every", "1h", "--max-age", "1h")
    assert ended.code == 1  # at the start of the hour only one row is in force: no surface
    assert "2026-03-02T09:00:00Z" in ended.out
    assert (
        "1 of 2 chains gave no surface, the first of them AAA at 2026-03-02T08:00:00" in ended.err
    )


def test_the_calendar_travels_with_the_surface(calib_command: CommandLine, tmp_path: Path) -> None:
    out = tmp_path / "surfaces.jsonl"
    table = written(tmp_path, quotes())
    assert calib_command("fit", table, "--calendar", "independent", "--out", out).code == 0
    surface = calib.Surface.from_json(out.read_text("utf-8"))
    assert surface.calendar is calib.ExpiryCalendar.INDEPENDENT


def test_a_chain_without_a_surface_needs_a_person(
    calib_command: CommandLine, tmp_path: Path
) -> None:
    frame = pd.concat([quotes(("AAA",)), quotes(("BBB",)).head(2)])
    ended = calib_command("fit", written(tmp_path, frame))
    assert ended.code == 1
    assert "1 of 2 chains gave no surface, the first of them BBB" in ended.err
    assert "too few quotes" in ended.out


def broken(column: str, value: str) -> pd.DataFrame:
    frame = quotes().astype({column: object})
    frame.loc[4, column] = value
    return frame


UNUSABLE = {
    "missing.parquet": "missing.parquet: no such file",
    "quotes.txt": "suffix must be .parquet",
    "garbage.parquet": "garbage.parquet: cannot be read",
    "no_table.csv": "columns 'quote_time', 'venue'",
    "bad_strike.csv": "column 'strike', row 4: 'dear' is not a number",
    "bad_time.csv": "column 'quote_time', row 4: 'noon' is not an ISO 8601 timestamp",
    "empty.csv": "empty.csv holds no chain",
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_is_no_quote_table_is_refused_with_one_message(
    calib_command: CommandLine, tmp_path: Path, name: str
) -> None:
    (tmp_path / "quotes.txt").write_text("quotes", encoding="utf-8")
    (tmp_path / "garbage.parquet").write_bytes(b"garbage")
    (tmp_path / "no_table.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    written(tmp_path, broken("strike", "dear"), "bad_strike.csv")
    written(tmp_path, broken("quote_time", "noon"), "bad_time.csv")
    written(tmp_path, quotes().head(0), "empty.csv")
    ended = calib_command("fit", tmp_path / name)
    assert ended.code == 2
    assert ended.err.startswith("calib: ")
    assert ended.err.count("\n") == 1
    assert UNUSABLE[name] in ended.err
    assert ended.out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "heston"], "heston"),
        (["--calendar", "lunar"], "lunar"),
        (["--every", "soon"], "'soon'"),
        (["--max-age", "1h"], "needs `every`"),
        (["--every", "1h", "--max-age", "1us"], "'1us'"),
        (["--underlying", "ZZZ"], "no quotes of ZZZ; the table holds AAA"),
        (["--residuals", "residuals.xlsx"], "suffix must be .csv or .parquet"),
        (["--out", "no/such/folder/out.jsonl"], "no/such/folder/out.jsonl cannot be written"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_bad_usage_ends_with_2_and_says_what_is_wrong(
    calib_command: CommandLine, tmp_path: Path, arguments: list[str], message: str
) -> None:
    ended = calib_command("fit", written(tmp_path, quotes()), *arguments)
    assert ended.code == 2
    assert message in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("command", "said"), [("fit", "too few"), ("backtest", "no expiry could be fitted")]
)
def test_what_is_compiled_is_kept_for_the_next_run(tmp_path: Path, command: str, said: str) -> None:
    few = quotes()[:2]  # inverted, and too few to compile a fit for
    few["unit"], few["bid"], few["ask"] = "linear", 1.0, 1.1
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    ended = subprocess.run(
        [sys.executable, "-m", "calib", command, str(written(tmp_path, few))],
        check=False, capture_output=True, text=True, env=environment, timeout=240,
    )  # fmt: skip
    assert ended.returncode == 1
    assert said in ended.stderr + ended.stdout
    kept = list((tmp_path / "cache" / "calib" / "compiled").iterdir())
    assert any("implied_vol" in path.name for path in kept)


def test_a_cache_that_cannot_be_used_is_done_without(
    calib_command: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(written(tmp_path, quotes())))
    ended = calib_command("fit", tmp_path / "quotes.parquet")
    assert ended.code == 0
    assert "18 rows, 18 used" in ended.out
    assert "cannot be used" in ended.err
