"""``calib report``: the model-risk report of what a store holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calib.cli.compiled import keep_compiled
from calib.cli.console import complain, new_progress, out, writing
from calib.cli.store_options import End, Start, StoredQuotes, StoreUrl
from calib.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from calib.report.history import History


def report(
    store: StoreUrl,
    page: Annotated[Path, typer.Option("--out", help="Write the page here, HTML.")],
    quotes: StoredQuotes = None,
    underlying: Annotated[
        list[str] | None, typer.Option(help="Report this underlying only; may be repeated.")
    ] = None,
    start: Start = None,
    end: End = None,
    compare: Annotated[
        bool,
        typer.Option(help="Fit the other models to the last quotes where no comparison is stored."),
    ] = False,
) -> None:
    """Write one self-contained HTML page on how far the stored surfaces may be trusted."""
    keep_compiled()

    from calib.report.history import stored_histories
    from calib.report.risk_page import risk_html
    from calib.store import open_store

    with open_store(store, quotes=quotes) as opened:
        histories = list(stored_histories(opened, underlying, start, end))
    if not histories:
        raise InvalidRequest(f"{store} holds nothing that was asked for")
    if compare:
        histories = _compared(histories)
    text = risk_html("Model risk", histories)
    with writing(page):
        page.write_text(text, encoding="utf-8")
    names = ", ".join(f"{one.underlying} {one.model.name}" for one in histories)
    out().print(f"page: {page} ({names})", markup=False)


def _compared(histories: Sequence[History]) -> list[History]:
    from calib.report.history import with_comparison

    found = []
    with new_progress() as progress:
        task = progress.add_task("comparing models", total=len(histories))
        for one in histories:
            made = one if len(one.comparisons) else with_comparison(one)
            if not len(made.comparisons):
                complain(f"{one.underlying}: no quotes are kept to compare models on")
            found.append(made)
            progress.advance(task)
    return found
