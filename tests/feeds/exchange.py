"""A loopback exchange that speaks Deribit's documented JSON-RPC, over real REST and WebSockets.

It has faults on demand: connections that are cut, messages that come twice, late or as garbage.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from math import isfinite, nan
from typing import Any

import numpy as np
import pandas as pd
from aiohttp import WSMsgType, web

from calib.feeds.simulated.underlying import default_underlyings
from calib.feeds.simulator import SimulatorSettings, simulate
from calib.quotes.chain import Chain


@dataclass(frozen=True)
class Listed:
    """An option as the exchange knows it; nan: no price on that side."""

    name: str
    currency: str
    expiry: datetime
    strike: float
    right: str
    bid: float
    ask: float
    forward: float
    index: float
    timestamp: int = 0

    def instrument(self) -> dict[str, Any]:
        return {
            "instrument_name": self.name,
            "kind": "option",
            "instrument_type": "reversed",
            "option_type": "call" if self.right == "C" else "put",
            "strike": self.strike,
            "expiration_timestamp": int(self.expiry.timestamp() * 1000),
            "base_currency": self.currency,
            "is_active": True,
            "state": "open",
        }

    def summary(self) -> dict[str, Any]:
        return {
            "instrument_name": self.name,
            "base_currency": self.currency,
            "bid_price": self.bid if isfinite(self.bid) else None,
            "ask_price": self.ask if isfinite(self.ask) else None,
            "mark_iv": 58.6,
            "underlying_price": self.forward,
            "underlying_index": f"SYN.{self.name.rsplit('-', 2)[0]}",
            "estimated_delivery_price": self.index,
            "creation_timestamp": self.timestamp,
        }

    def ticker(self) -> dict[str, Any]:
        return {
            "timestamp": self.timestamp,
            "state": "open",
            "instrument_name": self.name,
            "best_bid_price": self.bid if isfinite(self.bid) else 0.0,
            "best_ask_price": self.ask if isfinite(self.ask) else 0.0,
            "best_bid_amount": 2.5,
            "best_ask_amount": 3.5,
            "bid_iv": 46.67 if isfinite(self.bid) else 0.0,
            "ask_iv": 51.77 if isfinite(self.ask) else 500.0,
            "underlying_price": self.forward,
            "index_price": self.index,
            "estimated_delivery_price": self.index,
        }


@dataclass
class Exchange:
    """What is listed, who listens, and what to do wrong."""

    options: dict[str, Listed]
    url: str = ""
    rest: str = ""
    heartbeat_seconds: float = 0.2
    answered_heartbeats: int = 0
    connections: int = 0
    refuse_channels: int = 0
    asked_channels: int = 0
    answering: asyncio.Event = field(default_factory=asyncio.Event)
    """Unless it is set REST waits."""
    failing: bool = False
    """While it is true REST answers that it is out of order."""
    failures: int = 0
    _sockets: dict[web.WebSocketResponse, set[str]] = field(default_factory=dict)

    def now(self) -> int:
        return int(datetime.now(UTC).timestamp() * 1000)

    async def move(self, name: str, **changes: Any) -> Listed:
        """Change an option and tell whoever listens."""
        last = self.options[name]
        stamp = max(self.now(), last.timestamp + 1)
        self.options[name] = replace(last, timestamp=stamp, **changes)
        await self.tell(self.options[name])
        return self.options[name]

    async def tell(self, one: Listed) -> None:
        channel = f"ticker.{one.name}.100ms"
        params = {"channel": channel, "data": one.ticker()}
        text = json.dumps({"jsonrpc": "2.0", "method": "subscription", "params": params})
        for socket, channels in list(self._sockets.items()):
            if channel in channels:
                await self._send(socket, text)

    async def say(self, text: str | bytes) -> None:
        """Anything, to everybody."""
        for socket in list(self._sockets):
            if isinstance(text, bytes):
                await socket.send_bytes(text)
            else:
                await self._send(socket, text)

    async def cut(self) -> None:
        """Break every connection without a word."""
        for socket in list(self._sockets):
            transport = socket._req.transport if socket._req else None
            if transport is not None:
                transport.abort()

    async def _send(self, socket: web.WebSocketResponse, text: str) -> None:
        try:
            await socket.send_str(text)
        except (ConnectionError, RuntimeError):
            self._sockets.pop(socket, None)

    async def listen(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.connections += 1
        self._sockets[socket] = set()
        beating: asyncio.Task[None] | None = None
        try:
            async for message in socket:
                if message.type is not WSMsgType.TEXT:
                    continue
                call = json.loads(message.data)
                if call["method"] == "public/set_heartbeat" and beating is None:
                    beating = asyncio.create_task(self._beat(socket))
                result = self._called(socket, call["method"], call["params"])
                answer = {"jsonrpc": "2.0", "id": call["id"], "result": result, "testnet": True}
                await self._send(socket, json.dumps(answer))
        finally:
            self._sockets.pop(socket, None)
            if beating is not None:
                beating.cancel()
        return socket

    def _called(self, socket: web.WebSocketResponse, method: str, params: dict[str, Any]) -> Any:
        match method:
            case "public/subscribe":
                wanted = params["channels"]
                self.asked_channels += len(wanted)
                accepted = [c for c in wanted if c.split(".")[1] in self.options]
                accepted = accepted[: len(accepted) - self.refuse_channels]
                self._sockets[socket].update(accepted)
                return accepted
            case "public/unsubscribe":
                self._sockets[socket].difference_update(params["channels"])
                return params["channels"]
            case "public/test":
                self.answered_heartbeats += 1
                return {"version": "1.2.26"}
            case _:
                return "ok"

    async def _beat(self, socket: web.WebSocketResponse) -> None:
        """Ask for a sign of life, and close the connection of whoever gives none."""
        while True:
            await asyncio.sleep(self.heartbeat_seconds)
            before = self.answered_heartbeats
            beat = {"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": "test_request"}}
            await self._send(socket, json.dumps(beat))
            await asyncio.sleep(5.0 * self.heartbeat_seconds)
            if self.answered_heartbeats == before:
                await socket.close()
                return

    async def instruments(self, request: web.Request) -> web.Response:
        return await self._answer(request, Listed.instrument)

    async def summary(self, request: web.Request) -> web.Response:
        return await self._answer(request, Listed.summary)

    async def _answer(
        self, request: web.Request, told: Callable[[Listed], dict[str, Any]]
    ) -> web.Response:
        await self.answering.wait()
        if self.failing:
            self.failures += 1
            return web.Response(status=502, text="<html>bad gateway</html>")
        currency = request.query["currency"]
        rows = [told(o) for o in self.options.values() if o.currency == currency]
        if rows:
            return web.json_response({"jsonrpc": "2.0", "result": rows})
        why = {"reason": "wrong currency", "param": "currency"}
        error = {"message": "Invalid params", "data": why, "code": -32602}
        return web.json_response({"jsonrpc": "2.0", "error": error}, status=400)


def name_of(underlying: str, expiry: datetime, strike: float, right: str) -> str:
    """As Deribit names it; a point in the strike is a ``d``."""
    day = expiry.strftime("%d%b%y").upper().lstrip("0")
    return f"{underlying}-{day}-{f'{strike:.10g}'.replace('.', 'd')}-{right}"


def days_since(chain: Chain) -> timedelta:
    """So many whole days that options which lived when a chain was recorded live now."""
    return timedelta(days=(datetime.now(UTC) - to_datetime(chain.quote_time)).days + 1)


def recorded(chain: Chain, later: timedelta) -> dict[str, Listed]:
    """The options of a chain that was recorded, ``later`` by whole days. Chains of one market move
    by the same, or an option of one would be another option of the next."""
    quotes, now = chain.quotes, datetime.now(UTC)
    options = {}
    for i, right in enumerate(quotes.right_text.texts()):
        expiry = to_datetime(quotes.expiry[i]) + later
        strike = float(quotes.strike[i])
        name = name_of(chain.underlying, expiry, strike, right)
        bid, ask = (float(side[i]) or nan for side in (quotes.bid, quotes.ask))
        options[name] = Listed(
            name, chain.underlying, expiry, strike, right, bid, ask,
            float(quotes.forward[i]), float(quotes.spot[i]), int(now.timestamp() * 1000),
        )  # fmt: skip
    return options


def to_datetime(instant: np.datetime64) -> datetime:
    """In UTC."""
    moment: datetime = instant.astype("datetime64[us]").astype(datetime)
    return moment.replace(tzinfo=UTC)


def listed(underlyings: int = 1, expiries: int = 3, strikes: int = 9) -> dict[str, Listed]:
    """The options of a simulated market, quoted in coin, as of now."""
    start = datetime.now(UTC).replace(microsecond=0)
    settings = SimulatorSettings(
        underlyings=default_underlyings(underlyings),
        expiries=expiries,
        strikes=strikes,
        snapshots=1,
        start=start,
    )
    frame = pd.DataFrame(simulate(settings).quotes)
    options = {}
    rows: list[Any] = list(frame.itertuples(index=False))
    for row in rows:
        expiry = row.expiry.to_pydatetime()
        name = name_of(row.underlying, expiry, row.strike, row.right)
        options[name] = Listed(
            name, row.underlying, expiry, row.strike, row.right, row.bid, row.ask,
            row.forward, row.spot, int(start.timestamp() * 1000),
        )  # fmt: skip
    return options


@asynccontextmanager
async def exchange(options: dict[str, Listed]) -> AsyncIterator[Exchange]:
    """An exchange that listens on this machine while inside."""
    one = Exchange(options)
    one.answering.set()
    app = web.Application()
    app.router.add_get("/ws/api/v2", one.listen)
    app.router.add_get("/api/v2/public/get_instruments", one.instruments)
    app.router.add_get("/api/v2/public/get_book_summary_by_currency", one.summary)
    runner = web.AppRunner(app, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    one.url, one.rest = f"ws://{host}:{port}/ws/api/v2", f"http://{host}:{port}/api/v2"
    try:
        yield one
    finally:
        await one.cut()
        await runner.cleanup()
