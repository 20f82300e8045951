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
# # A surface
#
# What holds smiles together: the calendar between them, the law of the price that they imply,
# error bars, the values between expiries, and the few numbers that traders read off.
#
# The quotes are the sample that ships with calib, a simulated market. With `CALIB_QUOTES_DIR` set
# to a folder of quote tables, the first of them is read instead.

# %%
# %matplotlib inline
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import calib

# %%
folder = os.environ.get("CALIB_QUOTES_DIR")
path = min(Path(folder).glob("*.parquet")) if folder else calib.sample_quotes()
table = pd.read_parquet(path)
table = table[table.underlying == table.underlying.iloc[0]]
quotes = calib.quotes_from_frame(table[table.quote_time == table.quote_time.min()])
fit = calib.fit(quotes)
surface = fit.surface
surface

# %% [markdown]
# ## The calendar
#
# Total variance w = σ²T at a constant log-moneyness must not fall with time: a line that dips
# below the one before it is an arbitrage between two expiries.

# %%
calib.plot.total_variance(surface)

# %% [markdown]
# That no lines cross is not a matter of looking. The certificate bounds the growth from one
# expiry to the next, and Durrleman's g, from below at *every* strike.

# %%
certificate = surface.certificate
print(certificate.scope.name)
print(f"w of an expiry is at least {certificate.calendar_margin:.1%} above that of the one before")
print(f"g is at least {certificate.butterfly_margin:.3f}")
assert certificate.arbitrage_free

# %% [markdown]
# Without that condition each expiry is fitted alone, as its quotes lie. That is hardly closer to
# the quotes, and nothing is proved: crossings, where there are any, are marked with ×.

# %%
alone = calib.fit(quotes, settings=calib.FitSettings(arbitrage_free=False))
pd.DataFrame(
    {
        "rms of model − mid in bp, together": 1e4 * fit.diagnostics.rms_vol_error,
        "alone": 1e4 * alone.diagnostics.rms_vol_error,
    }
).set_index(fit.diagnostics.expiry).round(1)

# %%
calib.plot.total_variance(alone.surface)

# %% [markdown]
# ## From above
#
# Vols over normalised strike and time to expiry; pale is what no quote reaches.

# %%
calib.plot.contour(surface)

# %% [markdown]
# ## The law of the price
#
# A smile is a distribution: undiscounted calls C(K) have C″ = density. It integrates to one, is
# dashed where no quotes are, and would be filled with red below zero.

# %%
calib.plot.density(surface)

# %%
middle = surface.expiries[len(surface.expiries) // 2]
calib.plot.density(surface, middle.expiry)

# %%
falls = np.array([0.7, 0.8, 0.9, 1.0])
pd.DataFrame(
    {
        "strike": falls * middle.forward,
        "P(S ≤ K)": surface.distribution(falls * middle.forward, middle.expiry),
        "vol": surface.implied_vol(falls * middle.forward, middle.expiry),
        "± one standard error": surface.vol_error(falls * middle.forward, middle.expiry),
    },
    index=pd.Index([f"{each:.0%}" for each in falls], name="of the forward"),
).round(4)

# %% [markdown]
# ## How far a vol can be trusted
#
# Every vol has a standard error: the errors of the quotes carried to it. It is small where quotes
# are many and tight, and never shrinks on the way out of the quoted strikes.

# %%
calib.plot.smile(fit, middle.expiry)

# %% [markdown]
# Take most quotes away, and it says so. Weights let rows count more or less; here one expiry
# keeps every sixth strike.

# %%
rows = fit.residuals
thinned = (rows.expiry == pd.Timestamp(middle.expiry, tz="UTC")) & (
    rows.groupby("expiry").strike.rank("dense") % 6 != 0
)
poor = calib.fit(quotes, weights=np.where(thinned, 0.0, 1.0))
k = np.linspace(-2.0, 2.0, 5) * np.sqrt(surface.total_variance(0.0, middle.expiry))
errors = pd.DataFrame(
    {
        "all quotes": 1e4 * surface.vol_error(middle.forward * np.exp(k), middle.expiry),
        "one in six": 1e4 * poor.surface.vol_error(middle.forward * np.exp(k), middle.expiry),
    },
    index=pd.Index(["−2", "−1", "at the money", "+1", "+2"], name="deviations"),
)
print("standard errors of vols, basis points")
errors.round(0)

# %% [markdown]
# Which quotes hold a vol up? The leverage of a quote is the derivative of the vol by it. Where an
# expiry has quotes enough they are its own, and the neighbours hardly count.

# %%
calib.plot.leverage(fit, 0.95 * middle.forward, middle.expiry)

# %% [markdown]
# The same vol when that expiry has lost most of its quotes: others take over.

# %%
calib.plot.leverage(poor, 0.95 * middle.forward, middle.expiry)

# %% [markdown]
# ## Between the expiries
#
# At constant log-moneyness total variance is linear in variance time. By default that is the
# calendar's time; a `VarianceClock` lets weekends count less. Then vols fall over a weekend and
# rise before it, while the fitted expiries stay what they are.

# %%
name = surface.underlying
clocks = {name: calib.VarianceClock.weekends(0.4)}
by_clock = calib.fit(quotes, settings=calib.FitSettings(clocks=clocks)).surface
start = pd.Timestamp(surface.quote_time)
moments = pd.date_range(start + pd.Timedelta("12h"), start + pd.Timedelta("22D"), freq="6h")
atm = pd.DataFrame(index=moments)
for label, one in (("calendar time", surface), ("weekends count 0.4", by_clock)):
    years = ((moments - start) / pd.Timedelta("365D")).to_numpy()
    atm[label] = 100.0 * np.sqrt(one.total_variance(0.0, years) / years)
figure, axes = plt.subplots(figsize=(7.6, 3.2), layout="constrained")
for label, colour in zip(atm, ["#3b5b7c", "#c8322b"], strict=True):
    axes.plot(atm.index, atm[label], color=colour, lw=1.4, label=label)
for each in surface.expiries:
    if pd.Timestamp(each.expiry) < moments[-1]:
        axes.axvline(pd.Timestamp(each.expiry), color="#8895a3", lw=0.8, ls=":")
axes.set_ylabel("ATM vol, %")
axes.set_title("vol at the forward by expiry; dotted: fitted expiries", fontsize=9, loc="left")
axes.legend(frameon=False)
plt.show()
# %% [markdown]
# ## What traders read off
#
# ATM vol, skew, risk reversals and butterflies, each with its standard error. And a variance swap
# from the whole line, wings included.

# %%
handles = surface.handles()
columns = ["atm_vol", "skew", "risk_reversal_25", "butterfly_25"]
shown = handles[["expiry", *[c for name in columns for c in (name, f"{name}_error")]]].copy()
times = [each.expiry for each in surface.expiries]
shown = shown.set_index("expiry")
shown["variance_swap"] = surface.variance_swap(times)
shown["variance_swap_error"] = surface.variance_swap_error(times)
shown.round(4)
