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
# # Fit one smile
#
# From a table of option quotes to a fitted smile, step by step: what is read, what is used, how
# well the model lies within bid–ask, and what the surface says at strikes and expiries of your own.
#
# The quotes come from the sample that ships with calib, a simulated market. With the environment
# variable `CALIB_QUOTES_DIR` set to a folder of quote tables, the first of them is read instead.

# %%
# %matplotlib inline
import os
from pathlib import Path

import numpy as np

import calib

# %% [markdown]
# ## Quotes
#
# A quote table is a CSV file, a Parquet file or a pandas `DataFrame`. Reading it judges every row
# on its own; a row that cannot be used stays in the table, with a reason.

# %%
folder = os.environ.get("CALIB_QUOTES_DIR")
path = min(Path(folder).glob("*.parquet")) if folder else calib.sample_quotes()
quotes = calib.read_quotes(path)
print(f"{len(quotes):,} rows of {', '.join(quotes.underlyings)}")
for reason, rows in quotes.reason_counts().items():
    print(f"{rows:6,} not usable: {reason.text}")

# %% [markdown]
# One chain is all quotes of one underlying at one time; here the first time of the first one.

# %%
underlying = quotes.underlyings[0]
of_underlying = np.array(quotes.underlying.texts()) == underlying
first_time = quotes.quote_time[of_underlying].min()
chain = quotes.take(of_underlying & (quotes.quote_time == first_time))
print(f"{len(chain)} quotes of {underlying} at {first_time}")

# %% [markdown]
# ## Fit
#
# One call fits every expiry of the chain. What could not be fitted says why.

# %%
fit = calib.fit(chain, model="svi")
fit.diagnostics

# %% [markdown]
# The smile of one expiry against its quotes: sticks run from the bid vol to the ask vol, ▼ is an
# ask without a bid, which is only a ceiling. The line is solid where there are quotes.

# %%
middle = fit.surface.expiries[len(fit.surface.expiries) // 2]
calib.plot.smile(fit, middle.expiry)

# %%
calib.plot.smiles(fit)

# %% [markdown]
# ## Residuals
#
# A row per quote that came in, used or not. `residual` is model minus mid in vol; what lies within
# half the spread is inside bid–ask.

# %%
residuals = fit.residuals
residuals[residuals.expiry == residuals.expiry[residuals.used].iloc[0]].head(12)

# %%
calib.plot.residuals(fit)

# %%
unused = residuals.loc[~residuals.used, "reason"].value_counts()
print(unused.to_string())
assert residuals.used.sum() + unused.sum() == len(chain), "every unused row has a reason"

# %% [markdown]
# ## The surface
#
# The surface is a value: it answers at any strike and expiry, between the fitted ones too.

# %%
surface = fit.surface
atm = surface.implied_vol(middle.forward, middle.expiry)
print(f"at the money, {middle.years:.2f} years: {float(atm):.2%}")
strikes = middle.forward * np.array([0.8, 0.9, 1.0, 1.1, 1.2])
print(np.round(surface.implied_vol(strikes, middle.expiry), 4))

# %%
between = 0.5 * (surface.expiries[0].years + surface.expiries[1].years)
k = np.linspace(-0.05, 0.05, 5)
print(np.round(np.sqrt(surface.total_variance(k, between) / between), 4))

# %%
surface.to_frame()

# %%
calib.plot.total_variance(surface)

# %%
calib.plot.surface(surface)

# %% [markdown]
# It travels as a message or as JSON, and comes back bit for bit.

# %%
assert calib.Surface.from_json(surface.to_json()) == surface
