"""A market of two venues that are sent side by side, and what a server says of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta

import grpc
import numpy as np

from calib.client import Acknowledgement, Client
from calib.feeds.hostile import Fault, FaultName, hostile
from calib.feeds.hostile.second_venue import with_second_venue
from calib.quotes.table import QuoteTable
from calib.service.server import Running
from calib.v1 import model_risk_pb2, model_risk_service_pb2, model_risk_service_pb2_grpc
from tests.service.samples import START, micros, smile_quotes

Twist = Callable[[QuoteTable], QuoteTable]
Standing = dict[str, model_risk_pb2.VenueStanding]

DAYS = (7, 30, 90)
STRIKES = 15
ROWS = len(DAYS) * STRIKES
PATIENCE = 60.0
_EXPIRY = np.repeat(START + np.array(DAYS) * np.timedelta64(86_400_000_000, "us"), STRIKES)
_END = START + np.timedelta64(10**12, "us")


def seconds(count: float) -> np.timedelta64:
    return micros(timedelta(seconds=count))


def sound(quotes: QuoteTable) -> QuoteTable:
    """No fault."""
    return quotes


def of_bad(name: FaultName, size: float) -> Twist:
    """A fault of the second venue, of `calib.feeds.hostile`."""
    fault = Fault(name, "BTC", START, _END, size, venue="bad")
    return lambda quotes: hostile(quotes, [fault]).quotes


def tenfold(quotes: QuoteTable) -> QuoteTable:
    """All prices of the second venue times ten."""
    bad = quotes.venue.equal("bad")
    return replace(
        quotes,
        bid=np.where(bad, 10.0 * quotes.bid, quotes.bid),
        ask=np.where(bad, 10.0 * quotes.ask, quotes.ask),
    )


def clock_off(by: float) -> Twist:
    """The second venue's clock is off by so many seconds."""

    def twisted(quotes: QuoteTable) -> QuoteTable:
        bad = quotes.venue.equal("bad")
        return replace(quotes, quote_time=quotes.quote_time + np.where(bad, seconds(by), 0))

    return twisted


@dataclass
class Floor:
    """Chains of both venues come a second apart in their own time, ``bad`` before ``good``; each is
    judged before the next is sent."""

    server: Running
    client: Client
    start: np.datetime64 = START
    now: float = 0.0
    answers: dict[str, Acknowledgement] = field(default_factory=dict)

    def quotes(self) -> QuoteTable:
        """Both venues' chains of this moment."""
        trembling = 0.0004 * np.random.default_rng(round(self.now)).standard_normal(ROWS)
        at = self.start + seconds(self.now)
        forward = 70_000.0 * (1.0 + 2e-5 * self.now)
        quotes = smile_quotes(at=at, venue="good", forward=forward, days=DAYS, strikes=STRIKES)
        expiry = _EXPIRY + (self.start - START)
        quotes = replace(
            quotes, expiry=expiry, bid=quotes.bid + trembling, ask=quotes.ask + trembling
        )
        return with_second_venue(quotes, "BTC", "bad", seed=3)

    async def send(self, twist: Twist = sound, *, bad: bool = True, good: bool = True) -> bool:
        """The next moment; whether the bad venue is left out after it. The good one never is."""
        self.now += 1.0
        quotes = twist(self.quotes())
        for venue in ["bad"] * bad + ["good"] * good:
            before = self.judged
            self.answers[venue] = await self.client.publish(quotes.take(quotes.venue.equal(venue)))
            async with asyncio.timeout(PATIENCE):
                while self.judged == before:  # noqa: ASYNC110 - a server tells nobody that it judged
                    await asyncio.sleep(0.002)
        standing = await self.standing()
        assert not standing["good"].left_out
        return bool(standing["bad"].left_out)

    @property
    def judged(self) -> float:
        """How many chains the server has judged."""
        registry, of = self.server.meters.registry, {"underlying": "BTC"}
        names = ("calib_fits_total", "calib_fit_failures_total")
        return sum(registry.get_sample_value(name, of) or 0.0 for name in names)

    async def standing(self) -> Standing:
        """How the venues stand."""
        request = model_risk_service_pb2.GetModelRiskRequest(underlying="BTC")
        async with grpc.aio.insecure_channel(self.server.address) as channel:
            stub = model_risk_service_pb2_grpc.ModelRiskServiceStub(channel)
            answer = await stub.GetModelRisk(request)
        return {one.venue: one for one in answer.assessment.venues}

    async def shows(self, wanted: Callable[[Standing], bool]) -> Standing:
        """How the venues stand once this holds: what is judged without being sent comes when it
        comes."""
        async with asyncio.timeout(PATIENCE):
            while not wanted(standing := await self.standing()):  # noqa: ASYNC110 - see above
                await asyncio.sleep(0.01)
        return standing

    async def vol(self) -> float:
        """That at the money of the first expiry of the surface in force."""
        surface = await self.client.get("BTC")
        one = surface.expiries[0]
        return float(surface.implied_vol(one.forward, one.expiry))

    async def forward(self) -> float:
        """That of the first expiry of the surface in force."""
        return (await self.client.get("BTC")).expiries[0].forward

    def meter(self, name: str, venue: str = "bad") -> float:
        """A gauge of a venue."""
        of = {"underlying": "BTC", "venue": venue}
        value = self.server.meters.registry.get_sample_value(f"calib_venue_{name}", of)
        assert value is not None
        return value

    def alarms(self, metric: str) -> float:
        """How often a venue was left out for this."""
        of = {"underlying": "BTC", "chart": "venue", "metric": metric}
        return self.server.meters.registry.get_sample_value("calib_alarms_total", of) or 0.0
