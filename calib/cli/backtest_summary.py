"""What ``calib backtest`` prints: a block of tables per underlying."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calib.cli.console import Column, print_table
from calib.report import tables

if TYPE_CHECKING:
    from rich.console import Console

    from calib.report.history import History

MOST_ALARMS = 12


def print_history(console: Console, history: History) -> None:
    """Print how the history of one underlying went."""
    name = f"{history.underlying} {history.model.name}"
    blocks = (
        ("errors, bp of vol, by tenor", tables.error_table(history)),
        ("coverage of error bars by the next quotes", tables.coverage_table(history)),
        ("alarms by week", tables.week_table(history)),
        ("alarms, largest first", tables.alarm_table(history, MOST_ALARMS)),
        ("breaker trips", tables.trip_table(history)),
        ("sources of error", tables.cause_table(history)),
    )
    for title, table in blocks:
        if not table.rows:
            console.print(f"{name}: {title}: none\n", markup=False)
            continue
        columns = [
            Column(heading, left=table.is_left(i)) for i, heading in enumerate(table.headings)
        ]
        print_table(console, columns, table.rows, title=f"{name}: {title}")
