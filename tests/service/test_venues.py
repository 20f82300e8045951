"""Several venues for one underlying on a running server: one goes wrong, is seen and left out with a
name, the others go on, and it comes back when it has been right for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta

import numpy as np
import pytest

from calib.client import Acknowledgement, Client
from calib.feeds.hostile import Fault, FaultName, hostile
from calib.feeds.hostile.second_venue import with_second_venue
from calib.quotes.labels import Labels
from calib.quotes.reasons import Reason
from calib.quotes.table import QuoteTable
from calib.service.server import Running
from calib.v1 import model_risk_pb2, model_risk_service_pb2, model_risk_service_pb2_grpc
from tests.service.conftest import QUIET, Start
from tests.service.samples import START, micros, smile_quotes

DAYS = (7, 30, 90)
PATIENCE = 60.0
EXPIRY = np.repeat(START + np.array(DAYS) * np.timedelta64(86_400_000_000, "us"), 15)


def seconds(count: float) -> np.timedelta64:
    return micros(timedelta(seconds=count))


@dataclass
class Floor:
    """A market of two venues that are sent side by side, and what the server says of them."""

    server: Running
    client: Client
    now: float = 0.0
    answers: dict[str, Acknowledgement] = field(default_factory=dict)

    def quotes(self) -> QuoteTable:
        """Both venues' chains, a second after the last."""
        trembling = 0.0004 * np.random.default_rng(round(10 * self.now)).standard_normal(45)
        at = START + seconds(self.now)
        forward = 70_000.0 * (1.0 + 2e-5 * self.now)
        quotes = replace(smile_quotes(at=at, venue="good", forward=forward), expiry=EXPIRY)
        quotes = replace(quotes, bid=quotes.bid + trembling, ask=quotes.ask + trembling)
        return with_second_venue(quotes, "BTC", "bad", seed=3)

    async def send(self, quotes: QuoteTable | None = None) -> dict[str, bool]:
        """A moment of the market, each venue judged before the next; who is left out after it."""
        self.now += 1.0
        quotes = self.quotes() if quotes is None else quotes
        for venue in ("bad", "good"):
            rows = quotes.venue.equal(venue)
            if not rows.any():
                continue
            before = self.judged
            self.answers[venue] = await self.client.publish(quotes.take(rows))
            async with asyncio.timeout(PATIENCE):
                while self.judged == before:  # noqa: ASYNC110 - a server tells nobody
                    await asyncio.sleep(0.002)
        standing = await self.standing()
        return {name: one.left_out != 0 for name, one in standing.items()}

    @property
    def judged(self) -> float:
        registry, of = self.server.meters.registry, {"underlying": "BTC"}
        names = ("calib_fits_total", "calib_fit_failures_total")
        return sum(registry.get_sample_value(name, of) or 0.0 for name in names)

    async def standing(self) -> dict[str, model_risk_pb2.VenueStanding]:
        stub = model_risk_service_pb2_grpc.ModelRiskServiceStub(self.client._channel)
        request = model_risk_service_pb2.GetModelRiskRequest(underlying="BTC")
        answer = await stub.GetModelRisk(request)
        return {one.venue: one for one in answer.assessment.venues}

    async def vol(self) -> float:
        surface = await self.client.get("BTC")
        one = surface.expiries[0]
        return float(surface.implied_vol(one.forward, one.expiry))

    def alarms(self, metric: str) -> float:
        labels = {"underlying": "BTC", "chart": "venue", "metric": metric}
        return self.server.meters.registry.get_sample_value("calib_alarms_total", labels) or 0.0


@pytest.fixture
async def floor(start: Start) -> AsyncIterator[Floor]:
    server, client = await start(
        model_risk={
            **QUIET,
            "venues": {"probation_seconds": 4.0, "stuck_seconds": 8.0, "behind_seconds": 3.0},
        }
    )
    floor = Floor(server, client)
    for _ in range(2):
        assert not any((await floor.send()).values())
    yield floor


def shifted(quotes: QuoteTable) -> QuoteTable:
    """Five vols too high."""
    fault = Fault(FaultName.SHIFTED_VENUE, "BTC", START, START + seconds(1e6), 0.05, venue="bad")
    return hostile(quotes, [fault]).quotes


def wrong_forward(quotes: QuoteTable) -> QuoteTable:
    fault = Fault(FaultName.WRONG_FORWARD, "BTC", START, START + seconds(1e6), 0.02, venue="bad")
    return hostile(quotes, [fault]).quotes


def tenfold(quotes: QuoteTable) -> QuoteTable:
    bad = quotes.venue.equal("bad")
    return replace(
        quotes,
        bid=np.where(bad, 10.0 * quotes.bid, quotes.bid),
        ask=np.where(bad, 10.0 * quotes.ask, quotes.ask),
    )


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (shifted, Reason.VENUE_APART),
        (tenfold, Reason.VENUE_APART),
        (wrong_forward, Reason.VENUE_FORWARD),
    ],
)
async def test_a_venue_whose_prices_are_wrong_moves_no_surface_and_comes_back(
    floor: Floor, fault: object, reason: Reason
) -> None:
    right = await floor.vol()
    for _ in range(3):
        floor.now += 0.0
        out = await floor.send(fault(floor_next(floor)))  # type: ignore[operator]
        assert out == {"bad": True, "good": False}
        assert await floor.vol() == pytest.approx(right, abs=2e-3)
    standing = await floor.standing()
    assert Reason(int(standing["bad"].left_out)) is reason
    assert standing["bad"].confirmed
    assert standing["bad"].quotes_used == 0
    assert standing["good"].quotes_used == 45
    assert floor.answers["bad"].left_out is reason
    assert floor.answers["bad"].accepted == 45
    assert floor.answers["good"].left_out is None
    assert floor.alarms(reason.name.lower()) == 1.0
    outs = [(await floor.send())["bad"] for _ in range(8)]
    assert outs == sorted(outs, reverse=True)
    assert 4 <= sum(outs) < 8
    assert (await floor.standing())["bad"].quotes_used == 45


def floor_next(floor: Floor) -> QuoteTable:
    """What the next `send` would send by itself."""
    return replace(floor, now=floor.now + 1.0).quotes()
