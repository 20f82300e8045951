"""Where commands print: results on stdout, progress and troubles on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from calib.errors import InvalidRequest

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

# Where nobody watches (a file, a pipe) lines are not folded to a terminal's width.
UNFOLDED = 160


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


def new_table(*columns: str, title: str | None = None, left: tuple[str, ...] = ()) -> Table:
    """A table of results; columns are right-aligned but for those in ``left``."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    for name in columns:
        table.add_column(name, justify="left" if name in left else "right", no_wrap=True)
    return table


def new_progress() -> Progress:
    """Bars on stderr, shown only where a terminal is."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    console = err()
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
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
