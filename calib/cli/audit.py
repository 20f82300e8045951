"""``calib audit``: published surfaces built again from what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from calib.cli.compiled import keep_compiled
from calib.cli.console import Column, needs_person, new_progress, out, print_table
from calib.cli.store_options import End, Start, StoredQuotes, StoreUrl
from calib.errors import InvalidRequest

if TYPE_CHECKING:
    from calib.store import Store
    from calib.store.audit import Finding

_SHOWN = 20


def audit(
    store: StoreUrl,
    quotes: StoredQuotes = None,
    underlying: Annotated[
        list[str] | None, typer.Option(help="Audit this underlying only; may be repeated.")
    ] = None,
    start: Start = None,
    end: End = None,
    revision: Annotated[int | None, typer.Option(help="This revision only, of any epoch.")] = None,
) -> None:
    """Build published surfaces again from stored quotes and compare them bit for bit.

    On another build or processor than the one that made them last bits differ: surfaces are then
    held to a tolerance, and counted as such. Exit code 1: a surface differs, or could not be
    audited.
    """
    keep_compiled()

    from calib.store import open_store
    from calib.store.audit import Verdict

    names: Sequence[str | None] = underlying or [None]
    with open_store(store, quotes=quotes) as opened:
        findings = [
            finding for name in names for finding in _findings(opened, name, start, end, revision)
        ]
    if not findings:
        raise InvalidRequest(f"{store} holds no surface that was asked for")
    console = out()
    print_table(console, _COLUMNS, _rows(findings), title=f"Audit of {store}")
    amiss = [one for one in findings if one.verdict in (Verdict.DIFFERENT, Verdict.NOT_AUDITED)]
    close = [one for one in findings if one.verdict is Verdict.CLOSE]
    if close:
        worst = max(one.vol_difference for one in close)
        console.print(
            f"{len(close)} surfaces were held to a tolerance ({close[0].detail.split('; ')[-1]}): "
            f"their vols differ by up to {worst:.1e}"
        )
    for one in amiss[:_SHOWN]:
        console.print(
            f"{one.underlying} {one.model.name} {str(one.quote_time)[:19]}Z revision "
            f"{one.key.revision}: {one.verdict.value}: {one.detail}",
            markup=False,
        )
    if len(amiss) > _SHOWN:
        console.print(f"and {len(amiss) - _SHOWN} more")
    if amiss:
        different = sum(one.verdict is Verdict.DIFFERENT for one in amiss)
        needs_person(
            f"{different} of {len(findings)} surfaces differ from what they were made of, "
            f"{len(amiss) - different} could not be audited"
        )


def _findings(
    store: Store, underlying: str | None, start: str | None, end: str | None, revision: int | None
) -> list[Finding]:
    from calib.store.audit import audit as audited

    found = []
    with new_progress() as progress:
        total = None
        if progress.console.is_terminal:
            total = store.count(underlying, start, end, revision=revision)
        task = progress.add_task(f"auditing {underlying or ''}".rstrip(), total=total)
        for finding in audited(store, underlying, start, end, revision=revision):
            found.append(finding)
            progress.advance(task)
    return found


_COLUMNS = (
    Column("underlying", left=True),
    Column("model", left=True),
    Column("surfaces"),
    Column("identical"),
    Column("within tolerance"),
    Column("different"),
    Column("not audited"),
    Column("largest vol difference", rank=1),
)


def _rows(findings: Sequence[Finding]) -> list[list[str]]:
    from calib.store.audit import Verdict

    rows = []
    for name, model in sorted({(one.underlying, one.model) for one in findings}):
        mine = [one for one in findings if (one.underlying, one.model) == (name, model)]
        counts = [sum(one.verdict is verdict for one in mine) for verdict in Verdict]
        compared = [one.vol_difference for one in mine if one.vol_difference >= 0.0]
        largest = f"{max(compared):.1e}" if compared else ""
        rows.append([name, model.name, str(len(mine)), *map(str, counts), largest])
    return rows
