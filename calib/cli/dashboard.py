"""``calib dashboard``: a live page in the browser."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated

import typer

from calib.cli.connection import Ca, Certificate, Key, TokenFile, credentials
from calib.cli.server_address import From, Underlyings, check_answers, host_and_port
from calib.errors import InvalidRequest


def dashboard(
    server: From,
    underlyings: Underlyings = None,
    listen: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT",
            callback=host_and_port,
            help="Where to serve the page; port 0 takes a free one.",
        ),
    ] = "127.0.0.1:8050",
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure", help="Listen beyond loopback too, where whoever comes can read the page."
        ),
    ] = False,
    ca: Ca = None,
    certificate: Certificate = None,
    key: Key = None,
    token_file: TokenFile = None,
) -> None:
    """Serve a page that shows surfaces and model risk as they come, until SIGTERM or Ctrl-C.

    The page's address goes to stdout. When the server is lost the page says so, and goes on when
    it is back.
    """
    from calib.service.logs import configure_logs
    from calib.service.protection.exposure import is_loopback

    if not insecure and not is_loopback(listen):
        raise InvalidRequest(
            f"listen = {listen!r} is beyond loopback, without TLS: take 127.0.0.1 and a proxy; "
            "or --insecure for a network that is closed to others"
        )
    try:
        from calib.report.live.serving import serve_page
    except ModuleNotFoundError as error:
        raise InvalidRequest(
            f"a live page needs {error.name}: pip install 'calib[dashboard]'"
        ) from None

    async def run() -> None:
        given = credentials(ca, certificate, key, token_file)
        await check_answers(server, given)
        await serve_page(
            listen, server, given, underlyings or [], lambda url: typer.echo(f"listening on {url}")
        )

    configure_logs()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run())
