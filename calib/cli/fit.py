"""``calib fit``: surfaces from a quote table, offline."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calib.cli.chain_options import Every, MaxAge, Model, Quotes, no_chain, of_underlyings, spans
from calib.cli.compiled import keep_compiled
from calib.cli.console import needs_person, new_progress, out, writing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from calib.fitting.fit_value import Fit
    from calib.quotes.table import QuoteTable


class Calendar(StrEnum):
    """How the expiries of an underlying hang together."""

    SAME_ASSET = "same_asset"
    INDEPENDENT = "independent"


def fit(
    quotes: Quotes,
    model: Annotated[Model, typer.Option(help="The formula of a smile.")] = Model.SVI,
    underlying: Annotated[
        list[str] | None, typer.Option(help="Fit this underlying only; may be repeated.")
    ] = None,
    every: Every = None,
    max_age: MaxAge = None,
    calendar: Annotated[
        Calendar, typer.Option(help="Whether the expiries are options on one asset.")
    ] = Calendar.SAME_ASSET,
    surfaces: Annotated[
        Path | None,
        typer.Option("--out", help="Write the surfaces here, a line of proto3 JSON per chain."),
    ] = None,
    residuals: Annotated[
        Path | None, typer.Option(help="Write a row per quote here, CSV or Parquet.")
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(help="Write an HTML page here: the last chain of each underlying."),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(help="Write pictures of the same chains into this folder, as PNG."),
    ] = None,
) -> None:
    """Fit every chain of a quote table and say how well.

    Exit code 1: a chain gave no surface, or the fit of an expiry failed although it had quotes.
    """
    keep_compiled()

    from calib.cli.fit_summary import print_fits
    from calib.cli.frames import check_suffix
    from calib.quotes.reading import read_quotes

    if residuals is not None:
        check_suffix(residuals)
    table = of_underlyings(read_quotes(quotes), underlying or [])
    fits = _fitted(table, model, every, max_age, calendar)
    if not fits:
        raise no_chain(quotes, max_age)
    console = out()
    print_fits(console, fits)
    if surfaces is not None:
        _write_surfaces(surfaces, fits)
        console.print(f"surfaces: {surfaces}")
    if residuals is not None:
        _write_residuals(residuals, fits)
        console.print(f"residuals: {residuals}")
    if page is not None:
        _write_page(page, quotes, fits)
        console.print(f"page: {page}")
    if pictures is not None:
        for path in _write_pictures(pictures, fits):
            console.print(f"picture: {path}")
    _judge(fits)


def _fitted(
    table: QuoteTable, model: Model, every: str | None, max_age: str | None, calendar: Calendar
) -> list[Fit]:
    from calib.conventions import ExpiryCalendar
    from calib.fitting.fit import fit_many
    from calib.fitting.settings import FitSettings
    from calib.quotes.chain import chains

    chosen = spans(every, max_age)
    settings = FitSettings(calendar=ExpiryCalendar[calendar.name])
    with new_progress() as progress:
        watched = progress.console.is_terminal
        total = sum(1 for _ in chains(table, **chosen)) if watched else None
        task = progress.add_task("fitting", total=total)
        return fit_many(
            table,
            model.value,
            every=chosen["every"],
            max_age=chosen["max_age"],
            settings=settings,
            progress=lambda done: progress.advance(task, done),
        )


def _write_surfaces(path: Path, fits: Sequence[Fit]) -> None:
    with writing(path), path.open("w", encoding="utf-8") as file:
        for each in fits:
            file.write(each.surface.to_json() + "\n")


def _write_residuals(path: Path, fits: Sequence[Fit]) -> None:
    import pandas as pd

    from calib.cli.frames import write_frame

    parts = []
    for each in fits:
        frame = each.residuals
        frame.insert(0, "underlying", each.surface.underlying)
        frame.insert(1, "quote_time", pd.Timestamp(each.surface.quote_time, tz="UTC"))
        parts.append(frame)
    write_frame(path, pd.concat(parts, ignore_index=True))


def _write_page(path: Path, quotes: Path, fits: Sequence[Fit]) -> None:
    from calib.report.page import page_html

    text = page_html(
        f"Smiles of {quotes.name}",
        list(_last_of_each(fits).values()),
        f"The last chain of each underlying among {len(fits)} chains of {quotes.name}.",
    )
    with writing(path):
        path.write_text(text, encoding="utf-8")


def _write_pictures(folder: Path, fits: Sequence[Fit]) -> Iterator[Path]:
    from calib.report import plot

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, each in _last_of_each(fits).items():
        drawn = {"smiles": plot.smiles(each), "surface": plot.surface(each.surface)}
        for what, figure in drawn.items():
            # An underlying may be called anything; a file may not.
            path = folder / f"{re.sub(r'[^A-Za-z0-9.-]', '_', name)}-{what}.png"
            with writing(path):
                figure.savefig(path)
            yield path


def _last_of_each(fits: Sequence[Fit]) -> dict[str, Fit]:
    """The last chain of each underlying that gave a surface, or its last one at all."""
    last = {each.surface.underlying: each for each in fits}
    return last | {each.surface.underlying: each for each in fits if each.surface.expiries}


def _judge(fits: Sequence[Fit]) -> None:
    from calib.states import FitState

    bare = [each.surface for each in fits if not each.surface.expiries]
    failed = (FitState.NO_STEP_ACCEPTED, FitState.NON_FINITE)
    missed = sum(state in failed for each in fits for state in each.states)
    troubles = []
    if bare:
        first = bare[0]
        troubles.append(
            f"{len(bare)} of {len(fits)} chains gave no surface, the first of them "
            f"{first.underlying} at {str(first.quote_time)[:19]}"
        )
    if missed:
        troubles.append(f"the fit of {missed} expiries failed; their state says how")
    if troubles:
        needs_person("; ".join(troubles))
