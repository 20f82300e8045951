"""``calib backtest``: history replayed, to see how far surfaces could be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calib.cli.chain_options import Every, MaxAge, Model, Quotes, no_chain, of_underlyings, spans
from calib.cli.compiled import keep_compiled
from calib.cli.console import needs_person, new_progress, out, writing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from calib.fitting.settings import FitSettings
    from calib.jobs.backtest import Backtest, Step
    from calib.jobs.model_comparison import ModelComparison
    from calib.quotes.chain import Chain
    from calib.report.history import History


def backtest(
    quotes: Quotes,
    model: Annotated[Model, typer.Option(help="The formula of a smile.")] = Model.SVI,
    underlying: Annotated[
        list[str] | None, typer.Option(help="Replay this underlying only; may be repeated.")
    ] = None,
    every: Every = None,
    max_age: MaxAge = None,
    store: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Write surfaces, quotes and what was found here."),
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--out", help="Write the model-risk report here, HTML.")
    ] = None,
) -> None:
    """Replay a quote table chain by chain, as the live service would have seen it.

    Each chain is judged by the surface before it, then fitted after it. Exit code 1: an underlying
    or expiry is HALTED at the end, or fits failed.
    """
    keep_compiled()

    from dataclasses import replace

    from calib.cli.backtest_summary import print_history
    from calib.fitting.settings import FitSettings
    from calib.jobs.backtest import Backtest
    from calib.models.model import model_named
    from calib.quotes.chain import chains
    from calib.quotes.reading import read_quotes
    from calib.report.history import backtest_histories

    table = of_underlyings(read_quotes(quotes), underlying or [])
    history = list(chains(table, **spans(every, max_age)))
    if not history:
        raise no_chain(quotes, max_age)
    settings = FitSettings(model=model_named(model.value).name)
    steps = _replayed(history, settings, store)
    found = Backtest(settings.model, tuple(steps))
    console = out()
    for one in backtest_histories(found, settings):
        print_history(console, one)
    if page is not None or store is not None:
        found = replace(found, comparisons=_compared(steps, settings))
    if store is not None:
        _store_comparisons(store, found)
        console.print(f"store: {store}", markup=False)
    if page is not None:
        _write_page(page, quotes, backtest_histories(found, settings))
        console.print(f"page: {page}", markup=False)
    _judge(found)


def _replayed(history: Sequence[Chain], settings: FitSettings, url: str | None) -> list[Step]:
    from contextlib import ExitStack

    from calib.jobs.backtest import BacktestSettings, replayed
    from calib.jobs.recording import step_entry
    from calib.store import open_store

    steps = []
    with ExitStack() as stack:
        store = None if url is None else stack.enter_context(open_store(url, create=True))
        progress = stack.enter_context(new_progress("chains/s"))
        task = progress.add_task("replaying", total=len(history))
        for step in replayed(history, BacktestSettings(settings)):
            if store is not None:
                store.append([step_entry(step, settings.model)])
            steps.append(step)
            progress.advance(task)
    return steps


def _compared(steps: Iterable[Step], settings: FitSettings) -> tuple[ModelComparison, ...]:
    """The other models on the last chain of each underlying that gave a surface."""
    from calib.jobs.model_comparison import compared

    last = {step.chain.underlying: step for step in steps if step.provenance is not None}
    found = []
    with new_progress() as progress:
        task = progress.add_task("comparing models", total=len(last))
        for step in last.values():
            if step.surface is not None:
                found.append(compared(step.chain, step.surface, settings))
            progress.advance(task)
    return tuple(found)


def _store_comparisons(url: str, found: Backtest) -> None:
    from calib.jobs.recording import last_records
    from calib.store import Entry, open_store

    with open_store(url) as store:
        store.append([Entry(records=last_records(found))])


def _write_page(path: Path, quotes: Path, histories: Sequence[History]) -> None:
    from calib.report.risk_page import risk_html

    text = risk_html(f"Backtest of {quotes.name}", histories)
    with writing(path):
        path.write_text(text, encoding="utf-8")


def _judge(found: Backtest) -> None:
    troubles = []
    if found.halted:
        troubles.append(f"HALTED at the end: {', '.join(found.halted)}")
    if found.failures:
        first = found.failures[0]
        troubles.append(
            f"{len(found.failures)} of {len(found.steps)} chains gave no good surface, the first "
            f"of them {first.chain.underlying} at {str(first.chain.quote_time)[:19]}: "
            f"{first.failure}"
        )
    missed = found.failed_expiries
    if missed:
        troubles.append(f"the fit of {missed} expiries failed")
    if troubles:
        needs_person("; ".join(troubles))
