"""``calib watch``: what a quoting engine receives, a line per surface."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from calib.cli.connection import Ca, Certificate, Key, TokenFile, credentials
from calib.cli.console import out
from calib.cli.server_address import From, Underlyings, check_answers

if TYPE_CHECKING:
    from rich.console import Console

    from calib.client import Credentials, SurfaceUpdate
    from calib.surface.surface import ExpirySlice, Surface

# The expiries nearest to these tenors are shown, in days.
SHOWN_DAYS = (7.0, 30.0, 90.0, 365.0)
TENOR_WIDTH = len("  88 d 44.80%")
A_DAY = 86_400.0


def watch(
    server: From,
    underlyings: Underlyings = None,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many surfaces.")] = None,
    ca: Ca = None,
    certificate: Certificate = None,
    key: Key = None,
    token_file: TokenFile = None,
) -> None:
    """Subscribe and print every surface as it arrives, until Ctrl-C.

    First come the surfaces in force, then every change. Interruptions are noted on stderr; the
    watch goes on when the server is back.
    """
    from calib.service.logs import configure_logs

    configure_logs()
    with contextlib.suppress(KeyboardInterrupt):
        given = credentials(ca, certificate, key, token_file)
        asyncio.run(_run(server, given, underlyings or [], count, out()))


async def _run(
    server: str,
    given: Credentials | None,
    underlyings: list[str],
    count: int | None,
    console: Console,
) -> None:
    import calib

    await check_answers(server, given)
    async with calib.connect(server, given) as client:
        left = count
        async for update in client.watch(underlyings):
            print_update(console, update)
            if left is not None and (left := left - 1) == 0:
                return


def print_update(console: Console, update: SurfaceUpdate) -> None:
    """Print a surface as one line: when, what, how old, how reliable, and its level by expiry."""
    from calib.report.style import age_text, percent_text, tenor_text

    surface = update.surface
    skipped = f"  {update.conflated_count} skipped" if update.conflated_count else ""
    age = update.age_seconds
    when = str(surface.quote_time)[:19].replace("T", " ")
    line = (
        f"{when if age > A_DAY else when[11:]}  {surface.underlying:<6}  rev {update.revision:<5d}"
        f" {update.state.name.lower():<5} {update.level.name.lower():<7}  {age_text(age):>6} old"
        f"  {len(surface.expiries):>2} expiries{skipped}  ATM"
    )
    room = (console.width - len(line)) // TENOR_WIDTH if console.is_terminal else len(SHOWN_DAYS)
    for each in shown_expiries(surface)[: max(room, 1)]:
        line += f"  {tenor_text(each.years)} {percent_text(_atm_vol(surface, each), 2)}"
    console.print(line, markup=False, soft_wrap=True)


def shown_expiries(surface: Surface) -> list[ExpirySlice]:
    """The fitted expiries nearest to a week, a month, a quarter and a year, each once."""
    nearest = {
        min(surface.expiries, key=lambda each: abs(each.years * 365.0 - days)).expiry
        for days in SHOWN_DAYS
        if surface.expiries
    }
    return [each for each in surface.expiries if each.expiry in nearest]


def _atm_vol(surface: Surface, each: ExpirySlice) -> float:
    return float(surface.implied_vol(each.forward, each.expiry))
