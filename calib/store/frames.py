"""What is stored as pandas frames, for people and notebooks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from calib.quotes.reasons import Reason

if TYPE_CHECKING:
    import pyarrow as pa

    from calib.store.records import Record

_HIDDEN = ("place", "right_code", "unit_code", "row")
_QUOTES = ("as_of", "underlying", "venue", "expiry", "strike", "right", "unit", "bid", "ask",
           "bid_size", "ask_size", "forward", "spot", "exercise", "quote_time", "reason",
           "input_hash")  # fmt: skip


def record_frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row a record, in their order.

    Columns: underlying, quote_time, expiry (UTC, NaT for none), model (its name, empty for none),
    epoch, revision, then every value by its name; a record without that value has none there.
    Values by the name of one of the first columns repeat it, and are left out.
    """
    found = list(records)
    frame = pd.DataFrame(
        {
            "underlying": pd.Series([one.underlying for one in found], dtype="str"),
            "quote_time": _utc([one.quote_time for one in found]),
            "expiry": _utc([one.expiry for one in found]),
            "model": pd.Series(
                ["" if one.model is None else one.model.name for one in found], dtype="str"
            ),
            "epoch": pd.Series([one.epoch for one in found], dtype="str"),
            "revision": pd.Series([one.revision for one in found], dtype="int64"),
        }
    )
    values = pd.DataFrame([dict(one.values) for one in found], index=frame.index)
    return pd.concat([frame, values.drop(columns=frame.columns, errors="ignore")], axis=1)


def quote_frame(table: pa.Table) -> pd.DataFrame:
    """One row a quote: as_of (the chain's time), the columns of a quote table, reason, input_hash.

    ``reason`` says why a row does not count in its chain, empty where it does.
    """
    if not table.num_columns:
        return pd.DataFrame(columns=list(_QUOTES))
    frame: pd.DataFrame = table.drop_columns(list(_HIDDEN)).to_pandas()
    names = {int(reason): reason.name for reason in Reason} | {0: ""}
    frame["reason"] = frame["reason"].map(names)
    return frame[list(_QUOTES)]


def _utc(instants: list[np.datetime64] | list[np.datetime64 | None]) -> pd.Series:
    known = [np.datetime64("NaT") if one is None else one for one in instants]
    return pd.Series(np.array(known, "datetime64[us]")).dt.tz_localize("UTC")
