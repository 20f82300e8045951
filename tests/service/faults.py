"""A small market with a seat in it: chains a second apart, faults to put in, what a quoter sees."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import numpy as np

from calib.client import Client, SurfaceUpdate
from calib.conventions import Floats
from calib.fitting.fit_value import Fit
from calib.modelrisk.breakers import BreakerLevel
from calib.quotes.table import QuoteTable
from calib.service.fit_thread import FitJob, fit_batch
from calib.service.server import Running
from tests.service.samples import START, micros, smile_quotes

Fault = Callable[[QuoteTable], QuoteTable]

DAYS = (7, 14, 30, 60, 120)
STRIKES = 21
NOISE = np.random.default_rng(7)
PATIENCE = 90.0


def sound(quotes: QuoteTable) -> QuoteTable:
    """No fault."""
    return quotes


def shifted(by: float) -> Fault:
    """All vols of the venue up."""
    return lambda quotes: replace(quotes, bid=quotes.bid + by, ask=quotes.ask + by)


def fat_finger(quotes: QuoteTable) -> QuoteTable:
    """One quote of the second expiry, a slip of the keyboard: 60 vols too high."""
    row = STRIKES + STRIKES // 2 + 3
    return _with_row(quotes, row, 0.6)


def half_gone(quotes: QuoteTable) -> QuoteTable:
    """Every second strike missing."""
    return quotes.take(np.arange(0, len(quotes), 2))


def wrong_forward(quotes: QuoteTable) -> QuoteTable:
    """The venue's forwards 1 % too high, its vols as they were."""
    return replace(quotes, forward=1.01 * quotes.forward)


def crossed(quotes: QuoteTable) -> QuoteTable:
    """Every bid above its ask."""
    return replace(quotes, bid=quotes.ask, ask=quotes.bid)


def _with_row(quotes: QuoteTable, row: int, by: float) -> QuoteTable:
    bid, ask = quotes.bid.copy(), quotes.ask.copy()
    bid[row] += by
    ask[row] += by
    return replace(quotes, bid=bid, ask=ask)


class Breakable:
    """The project's fitter, that fails on demand."""

    def __init__(self) -> None:
        self.broken = False

    def __call__(self, jobs: Sequence[FitJob], /) -> list[Fit]:
        if self.broken:
            raise FloatingPointError("the solver is made to fail")
        return fit_batch(jobs)


@dataclass
class Seat:
    """A quoter, and the venue that it looks at: chains are sent one by one, each judged before the
    next, ``step`` seconds apart in the market's own time."""

    server: Running
    client: Client
    step: float = 1.0
    seconds: float = 0.0
    seen: list[SurfaceUpdate] = field(default_factory=list)

    @property
    def time(self) -> np.datetime64:
        return START + micros(timedelta(seconds=self.seconds))

    def quotes(self) -> QuoteTable:
        quotes = smile_quotes(at=self.time, days=DAYS, strikes=STRIKES, spread=0.01)
        start = START.astype("datetime64[us]")
        spans = np.repeat(np.array(DAYS), STRIKES) * np.timedelta64(86_400_000_000, "us")
        trembling: Floats = 0.0005 * NOISE.standard_normal(len(quotes))
        return replace(
            quotes, expiry=start + spans, bid=quotes.bid + trembling, ask=quotes.ask + trembling
        )

    async def send(self, fault: Fault = sound) -> SurfaceUpdate:
        """A chain, and what is in force once it was judged."""
        self.seconds += self.step
        before = self.judged
        await self.client.publish(fault(self.quotes()))
        async with asyncio.timeout(PATIENCE):
            while self.judged == before:  # noqa: ASYNC110 - a server tells nobody that it judged
                await asyncio.sleep(0.002)
        return self._looked(await self.client.get("BTC"))

    @property
    def judged(self) -> float:
        """How many chains the server has judged."""
        registry, of = self.server.meters.registry, {"underlying": "BTC"}
        names = ("calib_fits_total", "calib_fit_failures_total")
        return sum(registry.get_sample_value(name, of) or 0.0 for name in names)

    async def until(self, level: BreakerLevel, fault: Fault = sound, most: int = 200) -> int:
        """Send chains until the underlying is at this level; how many it took."""
        for number in range(1, most + 1):
            if (await self.send(fault)).level is level:
                return number
        raise AssertionError(f"never {level.name} in {most} chains")

    def _looked(self, update: SurfaceUpdate) -> SurfaceUpdate:
        """Whatever happens, what a quoter gets is certified and judged."""
        assert update.surface.certificate.arbitrage_free
        assert update.risk is not None
        assert {one.expiry for one in update.surface.expiries} <= {
            one.expiry for one in update.risk.expiries
        }
        self.seen.append(update)
        return update


def levels(update: SurfaceUpdate) -> list[str]:
    """The level of every expiry, by name."""
    assert update.risk is not None
    return [one.level.name for one in update.risk.expiries]


def findings(update: SurfaceUpdate) -> set[str]:
    """What is found to be the source of error, in any expiry."""
    assert update.risk is not None
    return {one.finding for one in update.risk.expiries} - {""}
