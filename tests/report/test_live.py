"""What the live page shows, as values: no browser, no page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from math import nan
from pathlib import Path

import grpc
import numpy as np
import pytest

from calib.client import ExpiryRisk, ModelRisk, SurfaceUpdate, connect
from calib.client.contact import Contact
from calib.conventions import to_instant
from calib.modelrisk.breakers import BreakerLevel
from calib.report.live import charts, view
from calib.report.live.assessments import Assessed, Event, EventKind, Venue
from calib.report.live.state import MOST_EVENTS, LiveState
from calib.report.live.subscription import Subscription
from calib.report.style import REACH
from calib.service.server import running
from calib.service.settings import ServiceSettings
from calib.states import SurfaceState
from calib.v1 import model_risk_pb2
from calib.v1 import model_risk_service_pb2 as rpc
from tests.report.samples import NOW, surface_of
from tests.service.calls import Stubs
from tests.service.conftest import USUAL
from tests.service.processes import free_port
from tests.service.samples import smile_quotes

SECOND = np.timedelta64(1_000_000, "us")
SERVER = "server:1"


class Clocks:
    """The time of day and the time since a start, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> np.datetime64:
        return to_instant(NOW + round(1e6 * (self.seconds - 100.0)) * np.timedelta64(1, "us"))

    def contact(self) -> Contact:
        contact = Contact(SERVER, 3.0, 5.0, self.now, lambda: self.seconds)
        contact.heard(self.now())
        return contact


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def risk(level: BreakerLevel = BreakerLevel.NORMAL, cause: str = "") -> ModelRisk:
    judged = tuple(ExpiryRisk(each.expiry, level) for each in surface_of().expiries)
    return ModelRisk(level, NOW, judged, cause=cause)


def update(clocks: Clocks, **changes: object) -> SurfaceUpdate:
    given = SurfaceUpdate(
        replace(surface_of(), revision=7),
        SurfaceState.LIVE,
        valid_until=NOW + 60 * SECOND,
        risk=risk(),
        contact=clocks.contact(),
        clock=clocks.now,
    )
    return replace(given, **changes)  # type: ignore[arg-type]


def event(at: int, what: str = "NORMAL → HELD", value: float = nan) -> Event:
    return Event(NOW + at * SECOND, "XYZ", EventKind.LEVEL, what, "because", value=value)


def only_tile(state: LiveState, at: float = 100.0) -> view.Tile:
    (tile,) = view.tiles(state, at)
    return tile


def test_a_tile_says_how_an_underlying_stands(clocks: Clocks) -> None:
    assessed = Assessed("XYZ", risk(), rms_vol_error=0.00123, in_spread_share=0.97)
    state = LiveState(SERVER).with_update(update(clocks)).with_assessed(assessed, 100.0)
    clocks.seconds += 2.5
    tile = only_tile(state.heard(clocks.seconds), clocks.seconds)
    assert (tile.level, tile.state, tile.live, tile.note) == ("NORMAL", "LIVE", True, "")
    assert (tile.age, tile.revision, tile.model) == ("2.5 s", "7", "SVI")
    assert (tile.rms, tile.in_spread, tile.expiries) == ("12.3 bp", "97%", 3)


def test_a_tile_turns_stale_by_itself_and_says_why(clocks: Clocks) -> None:
    state = LiveState(SERVER).with_update(update(clocks)).heard(clocks.seconds)
    clocks.seconds += 3.5
    tile = only_tile(state, clocks.seconds)
    assert (tile.level, tile.state, tile.live) == ("HALTED", "STALE · SILENT", False)
    assert "silent" in tile.note
    clocks.seconds += 60.0
    assert only_tile(state, clocks.seconds).state == "STALE · AGED"


def test_a_level_comes_with_its_cause(clocks: Clocks) -> None:
    halted = update(clocks, risk=risk(BreakerLevel.HALTED, "by hand: lunch"))
    tile = only_tile(LiveState(SERVER).with_update(halted))
    assert (tile.level, tile.state, tile.note) == ("HALTED", "LIVE", "by hand: lunch")
    assert {row.level for row in view.expiry_rows(halted)} == {"HALTED"}


def test_what_has_no_surface_is_shown_too(clocks: Clocks) -> None:
    state = LiveState(SERVER).with_update(update(clocks))
    state = state.with_assessed(Assessed("ABC", risk(BreakerLevel.HELD, "no quotes")), 100.0)
    assert state.underlyings == ("ABC", "XYZ")
    first, _ = view.tiles(state.heard(100.0), 100.0)
    assert (first.level, first.state, first.note) == ("HELD", "NO SURFACE", "no quotes")
    first, _ = view.tiles(state.heard(100.0), 104.0)
    assert first.level == "HALTED"  # nobody knows any more


def test_the_connection_is_told_in_a_word() -> None:
    state = LiveState(SERVER)
    assert view.connection(state, 5.0).word == "CONNECTING"
    state = state.heard(5.0)
    assert view.connection(state, 6.0) == view.Connection(
        "CONNECTED", "server:1, heard 1.0 s ago", alive=True
    )
    state = state.lost("UNAVAILABLE: gone")
    assert view.connection(state, 7.0).alive  # not before its patience is over
    silent = view.connection(state, 9.0)
    assert (silent.word, silent.alive) == ("SILENT", False)
    assert silent.text == "server:1 has said nothing for 4.0 s (UNAVAILABLE: gone)"
    assert view.connection(state.heard(9.5), 9.5).word == "CONNECTED"


def test_events_are_told_once_the_newest_first() -> None:
    state = LiveState(SERVER).with_events([event(1), event(3)])
    state = state.with_assessed(Assessed("XYZ", risk(), events=(event(2), event(3))), 1.0)
    assert [row.time[-2:] for row in view.event_rows(state)] == ["03", "02", "01"]
    assert state.with_events([event(2)]) is state
    assert len({row.key for row in view.event_rows(state)}) == 3
    many = state.with_events(event(i) for i in range(10, 10 + MOST_EVENTS))
    assert len(many.events) == MOST_EVENTS
    assert many.events[-1].at == NOW + 10 * SECOND


def test_numbers_of_events_are_shown_where_there_are_any() -> None:
    with_value, without = (event(1, "ewma level", 3.14159), event(2))
    rows = view.event_rows(LiveState(SERVER).with_events([with_value, without]))
    assert [(row.value, row.limit) for row in rows] == [("–", "–"), ("3.14", "–")]


def test_silence_of_a_venue_goes_on_between_assessments() -> None:
    venue = Venue("V", 12, 0.0, 1.5, -0.0002, 0.25, "its vols are apart")
    state = LiveState(SERVER).with_assessed(Assessed("XYZ", risk(), venues=(venue,)), 10.0)
    (row,) = view.venue_rows(state, "XYZ", 12.0)
    assert (row.silent, row.basis, row.gap) == ("3.5 s", "−2.00 bp", "+0.25")
    assert row.trouble == "its vols are apart"
    assert view.venue_rows(state, "ABC", 12.0) == ()


def test_a_row_of_an_expiry_has_its_handles(clocks: Clocks) -> None:
    held = update(clocks)
    rows = view.expiry_rows(held)
    assert [row.tenor for row in rows] == ["2 d", "30 d", "7 m"]
    for row, each in zip(rows, held.expiries, strict=True):
        vol = float(held.surface.implied_vol(each.forward, each.expiry))
        assert row.atm_vol == f"{100.0 * vol:.2f}%"
        assert row.error == "–"  # no covariance, no error
        step = 1e-4
        up, down = (each.forward * np.exp(k) for k in (step, -step))
        slope = (held.implied_vol(up, each.expiry) - held.implied_vol(down, each.expiry)) / step
        assert float(row.skew.replace("−", "-")) == pytest.approx(5.0 * slope, abs=0.006)


def test_the_first_choice_is_a_month() -> None:
    surface = surface_of()
    assert view.usual_expiry(surface) == surface.expiries[1].expiry
    assert view.usual_expiry(replace(surface, expiries=())) is None


@pytest.mark.parametrize("x", ["log-moneyness", "strike"])
def test_lines_are_the_smiles_within_their_quotes(x: charts.XAxis) -> None:
    surface = surface_of()
    chosen = surface.expiries[1]
    series = charts.smiles(surface, chosen.expiry, x)["series"]
    low, width, *lines = series
    assert low["data"] == width["data"] == []  # no covariance, no band
    assert [line["lineStyle"]["color"] == charts.CHOSEN for line in lines] == [False, True, False]
    for line, each in zip(lines, surface.expiries, strict=True):
        at, vol = np.array(line["data"]).T
        strike = at if x == "strike" else each.forward * np.exp(at)
        assert vol == pytest.approx(100.0 * surface.implied_vol(strike, each.expiry), abs=1e-3)
        assert np.log(strike[[0, -1]] / each.forward) == pytest.approx(
            [each.log_moneyness_min, each.log_moneyness_max], abs=1e-5
        )


def test_the_band_is_one_standard_error_to_either_side() -> None:
    surface = surface_of()
    first = surface.expiries[0]
    variances = tuple(np.diag([(0.01 * value) ** 2 for value in first.parameters]).ravel())
    known = replace(first, covariance=variances)
    surface = replace(surface, expiries=(known, *surface.expiries[1:]))
    low, width, line, *_ = charts.smiles(surface, known.expiry, "strike")["series"]
    strike, vol = np.array(line["data"]).T
    error = 100.0 * surface.vol_error(strike, known.expiry)
    assert error.min() > 0.0
    assert np.array(width["data"])[:, 1] == pytest.approx(2.0 * error, abs=1e-3)
    assert np.array(low["data"])[:, 1] == pytest.approx(vol - error, abs=1e-3)


def test_the_heat_map_has_the_vols_and_ends_with_the_quotes() -> None:
    surface = surface_of()
    narrow = replace(surface.expiries[0], log_moneyness_min=0.0)
    surface = replace(surface, expiries=(narrow, *surface.expiries[1:]))
    options = charts.heat_map(surface)
    cells = options["series"][0]["data"]
    edges = np.linspace(-REACH, REACH, charts.CELLS + 1)
    for column, row, vol in cells:
        each = surface.expiries[row]
        deviation = np.sqrt(surface.total_variance(0.0, each.expiry))
        k = 0.5 * (edges[column] + edges[column + 1]) * deviation
        strike = each.forward * np.exp(k)
        assert vol == pytest.approx(100.0 * surface.implied_vol(strike, each.expiry), abs=0.006)
        assert options["visualMap"]["min"] <= vol <= options["visualMap"]["max"]
    columns = [{column for column, row, _ in cells if row == index} for index in (0, 1)]
    assert min(columns[0]) == charts.CELLS // 2
    assert min(columns[1]) < 6


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30.0):
        while not holds():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)


async def test_a_subscription_outlives_its_server_and_recalls_what_was_before(
    tmp_path: Path,
) -> None:
    listen = f"127.0.0.1:{free_port()}"
    settings = ServiceSettings(
        **(USUAL | {"listen": listen, "store": str(tmp_path / "s.db"), "warm_up": False})
    )
    quotes = smile_quotes("BTC")
    later = replace(quotes, quote_time=quotes.quote_time + SECOND)
    subscription: Subscription | None = None
    following: asyncio.Task[None] | None = None
    try:
        async with running(settings) as server, connect(listen) as client:
            await server.warm
            await client.publish(quotes)
            await anext(client.watch(["BTC"]))
            async with grpc.aio.insecure_channel(listen) as channel:
                held = rpc.ForceBreakerRequest(
                    underlying="BTC",
                    level=model_risk_pb2.BREAKER_LEVEL_WIDENED,
                    operator="ann",
                    reason="lunch",
                )
                await Stubs(channel).risks.ForceBreaker(held)
            await client.publish(later)
            subscription = Subscription(listen, None, [])
            following = asyncio.create_task(subscription.follow())
            found = subscription
            await until(lambda: "BTC" in found.state.updates and bool(found.state.events))
            told = found.state.events[0]
            assert (told.what, told.underlying) == ("NORMAL → WIDENED", "BTC")
            assert told.cause == "set to WIDENED by ann: lunch"
            assert found.state.trouble == ""
            epoch = found.state.updates["BTC"].epoch
        await until(lambda: found.state.trouble != "")
        assert not following.done()
        async with running(settings) as server:
            await until(lambda: found.state.updates["BTC"].epoch != epoch)
            await until(lambda: found.state.trouble == "")
            assert only_tile(found.state, found.state.heard_at).state == "STALE · REPORTED"
    finally:
        if following is not None:
            following.cancel()
