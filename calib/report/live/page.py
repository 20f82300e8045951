"""The page in a browser: its elements are made once, and follow the state about once a second."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from nicegui import events, ui

from calib.client.update import SurfaceUpdate
from calib.conventions import utc_now
from calib.report.live import charts, view
from calib.report.live.state import LiveState

REFRESH_SECONDS = 1.0
_CSS = Path(__file__).with_name("page.css")

GLYPHS = {"NORMAL": "●", "WIDENED": "◆", "HELD": "■", "HALTED": "✕"}
"""Shapes beside the words, so that colour is not needed to tell levels apart."""

_SMALL_TOGGLE = "dense no-caps no-wrap unelevated size=sm toggle-color=blue-grey-7"
_LEVEL_CELL = """
<td class="text-left"><span :class="'level ' + props.value">{{ props.value }}</span></td>
"""
_SENTENCE_CELL = """
<td class="text-left sentence" :title="props.value"><span>{{ props.value }}</span></td>
"""


class Page:
    """One open page: what is chosen on it, and its elements."""

    def __init__(self, state: Callable[[], LiveState]) -> None:
        self._state = state
        self._underlying = ""
        self._expiry: np.datetime64 | None = None
        self._x: charts.XAxis = "log-moneyness"
        self._tiles: dict[str, _Tile] = {}
        ui.add_css(_CSS)
        with ui.element("div").classes("bar"):
            ui.label("calib").classes("name")
            self._word = ui.label().classes("word")
            self._told = ui.label().classes("told")
            self._store = ui.label().classes("store")
            self._clock = ui.label().classes("clock")
        self._tile_box = ui.element("div").classes("tiles")
        self._empty = ui.label("No surface yet: none has come from the server.").classes("empty")
        self._panes = ui.element("div").classes("panes")
        with self._panes:
            self._build_panes()
        self.refresh()
        ui.timer(REFRESH_SECONDS, self.refresh)

    def _build_panes(self) -> None:
        with _pane():
            with ui.element("div").classes("title"):
                self._smiles_title = ui.label()
                self._shown_error = ui.label().classes("more")
                choice = ui.toggle(
                    ["log-moneyness", "strike"], value=self._x, on_change=self._choose_x
                )
                choice.props(_SMALL_TOGGLE).classes("right")
            self._smiles = _Chart()
        with _pane():
            with ui.element("div").classes("title"):
                ui.label("Expiries")
                ui.label("skew in vol points per 10 % of strike, 25Δ RR in vol points").classes(
                    "more"
                )
            self._expiries = _table(
                "expiry",
                [
                    ("expiry", "expiry", "left"),
                    ("tenor", "in", "right"),
                    ("level", "level", "left"),
                    ("atm_vol", "ATM vol", "right"),
                    ("error", "± s.e.", "right"),
                    ("skew", "skew", "right"),
                    ("risk_reversal", "25Δ RR", "right"),
                    ("rms", "rms", "right"),
                    ("forward", "forward", "right"),
                    ("quotes", "quotes", "right"),
                    ("cause", "cause", "left"),
                ],
            )
            self._expiries.on("rowClick", self._choose_row, [[], ["expiry"]])
        with _pane():
            with ui.element("div").classes("title"):
                ui.label("Surface")
                ui.label("implied vol, %; empty beyond the quotes").classes("more")
            self._heat = _Chart()
        with _pane():
            with ui.element("div").classes("title"):
                ui.label("Alarms and changes of level")
                ui.label("all underlyings, market time, UTC").classes("more")
            self._events = _table(
                "key",
                [
                    ("time", "time", "left"),
                    ("underlying", "underlying", "left"),
                    ("expiry", "expiry", "left"),
                    ("what", "what", "left"),
                    ("value", "value", "right"),
                    ("limit", "limit", "right"),
                    ("cause", "cause", "left"),
                ],
            ).classes("small events")
            with ui.element("div").classes("title"):
                self._venues_title = ui.label()
            self._venues = _table(
                "venue",
                [
                    ("venue", "venue", "left"),
                    ("used", "quotes", "right"),
                    ("age", "behind", "right"),
                    ("silent", "heard, ago", "right"),
                    ("basis", "fwd basis", "right"),
                    ("gap", "gap, half-spr.", "right"),
                    ("trouble", "left out because", "left"),
                ],
            ).classes("small")

    def refresh(self) -> None:
        """Show the state as it is now; what has not changed is not sent."""
        state, now, clock = self._state(), monotonic(), utc_now()
        link = view.connection(state, now)
        self._word.set_text(link.word)
        self._word.classes(replace="word alive" if link.alive else "word")
        self._told.set_text(link.text)
        self._told.props["title"] = link.text
        self._store.set_text(link.store)
        _set_title(self._store, link.store)
        self._clock.set_text(f"{str(clock)[:19].replace('T', ' ')} UTC")
        self._show_tiles(view.tiles(state, now))
        update = state.updates.get(self._underlying)
        self._empty.set_visibility(not state.underlyings)
        self._panes.set_visibility(bool(state.underlyings))
        dimmed: dict[str, str] = {"remove" if link.alive else "add": "silent"}
        self._panes.classes(**dimmed)
        self._show_surface(update)
        _show_rows(self._events, view.event_rows(state, clock))
        self._venues_title.set_text(f"Venues of {self._underlying}")
        _show_rows(self._venues, view.venue_rows(state, self._underlying, now))

    def _show_tiles(self, tiles: Sequence[view.Tile]) -> None:
        for tile in tiles:
            if tile.underlying not in self._tiles:
                with self._tile_box:
                    self._tiles[tile.underlying] = _Tile(tile.underlying, self._choose)
            self._underlying = self._underlying or tile.underlying
            self._tiles[tile.underlying].show(tile, chosen=tile.underlying == self._underlying)

    def _show_surface(self, update: SurfaceUpdate | None) -> None:
        if update is None:
            self._smiles_title.set_text(f"{self._underlying}: no surface")
            self._shown_error.set_text("")
            for chart in (self._smiles, self._heat):
                chart.show(charts.NOTHING)
            _show_rows(self._expiries, ())
            return
        surface = update.surface
        known = [each.expiry for each in surface.expiries]
        if self._expiry not in known:
            self._expiry = view.usual_expiry(surface)
        self._smiles_title.set_text(f"Smiles of {surface.underlying}")
        rows = view.expiry_rows(update)
        chosen = known.index(self._expiry) if self._expiry is not None else -1
        name = rows[chosen].expiry if rows else view.NOTHING
        time = view.moment_text(update.quote_time, utc_now())
        told = f"{name} ± one standard error; quotes of {time}"
        self._shown_error.set_text(told)
        _set_title(self._shown_error, told)
        self._smiles.show(charts.smiles(surface, self._expiry, self._x))
        self._heat.show(charts.heat_map(surface))
        _show_rows(self._expiries, rows, chosen)

    def _choose(self, underlying: str) -> None:
        self._underlying, self._expiry = underlying, None
        self.refresh()

    def _choose_row(self, event: events.GenericEventArguments) -> None:
        update = self._state().updates.get(self._underlying)
        if update is None:
            return
        name = event.args[1]["expiry"]
        for each, row in zip(update.expiries, view.expiry_rows(update), strict=True):
            if row.expiry == name:
                self._expiry = each.expiry
        self.refresh()

    def _choose_x(self, event: events.ValueChangeEventArguments[Any]) -> None:
        self._x = event.value
        self.refresh()


class _Tile:
    """The tile of one underlying; a button that chooses it."""

    def __init__(self, underlying: str, choose: Callable[[str], None]) -> None:
        self._classes = ""
        self._root = ui.element("button").classes("tile").on("click", lambda: choose(underlying))
        self._root.props["aria-label"] = underlying
        with self._root:
            with ui.element("div").classes("head"):
                ui.label(underlying).classes("what")
                self._level = ui.label().classes("level")
            with ui.element("div").classes("head"):
                self._state = ui.label().classes("state")
                self._age = ui.label()
            with ui.element("div").classes("facts"):
                self._facts = [ui.label() for _ in range(4)]
            self._note = ui.label().classes("note")

    def show(self, tile: view.Tile, *, chosen: bool) -> None:
        self._level.set_text(f"{GLYPHS.get(tile.level, '')} {tile.level}")
        self._state.set_text(tile.state)
        self._age.set_text(f"{tile.age} old")
        texts = (
            f"{tile.model} rev {tile.revision}",
            f"rms {tile.rms}",
            f"{tile.expiries} expiries",
            f"in spread {tile.in_spread}",
        )
        for label, text in zip(self._facts, texts, strict=True):
            label.set_text(text)
        self._note.set_text(tile.note)
        _set_title(self._root, tile.note)
        classes = f"{tile.level} {tile.live} {chosen}"
        if classes != self._classes:
            self._classes = classes
            self._root.classes(replace=f"tile {tile.level}{' chosen' if chosen else ''}")
            self._root.props["aria-pressed"] = str(chosen).lower()
            self._level.classes(replace=f"level {tile.level}")
            self._state.classes(replace=f"state{' live' if tile.live else ''}")


class _Chart:
    """A chart that is sent anew only when it has changed."""

    def __init__(self) -> None:
        self._shown: charts.Options | None = None
        self._chart = ui.echart({}).classes("chart")

    def show(self, options: charts.Options) -> None:
        if options is self._shown:
            return
        self._shown = options
        self._chart.options.clear()
        self._chart.options.update(options)
        self._chart.update()


def _set_title(element: ui.element, text: str) -> None:
    """Tell in full what may be longer than its line."""
    if element.props.get("title") != text:
        element.props["title"] = text


def _pane() -> ui.element:
    return ui.element("div").classes("pane")


def _table(key: str, columns: Sequence[tuple[str, str, str]]) -> ui.table:
    table = ui.table(
        columns=[
            {"name": name, "label": label, "field": name, "align": align}
            for name, label, align in columns
        ],
        rows=[],
        row_key=key,
    )
    table.classes("grid-table").props("dense flat hide-no-data separator=horizontal")
    for name, *_ in columns:
        if name == "level":
            table.add_slot("body-cell-level", _LEVEL_CELL)
        elif name in ("cause", "trouble"):
            table.add_slot(f"body-cell-{name}", _SENTENCE_CELL)
    return table


def _show_rows(table: ui.table, rows: Sequence[Any], chosen: int = -1) -> None:
    told = [asdict(row) for row in rows]
    if told != table.rows:
        table.rows = told
    mark = rows[chosen].expiry if chosen >= 0 else None
    style = f"row => row.expiry === {mark!r} ? 'pick chosen' : 'pick'" if mark else ""
    if style and table.props.get(":table-row-class-fn") != style:
        table.props[":table-row-class-fn"] = style
