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
# # A live session
#
# A server, a market that goes into it, and a subscriber: watch surfaces move, and what the server
# says of how far they may be trusted. Everything runs on this machine and ends with the notebook.

# %%
# %matplotlib inline
import asyncio
import atexit
import os
import sys
from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import calib

work = Path(mkdtemp())


async def command(line: str, log: str) -> asyncio.subprocess.Process:
    """Start a line as in a shell; what it says beside its results goes to a log file."""
    with (work / log).open("wb") as errors:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *line.split()),
            cwd=work,
            env={**os.environ, "CALIB_WARM_UP_EXPIRIES": "[4]", "TERM": "dumb", "FORCE_COLOR": ""},
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )


# %% [markdown]
# ## A server
#
# `calib serve` on a free port. It says where it listens, and is ready when it has compiled.

# %%
server = await command("calib serve --listen 127.0.0.1:0 --store live.db", "server.log")
address = (await server.stdout.readline()).decode().split()[-1]
atexit.register(lambda: server.returncode is None and server.kill())  # should a cell fail
print("listening on", address)

# %%
async with calib.connect(address) as client:
    await client.wait_until_serving(300.0)

# %% [markdown]
# ## A market
#
# Two underlyings, a chain a second from now on, in which vols jump on the way. Your own quotes
# would do as well, or a feed: `calib feed deribit --currency BTC --to HOST:PORT`.

# %%
market = await command(
    "calib simulate --out market.parquet --underlyings 2 --expiries 4 --strikes 32 "
    "--snapshots 10 --interval 1s --start now --hostile vol-jump --causes causes.parquet",
    "simulate.log",
)
print((await market.communicate())[0].decode())
replay = await command(f"calib replay market.parquet --to {address} --speed 1", "replay.log")

# %% [markdown]
# ## Watching
#
# A watch gives what is in force, then every change: the surface, its state, and the judgement
# that comes with it. `SurfaceUpdate.level` is what a quoting engine has to obey.

# %%
updates = []
ended = asyncio.create_task(replay.communicate())


async def watch() -> None:
    async with calib.connect(address) as client:
        async for update in client.watch(["BTC", "ETH"]):
            now = pd.Timestamp.now("UTC")
            updates.append((now, update))


watching = asyncio.create_task(watch())
said = (await ended)[0].decode()
await asyncio.sleep(1.5)  # the last surface is on its way
watching.cancel()
print(said)
print(f"{len(updates)} updates")

# %%
rows = []
for received, update in updates:
    front = update.surface.expiries[0]
    rows.append(
        {
            "received": received,
            "underlying": update.underlying,
            "revision": update.revision,
            "state": update.state.name,
            "level": update.level.name,
            "front ATM vol": round(update.surface.implied_vol(front.forward, front.expiry), 5),
            "error bars ×": update.risk.multiplier if update.risk else np.nan,
            "why": update.risk.cause if update.risk else "",
            "age, s": round(
                (received - pd.Timestamp(update.quote_time, tz="UTC")).total_seconds(), 2
            ),
        }
    )
seen = pd.DataFrame(rows)
seen[seen.underlying == "BTC"].set_index("revision").drop(columns="underlying")

# %% [markdown]
# The vol at the money as it came in, coloured by the level. When vols jump, the surface in force
# is held: nothing is published from quotes that no longer fit it, until the new level has stood.

# %%
LEVELS = {"NORMAL": "#2b7f5e", "WIDENED": "#f0b04a", "HELD": "#d9602b", "HALTED": "#8f1d1d"}
figure, panels = plt.subplots(1, 2, figsize=(10.4, 3.2), layout="constrained")
for axes, (name, mine) in zip(panels, seen.groupby("underlying"), strict=True):
    seconds = (mine.received - seen.received.min()).dt.total_seconds()
    vol = 100.0 * mine["front ATM vol"]
    until = [*seconds, (seen.received.max() - seen.received.min()).total_seconds()]
    axes.step(until, [*vol, vol.iloc[-1]], where="post", color="#8895a3", lw=1.0)
    for level, colour in LEVELS.items():
        at = (mine.level == level).to_numpy()
        axes.plot(
            seconds[at], 100.0 * mine["front ATM vol"][at], "o", color=colour, label=level, ms=5
        )
    axes.set_title(f"{name}, front expiry", fontsize=9, loc="left")
    axes.set_ylim(vol.min() - 0.5, vol.max() + 0.5)
    axes.set_xlabel("seconds", fontsize=8)
    axes.set_ylabel("ATM vol, %", fontsize=8)
    axes.legend(fontsize=7, frameon=False)
plt.show()

# %% [markdown]
# What was done to the market, for comparison:

# %%
pd.read_parquet(work / "causes.parquet")[["start", "end", "underlying", "cause", "size"]]

# %% [markdown]
# ## The surface in force
#
# It is a whole surface, to be evaluated here without asking the server. `valid_until` passes
# without a message: the state of an update turns to STALE by itself.

# %%
async with calib.connect(address) as client:
    update = await client.get("BTC")
print(update.state.name, update.level.name, f"{update.age_seconds:.1f} s old, {update.surface}")
calib.plot.contour(update.surface)

# %%
calib.plot.history(
    [each.surface for _, each in updates if each.underlying == "BTC"], ["atm_vol", "skew"]
)

# %% [markdown]
# ## The end
#
# The server takes a SIGTERM, writes what waits to its store, and leaves with 0. The store then
# holds what was published.

# %%
server.terminate()
print("the server ended with", await server.wait())
with calib.open_store(str(work / "live.db")) as store:
    print(sum(1 for _ in store.surfaces()), "surfaces in the store,", len(store.alarms()), "alarms")
