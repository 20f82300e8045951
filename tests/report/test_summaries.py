"""What a history of metrics comes to."""

from __future__ import annotations

import numpy as np
import pandas as pd

from calib.report.summaries import course

NOW = pd.Timestamp("2026-03-02T08:00:00Z")


def chain(hour: int, *expiries: tuple[int, float, float, str | None]) -> pd.DataFrame:
    """Metrics of one chain: days to expiry, forward, vol at the money and level of each."""
    frame = pd.DataFrame(expiries, columns=["days", "forward_used", "atm_vol", "trust_level"])
    frame["expiry"] = NOW + pd.to_timedelta(frame.pop("days"), unit="D")
    frame["years"] = (frame["expiry"] - NOW).dt.days / 365.0
    return frame.assign(quote_time=NOW + pd.Timedelta(hours=hour))


def test_moves_are_those_of_the_expiries_that_both_chains_have() -> None:
    found = course(
        pd.concat(
            [
                chain(
                    2, (1, 110.0, 0.9, "HELD"), (30, 121.0, 0.52, "NORMAL"), (99, 1.0, 1.0, None)
                ),
                chain(0, (1, 100.0, 0.5, "NORMAL"), (30, 110.0, 0.50, "NORMAL")),
                chain(3, (7, 110.0, 0.5, "NORMAL")),
            ],
            ignore_index=True,
        )
    )
    assert [(at - NOW).total_seconds() / 3600 for at in found["quote_time"]] == [0.0, 2.0, 3.0]
    np.testing.assert_allclose(found["forward_move"], [np.nan, np.log(1.1), np.nan])
    np.testing.assert_allclose(found["atm_move"], [np.nan, 0.02, np.nan])  # not that of a day
    np.testing.assert_allclose(found["normal"], [1.0, 0.5, 1.0])


def test_no_chain_or_one_alone_has_no_moves() -> None:
    assert course(pd.DataFrame()).empty
    (row,) = course(chain(0, (30, 110.0, 0.5, "NORMAL"))).to_dict("records")
    assert np.isnan([row["forward_move"], row["atm_move"]]).all()
    assert row["normal"] == 1.0
