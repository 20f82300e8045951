"""``calib serve``: the gRPC service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where to listen; port 0 takes a free one.  [default: 127.0.0.1:50051]",
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Database URL, path of an SQLite file, or none.  [default: sqlite:///calib.db]",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings, as TOML; flags go before them.")
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure", help="Listen beyond loopback without TLS or without identities too."
        ),
    ] = False,
    check_config: Annotated[
        bool,
        typer.Option(
            "--check-config", help="Print the settings in force as TOML, and do not start."
        ),
    ] = False,
) -> None:
    """Take quotes in, calibrate, and publish surfaces, until SIGTERM or Ctrl-C.

    The address goes to stdout, the log to stderr. After a restart the last surfaces are served at
    once, marked stale; new ones are calibrated as soon as the log says "serving".
    """
    import asyncio

    from calib.service.effective_settings import check_files, effective
    from calib.service.settings import load_settings

    flags = {"listen": listen, "store": store, "insecure": insecure or None}
    settings = load_settings(config, flags)
    if check_config:
        check_files(settings)
        typer.echo(effective(settings, config, flags), nl=False)
        return

    from calib.service.server import serve as run

    asyncio.run(run(settings, listening=lambda address: typer.echo(f"listening on {address}")))
