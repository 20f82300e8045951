"""How commands connect to a server: the options of TLS and identity that they share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from calib.client.credentials import Credentials

_PANEL = "TLS and identity"

Ca = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        envvar="CALIB_CA",
        rich_help_panel=_PANEL,
        help="PEM of the authorities of the server's certificate; without any of these options "
        "the connection is in the clear.",
    ),
]
Certificate = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        envvar="CALIB_CERTIFICATE",
        rich_help_panel=_PANEL,
        help="PEM of the client's certificate.",
    ),
]
Key = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", envvar="CALIB_KEY", rich_help_panel=_PANEL, help="PEM of its key."
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        envvar="CALIB_TOKEN_FILE",
        rich_help_panel=_PANEL,
        help="File that holds a bearer token.",
    ),
]


def credentials(
    ca: Path | None, certificate: Path | None, key: Path | None, token_file: Path | None
) -> Credentials | None:
    """The credentials that these options describe; None where none of them is given."""
    if not any((ca, certificate, key, token_file)):
        return None
    from calib.client.credentials import Credentials

    return Credentials(ca=ca, certificate=certificate, key=key, token_file=token_file)
