"""Deribit over REST: which options there are, and the whole chain at once."""

from __future__ import annotations

from typing import Any

import aiohttp

from calib.errors import InvalidRequest
from calib.feeds.deribit.session import NO_SUCH_REQUEST, Lost, refusal

_FOR_EVER = (*NO_SUCH_REQUEST, -32602)  # invalid parameters, such as no currency
_SECONDS = aiohttp.ClientTimeout(total=20.0)


class Unanswered(Lost):
    """REST gave no answer that is of use; an open WebSocket may be well."""


async def instruments(http: aiohttp.ClientSession, url: str, currency: str) -> list[Any]:
    """The rows of ``public/get_instruments`` for options that live; raises Unanswered, or
    InvalidRequest where Deribit will always refuse it."""
    params = {"currency": currency, "kind": "option", "expired": "false"}
    return await _rows(http, f"{url}/public/get_instruments", params)


async def book_summary(http: aiohttp.ClientSession, url: str, currency: str) -> list[Any]:
    """The rows of ``public/get_book_summary_by_currency`` for options; raises as
    `instruments` does."""
    params = {"currency": currency, "kind": "option"}
    return await _rows(http, f"{url}/public/get_book_summary_by_currency", params)


async def _rows(http: aiohttp.ClientSession, url: str, params: dict[str, str]) -> list[Any]:
    try:
        async with http.get(url, params=params, timeout=_SECONDS) as response:
            answer = await response.json(content_type=None)
    except aiohttp.InvalidURL as error:
        raise InvalidRequest(f"{url!r} is no address: {error}") from error
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, RecursionError) as error:
        raise Unanswered(f"{url}: {type(error).__name__} {error}") from error
    match answer:
        case {"result": list(rows)}:
            return rows
        case {"error": error}:
            raise refusal(f"{url} of {params['currency']}", error, _FOR_EVER, Unanswered)
        case _:
            raise Unanswered(f"{url}: no answer that is documented")
