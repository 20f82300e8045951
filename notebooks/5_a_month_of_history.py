# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A month of history
#
# Recalibrate it into a store, replay it as the live service would have seen it, find the worst
# day, and say what happened.
#
# With `CALIB_QUOTES_DIR` set to a folder that holds a month of Deribit quotes, that is the
# history. Otherwise a month is simulated, and something goes wrong in it: what, where and when is
# on record and will be compared with what the backtest finds.

# %%
# %matplotlib inline
import os
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import calib

pd.set_option("display.max_colwidth", 120)
work = Path(mkdtemp())


def command(line: str, show: int = 40) -> None:
    """Run a line as in a shell, and show the beginning of what it prints."""
    run = [sys.executable, "-m", *line.split()]
    plain = {**os.environ, "COLUMNS": "160", "TERM": "dumb", "FORCE_COLOR": ""}
    done = subprocess.run(run, cwd=work, env=plain, capture_output=True, text=True, check=False)
    print("\n".join(each.rstrip() for each in done.stdout.splitlines()[:show]))
    assert done.returncode in (0, 1), done.stderr


# %%
months = sorted(Path(os.environ.get("CALIB_QUOTES_DIR", work)).glob("deribit_2026-0[13].parquet"))
if months:
    quotes = months[-1]
else:
    quotes = work / "month.parquet"
    command(
        f"calib simulate --out {quotes} --underlyings 1 --expiries 4 --strikes 16 --snapshots 31 "
        "--interval 1d --hostile vol-jump --causes causes.parquet"
    )

# %% [markdown]
# ## Recalibrate
#
# `calib recalibrate` fits every chain, a UTC day of an underlying at a time, and stores surfaces
# and quotes. Given again it has nothing to do: what is stored is recognised and left alone.

# %%
command(f"calib recalibrate {quotes} --store history.db --underlying BTC")

# %% [markdown]
# The store gives surfaces back as they were. Handles at constant times to expiry, with their
# error bars:

# %%
with calib.open_store(str(work / "history.db")) as store:
    surfaces = list(store.surfaces("BTC"))
print(
    f"{len(surfaces)} surfaces, all free of arbitrage: "
    f"{all(each.certificate.arbitrage_free for each in surfaces)}"
)
calib.plot.history(surfaces, expiries=[7 / 365, 30 / 365, 60 / 365])

# %% [markdown]
# ## Replay
#
# `calib backtest` judges each chain by the surface that stood before it, then fits it. Nothing
# looks ahead. It says how far errors and error bars could be trusted, what alarms there were and
# what tripped.

# %%
command(f"calib backtest {quotes} --store backtest.db --underlying BTC", show=44)

# %% [markdown]
# ## The worst day
#
# The worst is when the next quotes lay furthest from what the surface before had said: the root
# mean square, over all quotes of a day.

# %%
with calib.open_store(str(work / "backtest.db")) as store:
    metrics, alarms = store.metrics("BTC"), store.alarms("BTC")
    transitions = store.transitions("BTC")
    replayed = list(store.surfaces("BTC"))

expiries = metrics[metrics.subject == "expiry"].dropna(subset="forecast_rms")
square = expiries.forecast_rms**2 * expiries.forecast_count
by_chain = (
    pd.DataFrame({"square": square, "count": expiries.forecast_count})
    .groupby(expiries.quote_time)
    .sum()
)
by_day = by_chain.groupby(by_chain.index.floor("D")).sum()
error = 1e4 * np.sqrt(by_day["square"] / by_day["count"])
worst = error.idxmax()

figure, axes = plt.subplots(figsize=(9.6, 2.6), layout="constrained")
colours = ["#c8322b" if day == worst else "#3b5b7c" for day in error.index]
axes.bar(error.index, error, color=colours, width=0.8)
axes.set_ylabel("one-step error, bp of vol", fontsize=8)
axes.set_title(
    f"worst: {worst:%d %B}, {error.max():.0f} bp; median {error.median():.0f} bp",
    fontsize=9,
    loc="left",
)
plt.show()
# %% [markdown]
# What the monitor said on that day: alarms of the control charts, breakers, and the causes with
# the strongest evidence.

# %%
of_day = [part[part.quote_time.dt.floor("D") == worst] for part in (alarms, transitions, metrics)]
for cause in of_day[0].cause.head(4):
    print("alarm:  ", cause)
for _, one in of_day[1].head(4).iterrows():
    print(f"breaker: {one.before} → {one.after}, {one.cause}")
findings = of_day[2][of_day[2].subject == "finding"]
findings = findings.assign(excess=(findings.value / findings.limit).abs())
findings.sort_values("excess", ascending=False)[["quote_time", "expiry", "cause", "text"]].head(6)

# %% [markdown]
# The same as a picture: the worst chain of that day against the surface that stood before it.

# %%
chains = by_chain[by_chain.index.floor("D") == worst]
moment = (chains["square"] / chains["count"]).idxmax()
before = [each for each in replayed if pd.Timestamp(each.quote_time, tz="UTC") < moment][-1]
table = pd.read_parquet(quotes)
chain = table[(table.underlying == "BTC") & (table.quote_time == moment)]
fit = calib.fit(calib.quotes_from_frame(chain))
held = {each.expiry for each in before.expiries}
expiry = [each.expiry for each in fit.surface.expiries if each.expiry in held][-2]

figure = calib.plot.smile(fit, expiry)
axes = figure.axes[0]
k = np.linspace(*axes.get_xlim(), 200)
years = next(each.years for each in before.expiries if each.expiry == expiry)
axes.plot(
    k,
    100.0 * np.sqrt(before.total_variance(k, expiry) / years),
    color="#3b5b7c",
    lw=1.4,
    label=f"before: {pd.Timestamp(before.quote_time):%d %b %H:%M}",
)
axes.relim()
axes.autoscale(axis="y")
axes.legend(fontsize=7, frameon=False)
figure

# %%
around = [
    each
    for each in replayed
    if abs(pd.Timestamp(each.quote_time, tz="UTC") - moment) < pd.Timedelta("3D")
]
calib.plot.history(around, ["atm_vol", "skew", "risk_reversal_25", "a"], [expiry])

# %% [markdown]
# Level, skew and the rest tell what kind of day it was. In the simulated month the whole smile
# moves at once and its shape stays within its error bars; the answer is on record: the worst day is
# an end of a jump of vols, over and above what they did by themselves.

# %%
if not months:
    causes = pd.read_parquet(work / "causes.parquet")
    true = causes[(causes.start <= moment) & (moment <= causes.end)]
    print(true[["cause", "size", "start", "end"]].to_string(index=False))
    assert list(true.cause) == ["vol-jump"]
