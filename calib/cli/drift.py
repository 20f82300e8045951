"""``calib drift``: live surfaces against cold fits of the same quotes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from calib.cli.compiled import keep_compiled
from calib.cli.console import Column, complain, needs_person, new_progress, out, print_table
from calib.cli.store_options import End, Start, StoredQuotes, StoreUrl
from calib.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from calib.jobs.drift import Drift
    from calib.store import Store

_SHOWN = 5


def drift(
    store: StoreUrl,
    quotes: StoredQuotes = None,
    underlying: Annotated[
        list[str] | None, typer.Option(help="Check this underlying only; may be repeated.")
    ] = None,
    start: Start = None,
    end: End = None,
    last: Annotated[
        str | None, typer.Option(metavar="SPAN", help="The last span before now only, like 1h.")
    ] = None,
    limit: Annotated[
        float, typer.Option(min=0.0, help="Standard errors of a vol that are a drift.")
    ] = 2.0,
) -> None:
    """Fit the quotes behind stored surfaces anew, from nothing, and see how far these lie apart.

    Exit code 1: an expiry lies further from its cold fit than the limit, in root mean square over
    its strikes, or could not be compared.
    """
    keep_compiled()

    from calib.store import open_store

    if last is not None:
        if start is not None or end is not None:
            raise InvalidRequest("--last goes without --start and --end")
        start = _ago(last)
    with open_store(store, quotes=quotes) as opened:
        names: Sequence[str | None] = underlying or [None]
        found = [one for name in names for one in _drifts(opened, name, start, end)]
    if not found:
        raise InvalidRequest(f"{store} holds no fitted surface that was asked for")
    _tell(found)
    missing = [one for one in found if one.missing]
    far = [one for one in found if one.deviations > limit]
    for one in [*missing, *far][:_SHOWN]:
        at = f"{one.underlying} {str(one.quote_time)[:19]}, expiry {str(one.expiry)[:16]}"
        complain(f"{at}: {one.missing or f'{one.deviations:.2f} standard errors'}")
    if missing or far:
        needs_person(
            f"{len(far)} of {len(found)} smiles lie more than {limit:g} standard errors from "
            f"their cold fit, {len(missing)} could not be compared"
        )


def _ago(span: str) -> str:
    from datetime import UTC, datetime

    from calib.conventions import span_of

    return (datetime.now(UTC) - span_of("--last", span)).isoformat()


def _drifts(store: Store, name: str | None, start: str | None, end: str | None) -> list[Drift]:
    from calib.jobs.drift import drifts

    found = []
    with new_progress("smiles/s") as progress:
        task = progress.add_task("fitting anew", total=None)
        for one in drifts(store, name, start, end):
            found.append(one)
            progress.advance(task)
    return found


def _tell(found: Sequence[Drift]) -> None:
    import numpy as np

    rows = []
    for name in sorted({one.underlying for one in found}):
        mine = [one for one in found if one.underlying == name]
        compared = [one for one in mine if not one.missing]
        times = {one.quote_time for one in mine}
        bp = 1e4 * np.array([one.rms for one in compared] or [np.nan])
        worst = max((one.largest for one in compared), default=np.nan)
        deviations = np.array([one.deviations for one in compared] or [np.nan])
        rows.append(
            (
                name,
                f"{len(times):,}",
                f"{len(compared):,}",
                f"{np.median(bp):.2f}",
                f"{1e4 * worst:.1f}",
                f"{np.nanmedian(deviations):.2f}" if np.isfinite(deviations).any() else "",
                f"{np.nanmax(deviations):.2f}" if np.isfinite(deviations).any() else "",
            )
        )
    columns = (
        Column("underlying", left=True),
        Column("surfaces"),
        Column("smiles"),
        Column("median rms, bp"),
        Column("largest, bp"),
        Column("median, std errors"),
        Column("worst, std errors"),
    )
    print_table(out(), columns, rows)
