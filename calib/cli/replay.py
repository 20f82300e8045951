"""``calib replay``: a quote table streamed to a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from calib.cli.chain_options import Every, MaxAge, Quotes, no_chain, spans
from calib.cli.connection import Ca, Certificate, Key, TokenFile, credentials
from calib.cli.console import Column, needs_person, new_progress, out, print_table
from calib.cli.server_address import To, check_answers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from calib.client import Acknowledgement, Client, Credentials
    from calib.feeds.replay import TimedQuotes

SECONDS_TO_WARM_UP = 180.0


def replay(
    quotes: Quotes,
    to: To,
    speed: Annotated[
        float,
        typer.Option(
            min=0.0, help="Times the recorded speed; 0 sends as fast as the server accepts."
        ),
    ] = 1.0,
    every: Every = None,
    max_age: MaxAge = None,
    ca: Ca = None,
    certificate: Certificate = None,
    key: Key = None,
    token_file: TokenFile = None,
) -> None:
    """Stream a quote table to a server, chain by chain, and say what it accepted.

    Exit code 1: the server accepted no row at all.
    """
    from calib.feeds.replay import timed_quotes
    from calib.quotes.reading import read_quotes

    timed = list(timed_quotes(read_quotes(quotes), **spans(every, max_age)))
    if not timed:
        raise no_chain(quotes, max_age)
    with new_progress() as progress:
        task = progress.add_task("waiting for the server", total=len(timed))

        def sent(each: TimedQuotes) -> None:
            text = f"{each.quotes.underlying[0]} {str(each.quotes.quote_time[0])[:19]}"
            progress.update(task, advance=1, description=text)

        acknowledged = asyncio.run(
            _run(to, credentials(ca, certificate, key, token_file), timed, speed, sent)
        )
    print_acknowledged(out(), len(timed), acknowledged)
    if not acknowledged.accepted:
        needs_person(f"{to} accepted none of {acknowledged.rejected:,} rows")


async def _run(
    to: str,
    given: Credentials | None,
    timed: Sequence[TimedQuotes],
    speed: float,
    sent: Callable[[TimedQuotes], None],
) -> Acknowledgement:
    import calib

    await check_answers(to, given)
    async with calib.connect(to, given) as client:
        await client.wait_until_serving(SECONDS_TO_WARM_UP)
        return await stream(client, timed, speed, sent)


async def stream(
    client: Client, timed: Sequence[TimedQuotes], speed: float, sent: Callable[[TimedQuotes], None]
) -> Acknowledgement:
    """Send each at its moment, ``speed`` times as fast as recorded, and add up the answers.

    What falls behind is sent at once. ``sent`` is told of each after its acknowledgement.
    """
    from calib.client import Acknowledgement

    clock = asyncio.get_running_loop().time
    start = clock()
    total = Acknowledgement(reasons={})
    async with client.publisher() as publisher:
        for each in timed:
            if speed > 0.0:
                await asyncio.sleep(start + each.due_seconds / speed - clock())
            total += await publisher.send(each.quotes, snapshot_complete=each.whole_chain)
            sent(each)
    return total


def print_acknowledged(console: Console, chains: int, acknowledged: Acknowledgement) -> None:
    """Print how many rows were accepted, and how many not for which reason."""
    console.print(
        f"sent {chains:,} chains: {acknowledged.accepted:,} rows accepted, "
        f"{acknowledged.rejected:,} rejected"
    )
    if acknowledged.reasons:
        counts = sorted(acknowledged.reasons.items(), key=lambda pair: -pair[1])
        columns = (Column("rows"), Column("rejected because", left=True))
        print_table(console, columns, [[f"{rows:,}", reason.text] for reason, rows in counts])
        for problem in acknowledged.problems[:3]:
            console.print(f"for example {problem}")
