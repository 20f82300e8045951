"""Chains as Arrow tables: quote tables as `calib.read_quotes` takes them, and what makes a chain.

Exact both ways, so that the hash of a chain that is read back proves it to be what was fitted.
Beside the columns of a quote table: ``as_of``, the chain's quote time; ``input_hash``, its
fingerprint; ``place``, a row's number in its chain; ``reason``, why a row does not count, by the
numbers of `calib.quotes.reasons.Reason`; ``row``, ``right_code`` and ``unit_code`` as the table
in memory has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from calib.quotes.chain import Chain
from calib.quotes.labels import Labels
from calib.quotes.table import QuoteTable

if TYPE_CHECKING:
    import pyarrow as pa

INSTANTS = ("quote_time", "expiry")
TEXTS = {
    "venue": "venue",
    "underlying": "underlying",
    "right": "right_text",
    "unit": "unit_text",
    "exercise": "exercise_text",
}
FLOATS = ("strike", "bid", "ask", "bid_size", "ask_size", "forward", "spot")
_CODES = {"right_code": "right", "unit_code": "unit", "reason": "reason", "row": "row"}
"""Columns by their names in the file, and in a `QuoteTable`."""


def chain_to_arrow(chain: Chain, input_hash: str) -> pa.Table:
    """The chain's rows, in their order."""
    import pyarrow as pa

    quotes, rows = chain.quotes, len(chain.quotes)
    columns: dict[str, Any] = {
        "as_of": instants_to_arrow(np.full(rows, chain.quote_time)),
        "input_hash": pa.repeat(pa.scalar(input_hash), rows),
        "place": np.arange(rows, dtype=np.int32),
    }
    columns |= {name: instants_to_arrow(getattr(quotes, name)) for name in INSTANTS}
    columns |= {name: texts_to_arrow(getattr(quotes, field)) for name, field in TEXTS.items()}
    # nan stays nan, bit for bit: a null would come back as another one.
    columns |= {name: getattr(quotes, name) for name in FLOATS}
    columns |= {name: getattr(quotes, field) for name, field in _CODES.items()}
    return pa.table(columns)


def chains_from_arrow(table: pa.Table) -> Iterator[tuple[str, Chain]]:
    """The chains in a table, in their order, each with its input hash."""
    for part in chain_tables(table):
        yield part["input_hash"][0].as_py(), _chain(part.combine_chunks())


def chain_tables(table: pa.Table) -> Iterator[pa.Table]:
    """The rows of each chain in a table, in their order."""
    edges = [*np.flatnonzero(table["place"].to_numpy() == 0).tolist(), len(table)]
    for start, stop in pairwise(edges):
        yield table.slice(start, stop - start)


def _chain(part: pa.Table) -> Chain:
    columns: dict[str, Any] = {name: _moments(part[name]) for name in INSTANTS}
    columns |= {field: _labels(part[name]) for name, field in TEXTS.items()}
    columns |= {name: part[name].to_numpy() for name in FLOATS}
    columns |= {field: part[name].to_numpy() for name, field in _CODES.items()}
    quotes = QuoteTable(**columns)
    # A chain's rows are of one underlying, which is its own.
    return Chain(quotes.underlying.names[0], _moments(part["as_of"])[0], quotes)


def instants_to_arrow(values: NDArray[np.datetime64]) -> pa.Array:
    """Instants as UTC timestamps in microseconds, null where there is none."""
    import pyarrow as pa

    return pa.array(values.astype("datetime64[us]"), pa.timestamp("us", "UTC"))


def _moments(column: pa.ChunkedArray) -> NDArray[np.datetime64]:
    import pyarrow as pa

    return np.array(column.cast(pa.timestamp("us")).to_numpy(), "datetime64[us]")


def texts_to_arrow(labels: Labels) -> pa.Array:
    """One text a row, null where there is none."""
    import pyarrow as pa

    codes = pa.array(labels.codes, mask=labels.codes < 0)
    names = pa.array(list(labels.names), pa.string())
    return pa.DictionaryArray.from_arrays(codes, names).cast(pa.string())


def _labels(column: pa.ChunkedArray) -> Labels:
    encoded = column.combine_chunks().dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    return Labels(codes, tuple(encoded.dictionary.to_pylist()))
