"""Which part of a store: the options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

StoreUrl = Annotated[
    str, typer.Option(metavar="URL", help="Database URL, or path of an SQLite file.")
]
StoredQuotes = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="The stored quotes.  [default: beside SQLite]"),
]
Start = Annotated[
    str | None, typer.Option(metavar="TIME", help="From this quote time, ISO 8601, UTC.")
]
End = Annotated[str | None, typer.Option(metavar="TIME", help="Until before this quote time.")]
