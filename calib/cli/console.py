"""Where commands print: results on stdout, progress and troubles on stderr."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

import typer

from calib.errors import InvalidRequest

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

# Where nobody watches (a file, a pipe) lines are not folded to a terminal's width.
UNFOLDED = 160
CELL_AIR = 3


def out() -> Console:
    """The console of results."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=False)
    return console if console.is_terminal else Console(highlight=False, width=UNFOLDED)


def err() -> Console:
    """The console of progress and troubles."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def complain(message: str) -> None:
    """Say on stderr, in plain text, what went wrong."""
    typer.echo(f"calib: {message}", err=True)


def needs_person(message: str) -> NoReturn:
    """End with exit code 1: the work is done, and this in it needs a person."""
    typer.echo(f"calib: needs attention: {message}", err=True)
    raise typer.Exit(1)


@dataclass(frozen=True)
class Column:
    """A column of a printed table.

    Of columns that do not fit a terminal's width, those with the highest ``rank`` are left out.
    """

    name: str
    left: bool = False
    rank: int = 0


def print_table(
    console: Console,
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    title: str | None = None,
) -> None:
    """Print a table of results, or as many of its columns as fit."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    widths = [
        max(len(column.name), *(len(row[i]) for row in rows), 0) + CELL_AIR
        for i, column in enumerate(columns)
    ]
    shown = sorted(range(len(columns)), key=lambda i: columns[i].rank)
    while sum(widths[i] for i in shown) + CELL_AIR > console.width and columns[shown[-1]].rank:
        shown.pop()
    shown.sort()
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    for i in shown:
        justify: Literal["left", "right"] = "left" if columns[i].left else "right"
        table.add_column(columns[i].name, justify=justify, no_wrap=not columns[i].left)
    for row in rows:
        table.add_row(*(Text(row[i]) for i in shown))
    console.print(table)


def new_progress(unit: str = "") -> Progress:
    """Bars on stderr, shown only where a terminal is; with the rate, where its ``unit`` is said."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        SpinnerColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class _Rate(ProgressColumn):
        def __init__(self, unit: str) -> None:
            super().__init__()
            self._unit = unit

        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else f"{task.speed:.1f} {self._unit}")

    console = err()
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *([_Rate(unit)] if unit else []),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Turn a failure to write ``path`` into a bad request that names it."""
    try:
        yield path
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be written: {error.strerror or error}") from error
