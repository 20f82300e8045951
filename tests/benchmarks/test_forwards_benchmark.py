"""Implied forwards against those that the venue shows, and the time from a chain to its slices."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from calib.market.slicing import slices_of
from calib.quotes.chain import Chain
from calib.states import ForwardSource
from tests.market.shared_tables import (
    NAMES,
    ImpliedForwards,
    blinded,
    implied_against_venue,
    needs_tables,
    shared_chains,
)

pytestmark = [pytest.mark.real_data, needs_tables]

DERIBIT = [name for name in NAMES if name.startswith("deribit")]
TENORS = ((0, 1), (1, 2), (2, 7), (7, 30), (30, 90), (90, 400), (0, 400))  # days


@pytest.mark.parametrize("spot", [True, False], ids=["spot", "no_spot"])
@pytest.mark.parametrize("name", DERIBIT)
def test_implied_forwards(name: str, spot: bool) -> None:
    implied = implied_against_venue(name, spot=spot)
    title = f"{name}: venue forwards blanked{'' if spot else ', spot too'}"
    table = Table(title=title, caption="error = implied / venue's − 1; z = error / stated error")
    table.add_column("days", no_wrap=True)
    for heading in (
        "expiries",
        "by parity",
        "median |error| bp",
        "90 %",
        "99 %",
        "worst",
        "bias bp",
        "stated bp",
        "rms z",
        "worst |z|",
    ):
        table.add_column(heading, justify="right")
    for row in _rows(implied):
        table.add_row(*row)
    Console(width=130).print(table)
    assert np.median(np.abs(implied.error)) < 3e-4


def _rows(implied: ImpliedForwards) -> Iterator[list[str]]:
    days = 365.0 * implied.years
    for low, high in TENORS:
        mine = (days >= low) & (days < high)
        if not mine.any():
            continue
        error, stated = 1e4 * implied.error[mine], 1e4 * implied.stated[mine]
        sizes, z = np.abs(error), error / stated
        yield [
            "all" if (low, high) == TENORS[-1] else f"{low}–{high}",
            f"{mine.sum():,}",
            f"{np.mean(implied.source[mine] == ForwardSource.PARITY):.1%}",
            f"{np.median(sizes):.2f}",
            f"{np.quantile(sizes, 0.9):.2f}",
            f"{np.quantile(sizes, 0.99):.2f}",
            f"{sizes.max():.1f}",
            f"{np.median(error):+.2f}",
            f"{np.median(stated):.2f}",
            f"{np.sqrt(np.mean(z * z)):.2f}",
            f"{np.abs(z).max():.1f}",
        ]


def _largest(name: str) -> Chain:
    return max(islice(shared_chains(name), 8), key=lambda chain: len(chain.quotes))


@pytest.mark.parametrize(
    ("name", "blind"), [*((name, False) for name in NAMES), *((name, True) for name in DERIBIT)]
)
def test_time_of_slices(benchmark: Any, name: str, blind: bool) -> None:
    """From a chain to its slices, forwards included; ``True``: the venue's forwards blanked."""
    chain = _largest(name)
    if blind:
        chain = blinded(chain, spot=True)
    benchmark.group = f"chain to slices, {len(chain.quotes):,} rows of {name}"
    slices = benchmark(slices_of, chain)
    assert len(slices.kind) == len(chain.quotes)
