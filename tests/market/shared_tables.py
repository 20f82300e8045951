"""The real quote tables, where ``CALIB_QUOTES_DIR`` names them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from calib.conventions import Floats, years_between
from calib.market.forwards import implied_forwards
from calib.quotes.chain import Chain, chains
from calib.quotes.reading import read_quotes
from calib.quotes.table import QuoteTable
from calib.states import ForwardSource

FOLDER = os.environ.get("CALIB_QUOTES_DIR", "")
NAMES = tuple(sorted(path.name for path in Path(FOLDER).glob("*.parquet"))) if FOLDER else ()

needs_tables = pytest.mark.skipif(not FOLDER, reason="CALIB_QUOTES_DIR is not set")


@cache
def shared_table(name: str) -> QuoteTable:
    """A table, read once."""
    return read_quotes(Path(FOLDER) / name)


def shared_chains(name: str) -> Iterator[Chain]:
    """Its chains."""
    return chains(shared_table(name))


class ImpliedForwards(NamedTuple):
    """Forwards implied without the venue's, beside the venue's, one entry an expiry and chain.

    ``error`` and ``stated`` (one standard error, the venue's own included) are relative.
    """

    years: Floats
    error: Floats
    stated: Floats
    source: np.ndarray


def blinded(chain: Chain, *, spot: bool) -> Chain:
    """The chain without venue forwards, and without its spot unless that is to stay."""
    nothing = np.full(len(chain.quotes), np.nan)
    quotes = replace(chain.quotes, forward=nothing)
    return replace(chain, quotes=quotes if spot else replace(quotes, spot=nothing))


def implied_against_venue(name: str, *, spot: bool) -> ImpliedForwards:
    """Every expiry of the table that has a venue forward, implied as if it had none."""
    parts = []
    for chain in shared_chains(name):
        true = implied_forwards(chain)
        found = implied_forwards(blinded(chain, spot=spot))
        assert np.array_equal(true.expiry, found.expiry)
        known = true.source == ForwardSource.VENUE
        years = years_between(chain.quote_time, true.expiry)
        error = np.log(found.forward / true.forward)
        stated = np.hypot(found.forward_error / found.forward, true.forward_error / true.forward)
        parts.append([column[known] for column in (years, error, stated, found.source)])
    return ImpliedForwards(*(np.concatenate(column) for column in zip(*parts, strict=True)))
