"""``calib simulate``: a market of which the truth is known, as a quote table."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from calib.cli.console import new_progress, out


def simulate(
    quotes: Annotated[
        Path, typer.Option("--out", metavar="QUOTES", help="Where to write: .csv or .parquet.")
    ],
    truth: Annotated[
        Path | None, typer.Option(help="Write the true vol of every row here: .csv or .parquet.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal markets.")] = 1,
    underlyings: Annotated[int, typer.Option(min=1, help="How many.")] = 3,
    expiries: Annotated[int, typer.Option(min=1, help="How many an underlying.")] = 12,
    strikes: Annotated[int, typer.Option(min=1, help="How many an expiry.")] = 40,
    snapshots: Annotated[int, typer.Option(min=1, help="How many moments.")] = 60,
    interval: Annotated[
        str, typer.Option(metavar="SPAN", help="Time between them: 500ms, 1s, 10min.")
    ] = "1s",
    start: Annotated[
        str, typer.Option(metavar="TIME", help="The first moment, ISO 8601 or now.")
    ] = "2026-01-05T09:30:00Z",
    hostile: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[,NAME…]",
            help="What goes wrong, one after another: stale-venue, shifted-venue, fat-finger, "
            "crossed-chain, missing-strikes, missing-sides, wide-market, wrong-forward, "
            "spot-jump, vol-jump.",
        ),
    ] = None,
    causes: Annotated[
        Path | None,
        typer.Option(help="Write what went wrong, where and when: .csv or .parquet."),
    ] = None,
) -> None:
    """Write a simulated market: stochastic volatility with jumps, quoted by a dealer.

    BTC and ETH quote inverse premiums, SPX linear ones; further underlyings are SIM4, SIM5 ….
    """
    from calib.cli.frames import check_suffix, write_frame
    from calib.conventions import span_of, to_datetime, to_instant
    from calib.errors import InvalidRequest
    from calib.feeds.hostile.programme import fault_names, programme
    from calib.feeds.simulated.snapshot import Simulation, collected, quotes_frame
    from calib.feeds.simulated.underlying import default_underlyings
    from calib.feeds.simulator import SimulatorSettings
    from calib.feeds.simulator import snapshots as simulated
    from calib.quotes.reading import quotes_from_frame

    names = () if hostile is None else fault_names(hostile)
    if causes is not None and not names:
        raise InvalidRequest("--causes needs --hostile: nothing goes wrong otherwise")
    for path in (quotes, truth, causes):
        if path is not None:
            check_suffix(path)
    first = datetime.now(UTC) if start == "now" else to_datetime(to_instant(start))
    settings = SimulatorSettings(
        seed=seed,
        underlyings=default_underlyings(underlyings),
        expiries=expiries,
        strikes=strikes,
        snapshots=snapshots,
        interval=span_of("interval", interval),
        start=first,
    )
    with new_progress() as progress:
        market = collected(
            progress.track(simulated(settings), total=snapshots, description="simulating")
        )
    if names:
        faulty = programme(quotes_from_frame(market.quotes), names, seed)
        market = Simulation(
            quotes_frame(faulty.quotes),
            market.truth.iloc[faulty.quotes.row].reset_index(drop=True),
        )
    console = out()
    write_frame(quotes, market.quotes)
    console.print(f"quotes: {quotes}, {len(market.quotes):,} rows at {snapshots:,} moments")
    if truth is not None:
        write_frame(truth, market.truth)
        console.print(f"truth: {truth}")
    if names and causes is not None:
        write_frame(causes, faulty.causes_frame())
        console.print(f"causes: {causes}, {len(names)} faults")
