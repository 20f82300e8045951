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
# # Your own data
#
# From a CSV file to a fitted smile in five lines: with calib's column names as they are, with any
# others after a rename in pandas.

# %% [markdown]
# A file such as a data vendor might send: options on one underlying at one time, with column
# names of its own, expiries as dates, and things that go wrong in such files.

# %%
# %matplotlib inline
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pandas as pd

import calib

sample = pd.read_parquet(calib.sample_quotes())
sample = sample[(sample.underlying == "SPX") & (sample.quote_time == sample.quote_time.min())]
vendor = pd.DataFrame(
    {
        "asof": sample.quote_time.dt.strftime("%Y-%m-%d %H:%M:%S"),
        "root": sample.underlying,
        "expiration": sample.expiry.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "strike": sample.strike,
        "cp": sample.right,
        "best_bid": sample.bid.fillna(0.0),
        "best_offer": sample.ask,
        "open_interest": 100,
    }
).reset_index(drop=True)
vendor.loc[10, ["best_bid", "best_offer"]] = [9.9, 9.1]  # the bid above the ask
vendor.loc[20, "best_offer"] = -1.0
vendor.loc[30, "cp"] = "straddle"
vendor.loc[40, "expiration"] = None
vendor = pd.concat([vendor, vendor.iloc[[50]]])  # a row twice
path = Path(mkdtemp()) / "vendor.csv"
vendor.to_csv(path, index=False)
print(path.read_text()[:400])

# %% [markdown]
# ## Five lines
#
# What the file does not say is added: the venue, and that premiums are in quote currency
# (`linear`; `inverse` is in units of the underlying, `vol` is a Black vol). A file that has
# calib's names already needs neither: `calib.fit(calib.read_quotes("quotes.csv"))`.

# %%
names = {"asof": "quote_time", "root": "underlying", "expiration": "expiry", "cp": "right"}
names |= {"best_bid": "bid", "best_offer": "ask"}
frame = pd.read_csv(path).rename(columns=names).assign(venue="vendor", unit="linear")
fit = calib.fit(calib.quotes_from_frame(frame))
calib.plot.smiles(fit)

# %% [markdown]
# ## What was not used, and why
#
# A row that cannot be used stops nothing: it keeps its place and carries a reason. In the money
# is no fault; such rows imply the forward, which this file does not give.

# %%
refused = fit.residuals[~fit.residuals.used]
reasons = refused.reason.value_counts()
reasons[reasons > 0]

# %%
faulty = fit.residuals[fit.residuals.reason.isin(["CROSSED", "BAD_PRICE", "DUPLICATE"])]
frame.iloc[faulty.row].assign(reason=faulty.reason.to_numpy())[
    ["expiry", "strike", "right", "bid", "ask", "reason"]
]

# %% [markdown]
# A row without an expiry or a right belongs to no smile; the table of quotes names it as well.

# %%
quotes = calib.quotes_from_frame(frame)
for reason, rows in quotes.reason_counts().items():
    print(f"{rows:4} {reason.name}: {reason.text}")

# %% [markdown]
# The forwards were implied from put-call parity, with their errors:

# %%
fit.diagnostics.set_index("expiry")[
    ["state", "forward_source", "forward", "forward_error", "discount_factor", "in_spread_share"]
]

# %% [markdown]
# ## When the table itself is wrong
#
# A table that lacks a column, or holds text where numbers belong, is refused as a whole, with one
# message that names column and row.

# %%
for wrong in (
    frame.drop(columns="unit"),
    frame.assign(strike="about 5000"),
):
    try:
        calib.quotes_from_frame(wrong)
    except calib.InvalidQuoteTable as error:
        print(error, end="\n\n")

# %% [markdown]
# ## Times
#
# Rows that share an exact quote time make a chain. Where a feed stamps every row with a time of
# its own, chains are made as of each full span, from the latest row of each option:
# `calib.fit_many(quotes, every="10min", max_age="5min")`.

# %%
rng = np.random.default_rng(1)
stamped = sample.assign(
    quote_time=sample.quote_time + pd.to_timedelta(rng.uniform(0.0, 540.0, len(sample)), unit="s")
)
found = calib.fit_many(calib.quotes_from_frame(stamped), every="10min", max_age="10min")
print([f"{one.surface.quote_time}: {len(one.surface.expiries)} expiries" for one in found])
