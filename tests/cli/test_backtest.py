"""`calib backtest`: history replayed, its numbers held against another calculation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

import calib
from calib.fitting.fit import fit_chains
from calib.fitting.memory import Memory
from calib.modelrisk.innovations import ProcessNoise
from calib.quotes.chain import chains
from calib.store import open_store
from calib.surface.surface import Surface
from tests.cli.backtest_run import CLIMBING, HOURS, SIMULATED, Run, command, simulated_run
from tests.cli.samples import CommandLine, quotes, written

BUCKET, FROM_DAYS, TO_DAYS = "2d-1w", 2.0, 7.0


def block(printed: str, title: str) -> list[list[str]]:
    """The rows of a printed table, cells apart by two spaces or more."""
    lines = printed.partition(title)[2].splitlines()[1:]
    body = lines[next(i for i, line in enumerate(lines) if "───" in line) + 1 :]
    end = next(i for i, line in enumerate(body) if not line.strip())
    return [[cell for cell in line.strip().split("  ") if cell.strip()] for line in body[:end]]


def independent(table: Path) -> pd.DataFrame:
    """A row per quote of the bucket: what was fitted, what was foreseen, and by which bars."""
    rows: list[pd.DataFrame] = []
    last: Surface | None = None
    for chain in chains(calib.read_quotes(table)):
        (fit,) = fit_chains([chain], [last])
        frame = fit.residuals
        frame = frame[frame["used"] & (frame["kind"] == "two_sided")].copy()
        for expiry, mine in frame.groupby("expiry"):
            now = next(one for one in fit.surface.expiries if str(one.expiry) in iso_of(expiry))
            if not FROM_DAYS <= now.years * 365.0 < TO_DAYS:
                continue
            told = mine.assign(foreseen=np.nan, still=np.nan, moving=np.nan)
            old = None if last is None else {o.expiry: o for o in last.expiries}.get(now.expiry)
            if last is not None and old is not None:
                hours = (chain.quote_time - last.quote_time) / np.timedelta64(1, "h")
                carried = Memory().skew_stickiness * np.log(now.forward / old.forward)
                strike = old.forward * np.exp(told["log_moneyness"].to_numpy() + carried)
                half = 0.5 * (told["ask_vol"] - told["bid_vol"])
                scale = old.diagnostics.noise_scale
                noise = half * (scale if scale > 0.0 else 3.0**-0.5)
                told["foreseen"] = last.implied_vol(strike, old.expiry)
                told["still"] = np.hypot(last.vol_error(strike, old.expiry), noise)
                atm = last.implied_vol(old.forward * np.exp(carried), old.expiry)
                process = ProcessNoise()
                drift = atm * process.level * np.sqrt(hours / 8760.0) * now.years**-process.decay
                told["moving"] = np.hypot(told["still"], drift)
            rows.append(told)
        last = fit.surface
    return pd.concat(rows, ignore_index=True)


def iso_of(expiry: object) -> str:
    return pd.Timestamp(str(expiry)).tz_convert(None).isoformat(timespec="microseconds")


def test_errors_and_coverage_are_those_of_another_calculation(tmp_path: Path) -> None:
    run = simulated_run(tmp_path)
    assert run.ended.code == 0
    found = independent(run.table)
    seen = found[found["foreseen"].notna()]
    gap = seen["mid_vol"] - seen["foreseen"]
    ahead = ((seen["bid_vol"] <= seen["foreseen"]) & (seen["foreseen"] <= seen["ask_vol"])).mean()
    inside = found["residual"].abs() <= 0.5 * (found["ask_vol"] - found["bid_vol"])
    (row,) = [
        cells
        for cells in block(run.ended.out, f"{SIMULATED} SVI: errors")
        if cells[0].strip() == BUCKET
    ]
    cells = [cell.strip() for cell in row]
    assert cells[1] == str(len(found))
    assert cells[2] == f"{1e4 * np.sqrt((found['residual'] ** 2).mean()):,.0f}"
    assert cells[4] == f"{inside.mean():.1%}"
    assert cells[5] == str(len(seen))
    assert len(seen) > 20
    assert cells[6] == f"{1e4 * np.sqrt((gap**2).mean()):,.0f}"
    assert cells[8] == f"{ahead:.1%}"
    (row,) = [
        cells
        for cells in block(run.ended.out, f"{SIMULATED} SVI: coverage")
        if cells[0].strip() == BUCKET
    ]
    expected = [
        text
        for bar in ("still", "moving")
        for z in [gap / seen[bar]]
        for text in (
            f"{(z.abs() <= 1).mean():.1%}",
            f"{(z.abs() <= 2).mean():.1%}",
            f"{np.sqrt((z**2).mean()):.2f}",
        )
    ]
    assert [cell.strip() for cell in row[2:]] == expected


def test_a_vol_that_climbs_is_told_with_what_the_market_did(climbing: Run) -> None:
    rows = block(climbing.ended.out, f"{CLIMBING} SVI: alarms, largest first")
    assert rows
    with open_store(str(climbing.store)) as store:
        alarms = store.alarms(CLIMBING)
    assert (alarms["metric"] == "level").any()
    assert (alarms.loc[alarms["metric"] == "level", "value"] > 0.0).all()
    levels = [[cell.strip() for cell in row] for row in rows if "level up" in "  ".join(row)]
    assert levels
    assert all(row[-2] == "+1.0" for row in levels)  # a point an hour, by construction
    strengths = [float(next(c for c in row if "×" in c).strip().strip("×")) for row in rows]
    assert strengths == sorted(strengths, reverse=True)


def test_what_is_stored_is_audited_and_written_once(climbing: Run) -> None:
    assert command("audit", "--store", climbing.store).code == 0

    def counts() -> tuple[int, ...]:
        with open_store(str(climbing.store)) as store:
            frames = (store.metrics(), store.alarms(), store.transitions(), store.quotes())
            return (store.count(), *map(len, frames))

    before = counts()
    assert before[0] == HOURS
    assert command("backtest", climbing.table, "--store", climbing.store).code == 0
    assert counts() == before


def test_chains_without_a_surface_need_a_person(calib_command: CommandLine, tmp_path: Path) -> None:
    frame = quotes(times=3)
    last = frame["quote_time"] == frame["quote_time"].max()
    frame.loc[last, ["bid", "ask"]] = np.nan
    ended = calib_command("backtest", written(tmp_path, frame))
    assert ended.code == 1
    assert "1 of 3 chains gave no good surface" in ended.err
    assert "AAA at 2026-03-02T10:00:00" in ended.err


def test_a_table_without_chains_is_bad_input(calib_command: CommandLine, tmp_path: Path) -> None:
    ended = calib_command("backtest", written(tmp_path, quotes()[:0]))
    assert ended.code == 2
    assert "holds no chain" in ended.err


def test_an_unknown_underlying_is_bad_input(calib_command: CommandLine, tmp_path: Path) -> None:
    ended = calib_command("backtest", written(tmp_path, quotes()), "--underlying", "XXX")
    assert ended.code == 2
    assert "no quotes of XXX" in ended.err
