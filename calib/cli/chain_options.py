"""How rows become chains on the command line: the options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calib.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from calib.quotes.table import QuoteTable

Quotes = Annotated[
    Path,
    typer.Argument(
        metavar="QUOTES", help="Quote table: a CSV or Parquet file, or a folder of Parquet."
    ),
]
Every = Annotated[
    str | None,
    typer.Option(
        metavar="SPAN",
        help="Make a chain as of every multiple of this span (1h, 10min) from row-stamped "
        "quotes. Without it, rows of one exact quote time make a chain.",
    ),
]
MaxAge = Annotated[
    str | None,
    typer.Option(metavar="SPAN", help="With --every: leave out quotes older than this."),
]


class Model(StrEnum):
    """The models by their names on the command line."""

    SVI = "svi"
    ESSVI = "essvi"
    SABR = "sabr"


def spans(every: str | None, max_age: str | None) -> dict[str, timedelta | None]:
    """The options as keyword arguments; raises InvalidRequest where one is no span."""
    from calib.conventions import span_of

    given = {"every": every, "max_age": max_age}
    return {name: None if text is None else span_of(name, text) for name, text in given.items()}


def no_chain(quotes: Path, max_age: str | None) -> InvalidRequest:
    """What to raise where a quote table makes no chain."""
    limit = "" if max_age is None else f" within the last {max_age} of a chain"
    return InvalidRequest(
        f"{quotes} holds no chain: no row has an underlying and a quote time{limit}"
    )


def of_underlyings(table: QuoteTable, wanted: Sequence[str]) -> QuoteTable:
    """The rows of these underlyings, of all where none is named; raises InvalidRequest for one that
    is not there."""
    import numpy as np

    unknown = sorted(set(wanted) - set(table.underlyings))
    if unknown:
        raise InvalidRequest(
            f"no quotes of {', '.join(unknown)}; the table holds "
            f"{', '.join(table.underlyings) or 'no underlying'}"
        )
    if not wanted:
        return table
    return table.take(np.isin(table.underlying.texts(), list(wanted)))
