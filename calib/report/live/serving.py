"""Serving the page over HTTP, until somebody asks it to end."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import uvicorn
from fastapi import FastAPI
from nicegui import core, ui

from calib.client.credentials import Credentials
from calib.errors import Unavailable
from calib.report.live.page import Page
from calib.report.live.subscription import Subscription


class _Server(uvicorn.Server):
    """Leaves signals to whoever runs it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_page(
    listen: str,
    server: str,
    credentials: Credentials | None,
    underlyings: Sequence[str],
    listening: Callable[[str], None],
) -> None:
    """Serve at ``listen`` (HOST:PORT) until SIGINT or SIGTERM; ``listening`` is told the URL.

    Raises Unavailable where the address cannot be listened on, and what
    `Subscription.follow` raises.
    """
    port = bound(listen)
    subscription = Subscription(server, credentials, underlyings)
    http = _Server(_config(subscription, server))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: setattr(http, "should_exit", True))
    following = asyncio.create_task(subscription.follow())
    following.add_done_callback(lambda _: setattr(http, "should_exit", True))
    host = listen.rpartition(":")[0]
    listening(f"http://{host}:{port.getsockname()[1]}")
    try:
        await http.serve(sockets=[port])
    finally:
        following.cancel()
        port.close()
    with suppress(asyncio.CancelledError):
        await following


def _config(subscription: Subscription, server: str) -> uvicorn.Config:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @ui.page("/", title=f"calib · {server}")
    def page() -> None:
        Page(lambda: subscription.state)

    ui.run_with(app, title="calib", tailwind=False, show_welcome_message=False, favicon="σ")
    # Other sites that are open in the same browser are told nothing.
    core.sio.eio.cors_allowed_origins = None
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=1,
    )


def bound(listen: str) -> socket.socket:
    """A socket bound to HOST:PORT; raises Unavailable where that cannot be had."""
    host, _, port = listen.rpartition(":")
    try:
        return socket.create_server(
            (host.strip("[]"), int(port)),
            family=socket.AF_INET6 if ":" in host else socket.AF_INET,
        )
    except OSError as error:
        raise Unavailable(
            f"cannot listen on {listen}: {error.strerror or error}; is the port taken, or the host "
            "not ours?"
        ) from error
