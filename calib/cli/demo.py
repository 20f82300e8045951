"""``calib demo``: the whole way of a quote, on one machine, in about a minute."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calib.cli.console import needs_person, writing


def demo(
    folder: Annotated[Path, typer.Option(help="Where quotes, surfaces and the page go.")] = Path(
        "calib-demo"
    ),
    seconds: Annotated[int, typer.Option(min=3, help="How long the market runs.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal markets.")] = 1,
) -> None:
    """Run a server, a simulated market, live calibration and a subscriber, then write a page.

    Ends by itself, and leaves nothing running.
    """
    from calib.cli.demo_run import run_demo

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    missing = run_demo(folder, seconds, seed)
    if missing:
        needs_person(f"the last quotes of {', '.join(missing)} led to no surface")
