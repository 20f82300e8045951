"""What the live page shows, as values: no browser, no page."""

from __future__ import annotations

from dataclasses import replace
from math import nan

import numpy as np
import pytest

from calib.client import ExpiryRisk, ModelRisk, SurfaceUpdate
from calib.client.contact import Contact
from calib.conventions import to_instant
from calib.modelrisk.breakers import BreakerLevel
from calib.report.live import charts, view
from calib.report.live.assessments import Assessed, Venue, missed_since
from calib.report.live.events import MOST_EVENTS, SPAN, Event, EventKind
from calib.report.live.state import LiveState
from calib.report.style import REACH
from calib.states import SurfaceState
from tests.report.samples import NOW, surface_of

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
    tile = only_tile(state.risk_heard(clocks.seconds), clocks.seconds)
    assert (tile.level, tile.state, tile.live, tile.note) == ("NORMAL", "LIVE", True, "")
    assert (tile.age, tile.revision, tile.model) == ("2.5 s", "7", "SVI")
    assert (tile.rms, tile.in_spread, tile.expiries) == ("12.3 bp", "97%", 3)


def test_a_tile_turns_stale_by_itself_and_says_why(clocks: Clocks) -> None:
    state = LiveState(SERVER).with_update(update(clocks)).risk_heard(clocks.seconds)
    clocks.seconds += 3.5
    tile = only_tile(state, clocks.seconds)
    assert (tile.level, tile.state, tile.live) == ("HALTED", "STALE · SILENT", False)
    assert "silent" in tile.note
    clocks.seconds += 60.0
    tile = only_tile(state, clocks.seconds)
    assert tile.state == "STALE · AGED"
    assert tile.note.endswith("; nothing is heard of model risk")


def test_a_level_comes_with_its_cause(clocks: Clocks) -> None:
    halted = update(clocks, risk=risk(BreakerLevel.HALTED, "by hand: lunch"))
    tile = only_tile(LiveState(SERVER).with_update(halted).risk_heard(100.0))
    assert (tile.level, tile.state, tile.note) == ("HALTED", "LIVE", "by hand: lunch")
    assert {row.level for row in view.expiry_rows(halted)} == {"HALTED"}


def test_what_has_no_surface_is_shown_too(clocks: Clocks) -> None:
    state = LiveState(SERVER).with_update(update(clocks))
    state = state.with_assessed(Assessed("ABC", risk(BreakerLevel.HELD, "no quotes")), 100.0)
    assert state.underlyings == ("ABC", "XYZ")
    first, _ = view.tiles(state.risk_heard(100.0), 100.0)
    assert (first.level, first.state, first.note) == ("HELD", "NO SURFACE", "no quotes")
    first, _ = view.tiles(state.risk_heard(100.0), 104.0)
    assert first.level == "HALTED"  # nobody knows any more


def test_the_connection_is_told_in_a_word() -> None:
    state = LiveState(SERVER)
    assert view.connection(state, 5.0).word == "CONNECTING"
    state = state.risk_heard(5.0)
    assert view.connection(state, 6.0) == view.Connection(
        "CONNECTED", "server:1, heard 1.0 s ago", alive=True
    )
    state = state.risk_lost("UNAVAILABLE: gone")
    assert view.connection(state, 7.0).alive  # not before its patience is over
    silent = view.connection(state, 9.0)
    assert (silent.word, silent.alive) == ("SILENT", False)
    assert silent.text == "server:1 has said nothing for 4.0 s (UNAVAILABLE: gone)"
    assert view.connection(state.risk_heard(9.5), 9.5).word == "CONNECTED"


def test_a_store_that_fails_is_told_while_its_server_speaks() -> None:
    state = LiveState(SERVER).risk_heard(5.0).with_store_trouble("disk full")
    assert view.connection(state, 6.0).store == "store fails: disk full"
    assert view.connection(state, 9.0).store == ""
    assert view.connection(state.with_store_trouble(""), 6.0).store == ""


def test_either_watch_that_is_silent_is_told(clocks: Clocks) -> None:
    given = update(clocks)
    state = LiveState(SERVER).with_update(given).risk_heard(clocks.seconds)
    assert view.connection(state, clocks.seconds).alive
    state = state.risk_lost("UNAVAILABLE: gone")
    clocks.seconds += 4.0
    assert given.contact is not None
    given.contact.heard(clocks.now())
    said = view.connection(state.with_update(replace(given)), clocks.seconds)
    assert (said.word, said.alive) == ("SILENT", False)
    assert said.text == "server:1 has said nothing of model risk for 4.0 s (UNAVAILABLE: gone)"
    tile = only_tile(state, clocks.seconds)
    assert (tile.state, tile.rms, tile.note) == ("LIVE", "–", "nothing is heard of model risk")
    clocks.seconds += 4.0
    said = view.connection(state.risk_heard(clocks.seconds), clocks.seconds)
    assert (said.word, said.text) == ("SILENT", "server:1 has said nothing of surfaces for 4.0 s")
    said = view.connection(state, clocks.seconds)
    assert said.text == "server:1 has said nothing for 4.0 s (UNAVAILABLE: gone)"


def test_events_are_told_once_the_newest_first() -> None:
    state = LiveState(SERVER).with_events([event(1), event(3)])
    state = state.with_assessed(Assessed("XYZ", risk(), events=(event(2), event(3))), 1.0)
    assert [row.time[-2:] for row in view.event_rows(state, NOW)] == ["03", "02", "01"]
    assert state.with_events([event(2)]) is state
    assert len({row.key for row in view.event_rows(state, NOW)}) == 3
    many = state.with_events(event(i) for i in range(10, 10 + MOST_EVENTS))
    assert len(many.events) == MOST_EVENTS
    assert many.events[-1].at == NOW + 10 * SECOND


def test_events_end_a_day_before_the_present_of_their_underlying() -> None:
    def assessed(name: str, at: np.datetime64) -> Assessed:
        return Assessed(name, replace(risk(), assess_time=at))

    state = LiveState(SERVER).with_events([event(0), event(10)])
    state = state.with_assessed(assessed("ABC", NOW + 2 * SPAN), 1.0)
    assert len(state.events) == 2
    state = state.with_assessed(assessed("XYZ", NOW + SPAN + 5 * SECOND), 1.0)
    assert [each.at for each in state.events] == [NOW + 10 * SECOND]
    assert state.with_events([event(4)]) is state


def test_a_moment_of_another_day_has_its_date() -> None:
    assert view.moment_text(NOW, NOW + 3_600 * SECOND) == "08:00:00"
    assert view.moment_text(NOW, NOW + SPAN) == "2026-03-02 08:00:00"
    (row,) = view.event_rows(LiveState(SERVER).with_events([event(1)]), NOW + 7 * SPAN)
    assert row.time == "2026-03-02 08:00:01"


def test_what_may_be_missing_begins_with_the_assessment_before() -> None:
    assert missed_since(NOW - SECOND, NOW) == NOW - SECOND
    assert missed_since(None, NOW) == missed_since(NOW - 3 * SPAN, NOW) == NOW - SPAN
    assert missed_since(NOW + SECOND, NOW) == NOW - SPAN  # a market that has gone back


def test_numbers_of_events_are_shown_where_there_are_any() -> None:
    with_value, without = (event(1, "ewma level", 3.14159), event(2))
    rows = view.event_rows(LiveState(SERVER).with_events([with_value, without]), NOW)
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
