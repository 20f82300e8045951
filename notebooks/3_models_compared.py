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
# # Models compared
#
# SVI, eSSVI and SABR through the same quotes: how close each comes, where they differ, and why.
#
# | model | parameters an expiry | proved free of arbitrage |
# |---|---|---|
# | SVI | 5: level, angle, rotation, shift, smoothness | at all strikes |
# | eSSVI | 3: ATM variance, correlation, slope | at all strikes |
# | SABR | 3, with β chosen: level, correlation, vol of vol | at the quoted strikes |
#
# The quotes are the sample that ships with calib, or the first table of `CALIB_QUOTES_DIR`.

# %%
# %matplotlib inline
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import calib

folder = os.environ.get("CALIB_QUOTES_DIR")
path = min(Path(folder).glob("*.parquet")) if folder else calib.sample_quotes()
table = pd.read_parquet(path)
table = table[table.underlying == table.underlying.iloc[0]]
quotes = calib.quotes_from_frame(table[table.quote_time == table.quote_time.min()])

# %%
fits = {name: calib.fit(quotes, model=name) for name in ("svi", "essvi", "sabr")}
residuals = {name: each.residuals.residual[each.used] for name, each in fits.items()}
pd.DataFrame(
    {
        name.upper(): {
            "rms of model − mid, bp": 1e4 * np.sqrt((residuals[name] ** 2).mean()),
            "inside bid–ask, mean over expiries": each.diagnostics.in_spread_share.mean(),
            "reduced χ², median": each.diagnostics.chi2_reduced.median(),
            "scope of the proof": each.surface.certificate.scope.name,
        }
        for name, each in fits.items()
    }
)

# %% [markdown]
# ## Where they miss
#
# Mean residuals in half-spreads. A model with too few parameters misses by a pattern: the same
# colours in a column mean that it lacks a degree of freedom there. Noise has none.

# %%
calib.plot.residual_map(fits["svi"], by="strike")

# %%
calib.plot.residual_map(fits["essvi"], by="strike")

# %%
calib.plot.residual_map(fits["sabr"], by="strike")

# %% [markdown]
# ## Where they differ
#
# At the same strikes, in units of what the quotes leave open: the range of the three vols over
# SVI's standard error. Within the quotes they may differ by more than their error bars say, which
# only know of the quotes' errors and take the model to be right. Beyond the quotes each goes
# where its formula leads.

# %%
svi = fits["svi"].surface
common = [
    each.expiry
    for each in svi.expiries
    if all(each.expiry in [e.expiry for e in f.surface.expiries] for f in fits.values())
]
depth = np.arange(-4.0, 4.5, 1.0)
ranges, vols = {}, {}
for expiry in common:
    each = next(e for e in svi.expiries if e.expiry == expiry)
    strikes = each.forward * np.exp(depth * np.sqrt(svi.total_variance(0.0, expiry)))
    vols[expiry] = np.array([f.surface.implied_vol(strikes, expiry) for f in fits.values()])
    inside = ~svi.is_extrapolated(strikes, expiry)
    label = f"{pd.Timestamp(expiry):%d %b %Y}"
    ranges[label] = [
        f"{1e4 * spread:.0f}{'' if within else ' *'}"
        for spread, within in zip(np.ptp(vols[expiry], axis=0), inside, strict=True)
    ]
print("range of vols in bp, by normalised strike; * beyond the quotes")
pd.DataFrame(ranges, index=[f"{d:+.0f}" for d in depth]).T

# %%
COLOURS = {"svi": "#c8322b", "essvi": "#3b5b7c", "sabr": "#b06a00"}
expiry = common[len(common) // 2]
figure = calib.plot.smile(fits["svi"], expiry)
axes = figure.axes[0]
k = np.linspace(*axes.get_xlim(), 200)
for name in ("essvi", "sabr"):
    one = fits[name].surface
    years = next(e.years for e in one.expiries if e.expiry == expiry)
    vol = 100.0 * np.sqrt(one.total_variance(k, expiry) / years)
    axes.plot(k, vol, color=COLOURS[name], lw=1.4, label=name.upper())
axes.legend(fontsize=7, frameon=False)
figure

# %% [markdown]
# The wings decide what far options and variance swaps cost. SVI's wings have a slope each, of
# five free parameters; eSSVI's slopes are tied to the smile's middle; SABR is an expansion that
# holds within the quotes only, and calib goes on linearly from there.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.6), layout="constrained")
forward = next(e.forward for e in svi.expiries if e.expiry == expiry)
k = np.linspace(-6.0, 6.0, 300) * np.sqrt(svi.total_variance(0.0, expiry))
swaps = {}
for name, each in fits.items():
    one = each.surface
    left.plot(k, one.total_variance(k, expiry), color=COLOURS[name], lw=1.4, label=name.upper())
    chance = one.distribution(forward * np.exp(k), expiry)
    right.semilogy(k, np.minimum(chance, 1.0 - chance), color=COLOURS[name], lw=1.4)
    swaps[name.upper()] = [one.variance_swap(expiry) for expiry in common]
for axes in (left, right):
    axes.set_xlabel("log-moneyness ln(K/F)", fontsize=8)
left.set_ylabel("total variance", fontsize=8)
right.set_ylabel("chance to end beyond the strike", fontsize=8)
right.set_ylim(1e-6, 1.0)
left.legend(frameon=False, fontsize=8)
plt.show()

# %%
print("variance swaps, % vol")
index = [f"{pd.Timestamp(each):%d %b %Y}" for each in common]
(100.0 * pd.DataFrame(swaps, index=index)).round(2)

# %% [markdown]
# ## Who is right?
#
# In the simulated market that can be told: its true vols are known, from a stochastic-volatility
# model with jumps that is none of the three. The error of each model against the truth, and how
# many of its own standard errors that is. Error bars know of the quotes' errors and take the
# model to be right: the fewer its parameters, the smaller they are, and the further the model is
# from the truth in bars.

# %%
if not folder:
    market = calib.simulate(calib.SimulatorSettings(expiries=6, strikes=24, snapshots=1))
    known = (market.quotes.underlying == table.underlying.iloc[0]).to_numpy()
    options, truth = market.quotes[known], market.truth[known].true_vol
    rows = []
    for name, each in fits.items():
        one = each.surface
        for expiry, mine in options.groupby("expiry"):
            slice_ = next(e for e in one.expiries if pd.Timestamp(e.expiry, tz="UTC") == expiry)
            strikes = mine.strike.to_numpy()
            z = np.log(strikes / slice_.forward) / np.sqrt(one.total_variance(0.0, slice_.expiry))
            miss = one.implied_vol(strikes, slice_.expiry) - truth[mine.index].to_numpy()
            bar = one.vol_error(strikes, slice_.expiry)
            where = np.select(
                [np.abs(z) < 1.0, np.abs(z) < 2.5], ["within 1 deviation", "1 to 2.5"], "beyond"
            )
            rows.append(
                pd.DataFrame({"model": name.upper(), "where": where, "miss": miss, "bar": bar})
            )
    against = pd.concat(rows)
    against["ratio"] = against.miss / against.bar
    rms = against.groupby(["where", "model"])[["miss", "ratio"]].agg(
        lambda x: np.sqrt((x**2).mean())
    )
    rms["miss"] *= 1e4
    rms.columns = ["rms error, bp", "in standard errors"]
    display(rms.round(2).unstack("where"))  # noqa: F821
