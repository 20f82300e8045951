"""``calib recalibrate``: history calibrated anew, as a scheduled job does it."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import timedelta
from os import sched_getaffinity
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from calib.cli.chain_options import Every, MaxAge, Model, spans
from calib.cli.compiled import keep_compiled
from calib.cli.console import Column, complain, needs_person, new_progress, out, print_table
from calib.cli.store_options import StoredQuotes, StoreUrl
from calib.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from calib.jobs.quote_source import QuoteSource
    from calib.jobs.recalibration import RecalibrationSettings, UnitResult
    from calib.store import Store

_SHOWN = 5
_WORTH_A_WORKER = 16  # units: fewer are fitted while another process gets ready
_MEMORY_OF_A_WORKER = 1e9  # bytes


def recalibrate(
    quotes: Annotated[
        list[str],
        typer.Argument(
            metavar="QUOTES…",
            help="Quote tables, CSV or Parquet: files, globs, folders, URLs of object stores.",
        ),
    ],
    store: StoreUrl,
    model: Annotated[Model, typer.Option(help="The formula of a smile.")] = Model.SVI,
    underlying: Annotated[
        list[str] | None, typer.Option(help="Calibrate this underlying only; may be repeated.")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="DAY", help="From this UTC day on, 2026-03-01.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="DAY", help="Up to before this UTC day.")
    ] = None,
    last: Annotated[
        str | None,
        typer.Option(metavar="SPAN", help="The last whole UTC days before today only, like 1d."),
    ] = None,
    every: Every = None,
    max_age: MaxAge = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes that fit, each of which takes seconds to be ready.",
            show_default="one a processor, and no more than one for 16 days of an underlying or "
            "for 1 GB of memory that is free",
        ),
    ] = None,
    kept: StoredQuotes = None,
) -> None:
    """Calibrate history into a store: every chain after the last one of its UTC day.

    Days that are stored already are not fitted again, so that the command goes on where it was
    interrupted, and may be repeated. Exit code 1: chains gave no surface, in this run or when
    their day was stored, or rows belong to no underlying or time.
    """
    keep_compiled()

    from calib.fitting.settings import FitSettings
    from calib.jobs.quote_source import QuoteSource
    from calib.jobs.recalibration import RecalibrationSettings
    from calib.models.model import model_named
    from calib.store import open_store

    fit = FitSettings(model=model_named(model.value).name)
    days = _days(start, end, last)
    source = QuoteSource(
        quotes, underlyings=underlying or (), first=days[0], last=days[1], **spans(every, max_age)
    )
    _check_asked(source, quotes, underlying or ())
    with open_store(store, create=True, quotes=kept) as opened, opened.alone("recalibrate"):
        started = monotonic()
        chosen = workers or _usual_workers(len(source.units))
        results = _run(source, opened, RecalibrationSettings(fit, chosen))
        seconds = monotonic() - started
    _tell(results, store, seconds)
    troubles = [
        f"{one.unit} at {str(f.quote_time)[11:19]}: {f.reason}"
        for one in results
        for f in one.failures
    ]
    for line in troubles[:_SHOWN]:
        complain(line)
    attention = []
    if troubles:
        attention.append(f"{len(troubles):,} chains gave no surface")
    if source.nameless_rows:
        attention.append(f"{source.nameless_rows:,} rows name no underlying or no quote time")
    if attention:
        needs_person(", ".join(attention))


def _run(source: QuoteSource, store: Store, settings: RecalibrationSettings) -> list[UnitResult]:
    from calib.jobs.recalibration import recalibrate as recalibrated

    results = []
    with new_progress("days/s") as progress:
        task = progress.add_task("calibrating", total=len(source.units))
        for result in recalibrated(source, store, source.units, settings):
            results.append(result)
            progress.update(task, advance=1, description=f"calibrating {result.unit}")
    return results


def _usual_workers(units: int, memory: Path = Path("/proc/meminfo")) -> int:
    """How many processes so many units are worth, and this machine has room for."""
    most = min(len(sched_getaffinity(0)), units // _WORTH_A_WORKER)
    with suppress(OSError):  # only Linux tells
        if found := re.search(r"^MemAvailable: +(\d+) kB$", memory.read_text("ascii"), re.M):
            most = min(most, int(1024 * int(found[1]) / _MEMORY_OF_A_WORKER))
    return max(1, most)


def _check_asked(source: QuoteSource, places: Sequence[str], underlyings: Sequence[str]) -> None:
    """Raise InvalidRequest where there is nothing of what is asked for, and say what there is."""
    from calib.jobs.quote_source import QuoteSource

    missing = set(underlyings) - {unit.underlying for unit in source.units}
    if source.units and not missing:
        return
    units = QuoteSource(places).units
    known = sorted({unit.underlying for unit in units})
    unknown = sorted(missing - set(known))
    if unknown:
        raise InvalidRequest(
            f"no quotes of {', '.join(unknown)}; there are those of {', '.join(known) or 'none'}"
        )
    if not source.units:
        days = [unit.day for unit in units]
        held = f"from {min(days)} to {max(days)}" if days else "of no day"
        raise InvalidRequest(f"there is nothing to calibrate: the quotes are {held}")


def _days(
    start: str | None, end: str | None, last: str | None
) -> tuple[np.datetime64 | None, np.datetime64 | None]:
    """The first of the UTC days that these options mean, and the one after them."""
    if last is None:
        return _day("--from", start), _day("--to", end)
    if start is not None or end is not None:
        raise InvalidRequest("--last goes without --from and --to")
    from calib.conventions import span_of, utc_now

    span = span_of("--last", last)
    if span % timedelta(days=1):
        raise InvalidRequest(f"--last {last!r} ends within a day; days are calibrated as a whole")
    today = utc_now().astype("datetime64[D]")
    return today - span.days, today


def _day(option: str, text: str | None) -> np.datetime64 | None:
    """A UTC day: results would not be the same if a day could be cut."""
    import numpy as np

    from calib.conventions import to_instant

    if text is None:
        return None
    try:
        moment = to_instant(text)
    except (ValueError, InvalidRequest):
        raise InvalidRequest(f"{option} {text!r} is no day; write it as 2026-03-01") from None
    day: np.datetime64 = moment.astype("datetime64[D]")
    if np.isnat(moment) or day != moment:
        raise InvalidRequest(f"{option} {text!r} is within a day; days are calibrated as a whole")
    return day


def _tell(results: Sequence[UnitResult], url: str, seconds: float) -> None:
    rows = []
    for name in sorted({one.unit.underlying for one in results}):
        mine = [one for one in results if one.unit.underlying == name]
        counts = (
            len(mine),
            sum(one.known for one in mine),
            sum(one.chains for one in mine),
            sum(one.surfaces for one in mine),
            sum(len(one.failures) for one in mine),
            sum(one.rows for one in mine),
        )
        rows.append((name, *(f"{count:,}" for count in counts)))
    columns = (
        Column("underlying", left=True),
        Column("days"),
        Column("stored before"),
        Column("chains"),
        Column("surfaces"),
        Column("failed"),
        Column("rows"),
    )
    console = out()
    print_table(console, columns, rows)
    fitted = sum(one.rows for one in results if not one.known)
    chains = sum(one.chains for one in results if not one.known)
    peak, each = (getrusage(who).ru_maxrss / 1024 for who in (RUSAGE_SELF, RUSAGE_CHILDREN))
    console.print(
        f"{seconds:.1f} s: {chains / seconds:,.1f} chains/s, {fitted / seconds:,.0f} rows/s; "
        f"peak memory {peak:,.0f} MB" + (f", {each:,.0f} of a worker" if each else ""),
        markup=False,
    )
    console.print(f"store: {url}", markup=False)
