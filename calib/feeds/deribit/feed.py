"""The feed: the whole chain first, then what changes, over any number of connections.

The venue's stamps are the quote times; this machine's clock times nothing but silence. What a
connection that was lost may have missed is had by asking for the whole chain again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aiohttp
import numpy as np
import structlog

from calib.client.retrying import Backoff
from calib.errors import InvalidRequest
from calib.feeds.deribit import rest
from calib.feeds.deribit.instrument import Instrument
from calib.feeds.deribit.quote import Quote, table_of
from calib.feeds.deribit.session import Lost, Session, session
from calib.quotes.table import QuoteTable

_BACKOFF = Backoff(0.5, 30.0)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class DeribitSettings:
    """Where and what. ``interval``: of the ticker channels (100ms, agg2). Updates are collected
    for ``collect_seconds`` before they are handed on; the list of instruments is looked at every
    ``refresh_seconds``, and the whole chain is asked for again then."""

    currencies: tuple[str, ...] = ("BTC", "ETH")
    websocket: str = "wss://www.deribit.com/ws/api/v2"
    rest: str = "https://www.deribit.com/api/v2"
    interval: str = "100ms"
    collect_seconds: float = 0.25
    refresh_seconds: float = 60.0
    backoff: Backoff = _BACKOFF

    def __post_init__(self) -> None:
        if not self.currencies or not all(one.isalnum() for one in self.currencies):
            raise InvalidRequest(f"currencies are names like BTC, not {self.currencies!r}")
        for name in ("collect_seconds", "refresh_seconds"):
            if not getattr(self, name) > 0.0:
                raise InvalidRequest(f"{name} must be positive, not {getattr(self, name)!r}")


@dataclass
class FeedCounts:
    """What came, and what was not of use: ``older`` than what was known of its option, ``unknown``
    options, ``garbage`` that is no message, ``refused`` channels; ``unanswered`` looks at what
    there is; ``reconnects``; and ``ahead_seconds``, by how much the venue's clock was ahead of
    this machine's at most, a delay counting as behind."""

    tickers: int = 0
    chains: int = 0
    older: int = 0
    unknown: int = 0
    garbage: int = 0
    refused: int = 0
    unanswered: int = 0
    reconnects: int = 0
    ahead_seconds: float = -np.inf


@dataclass(frozen=True)
class Update:
    """Quotes of one underlying; ``whole_chain`` where they are all that there are."""

    underlying: str
    quotes: QuoteTable
    whole_chain: bool


@dataclass
class _Book:
    """The last quote of each option of a currency, and which of them nobody has been told;
    ``whole`` where that is all of them, as a whole chain."""

    options: dict[str, Instrument] = field(default_factory=dict)
    quotes: dict[str, Quote] = field(default_factory=dict)
    news: dict[str, None] = field(default_factory=dict)
    whole: bool = False


class DeribitFeed:
    """Deribit's options as updates; ``counts`` says what came."""

    def __init__(
        self,
        settings: DeribitSettings | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.settings = settings or DeribitSettings()
        self.counts = FeedCounts()
        self._now = now
        self._books = {currency: _Book() for currency in self.settings.currencies}
        self._refused: set[str] = set()

    async def updates(self) -> AsyncGenerator[Update]:
        """Updates for as long as they are asked for; a connection that is lost is made again, after
        pauses that double up to a bound. Raises InvalidRequest where Deribit will always refuse
        what it is asked, or can not be at the address."""
        pauses, connected = self.settings.backoff.pauses(), False
        async with aiohttp.ClientSession() as http:
            while True:
                try:
                    async with (
                        session(http, self.settings.websocket, self._take, self._garbled) as opened,
                        aclosing(self._connected(http, opened)) as updates,
                    ):
                        async for update in updates:
                            pauses, connected = self.settings.backoff.pauses(), True
                            yield update
                except Lost as lost:
                    pause = next(pauses)
                    _log.warning("deribit_lost", reason=str(lost), pause=round(pause, 3))
                    self.counts.reconnects += connected
                    connected = False
                    await asyncio.sleep(pause)

    def standing(self) -> list[Update]:
        """The whole chains as they were last told, for whoever comes to them anew."""
        books = self._books.values()
        return [one for book in books for one in _tables(book.quotes.values(), whole_chain=True)]

    async def _connected(
        self, http: aiohttp.ClientSession, opened: Session
    ) -> AsyncGenerator[Update]:
        asked: set[str] = set()
        await self._refresh(http, opened, asked)
        refreshing = asyncio.create_task(self._keep_fresh(http, opened, asked))
        try:
            while True:
                for update in self._news():
                    yield update
                await opened.quiet(self.settings.collect_seconds)
                if refreshing.done():
                    await refreshing
        finally:
            refreshing.cancel()
            await asyncio.gather(refreshing, return_exceptions=True)

    async def _keep_fresh(
        self, http: aiohttp.ClientSession, opened: Session, asked: set[str]
    ) -> None:
        while True:
            await asyncio.sleep(self.settings.refresh_seconds)
            try:
                await self._refresh(http, opened, asked)
            except rest.Unanswered as error:
                self.counts.unanswered += 1
                _log.warning("deribit_unanswered", reason=str(error))

    async def _refresh(self, http: aiohttp.ClientSession, opened: Session, asked: set[str]) -> None:
        """What there is now, and the whole chain of it; ``asked`` are the channels that this
        connection has been asked for, and then those that it has."""
        # Subscribed before the chain is asked for: what changes in between is not missed.
        await self._follow(http, opened, asked)
        await self._take_chains(http)

    async def _follow(self, http: aiohttp.ClientSession, opened: Session, asked: set[str]) -> None:
        """Subscribe to the options that there are now, and to no others; to what is refused not
        again."""
        wanted: set[str] = set()
        for currency, book in self._books.items():
            rows = await rest.instruments(http, self.settings.rest, currency)
            options = [one for one in map(Instrument.listed, rows) if one is not None]
            book.options = {one.name: one for one in options}
            book.quotes = {k: one for k, one in book.quotes.items() if k in book.options}
            wanted |= {f"ticker.{name}.{self.settings.interval}" for name in book.options}
        if gone := sorted(asked - wanted):
            await opened.unsubscribe(gone)
        refused = await opened.subscribe(sorted(wanted - asked))
        asked.intersection_update(wanted)
        asked |= wanted
        if refused:
            _log.warning("deribit_refused", channels=len(refused), first=refused[0])
            self._refused.update(refused)
            self.counts.refused = len(self._refused)

    async def _take_chains(self, http: aiohttp.ClientSession) -> None:
        """Ask for the whole chain of every currency."""
        for currency, book in self._books.items():
            for row in await rest.book_summary(http, self.settings.rest, currency):
                name = row.get("instrument_name") if isinstance(row, dict) else None
                option = book.options.get(str(name))
                if option is None:
                    self.counts.unknown += 1
                    continue
                self._keep(book, Quote.of_summary(option, row))
            book.whole = True

    def _take(self, channel: str, data: object) -> None:
        parts = channel.split(".")
        if parts[0] != "ticker" or len(parts) < 2 or not isinstance(data, dict):
            self._garbled()
            return
        for book in self._books.values():
            option = book.options.get(parts[1])
            if option is not None:
                self.counts.tickers += 1
                self._keep(book, Quote.of_ticker(option, data))
                return
        self.counts.unknown += 1

    def _keep(self, book: _Book, quote: Quote | None) -> None:
        if quote is None:
            self._garbled()
            return
        name = quote.instrument.name
        newer = quote.after(book.quotes.get(name))
        if newer is None:
            self.counts.older += 1
            return
        local = np.datetime64(self._now().replace(tzinfo=None), "us")
        ahead = float((quote.time - local) / np.timedelta64(1, "s"))
        self.counts.ahead_seconds = max(self.counts.ahead_seconds, ahead)
        book.quotes[name] = newer
        book.news[name] = None

    def _garbled(self) -> None:
        self.counts.garbage += 1

    def _news(self) -> Sequence[Update]:
        """What has not been told: whole chains, or what has changed, by underlying."""
        found: list[Update] = []
        for book in self._books.values():
            if book.whole:
                whole = _tables(book.quotes.values(), whole_chain=True)
                self.counts.chains += len(whole)
                found += whole
            else:
                changed = [book.quotes[name] for name in book.news if name in book.quotes]
                found += _tables(changed, whole_chain=False)
            book.news.clear()
            book.whole = False
        return found


def _tables(quotes: Iterable[Quote], *, whole_chain: bool) -> list[Update]:
    by_name: dict[str, list[Quote]] = {}
    for quote in quotes:
        by_name.setdefault(quote.instrument.underlying, []).append(quote)
    return [Update(name, table_of(mine), whole_chain) for name, mine in sorted(by_name.items())]
