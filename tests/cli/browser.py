"""A headless browser for tests, as Debian installs it; tests skip clearly without one."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, async_playwright, expect

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip

expect.set_options(timeout=20_000)  # a machine may be busy

chromium = next(filter(None, map(shutil.which, _NAMES)), None)
needs_browser = pytest.mark.skipif(
    chromium is None, reason=f"no browser on the path: {', '.join(_NAMES)}"
)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Page]:
    """A page of 1400 × 900 at this address; at its end it is certain that nothing was written to
    its console as an error, and that nothing was asked of another host."""
    errors: list[str] = []
    hosts: set[str] = set()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=[*_FLAGS])
        try:
            page = await browser.new_page(viewport={"width": 1400, "height": 900})
            page.set_default_timeout(20_000)
            page.on("console", lambda said: errors.append(said.text) if _bad(said.type) else None)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
            page.on("websocket", lambda socket: hosts.add(urlsplit(socket.url).netloc))
            await page.goto(url)
            yield page
        finally:
            await browser.close()
    assert errors == []
    assert hosts - {""} == {urlsplit(url).netloc}  # data: has no host


def _bad(kind: str) -> bool:
    return kind in ("error", "warning")
