"""The command ``calib``: its parts, and what becomes of what they raise.

Exit codes: 0 done; 1 done, but something in it needs a person, which is printed; 2 bad usage, or
an input, server or store that cannot be used.
"""

from __future__ import annotations

import sys

import typer

from calib.cli.audit import audit
from calib.cli.backtest import backtest
from calib.cli.console import complain
from calib.cli.dashboard import dashboard
from calib.cli.demo import demo
from calib.cli.drift import drift
from calib.cli.feed import feed
from calib.cli.fit import fit
from calib.cli.recalibrate import recalibrate
from calib.cli.record import record
from calib.cli.replay import replay
from calib.cli.report import report
from calib.cli.serve import serve
from calib.cli.simulate import simulate
from calib.cli.watch import watch
from calib.errors import CalibError

app = typer.Typer(
    name="calib",
    help="Implied volatility surfaces from option quotes, and their way to quoting engines.",
    epilog="Exit codes: 0 done; 1 done, but something needs a person (printed); "
    "2 bad usage or unreadable input.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    serve,
    replay,
    watch,
    dashboard,
    fit,
    backtest,
    recalibrate,
    drift,
    report,
    audit,
    simulate,
    demo,
):
    app.command()(command)
app.add_typer(feed, name="feed")
app.add_typer(record, name="record")


def main() -> None:
    """Run the command line and leave the process with its exit code."""
    try:
        app(prog_name="calib")
    except CalibError as error:
        complain(str(error))
        sys.exit(2)
