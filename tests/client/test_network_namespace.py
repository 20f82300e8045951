"""The network itself taken away: server and quoter in a network namespace of their own, whose only
link goes down and comes back. No connection is closed, no packet arrives, nobody is told.

Needs Linux and the right to make a namespace (`unshare --net`), and skips without.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from calib.client import StaleCause, connect
from calib.client.retrying import Backoff
from calib.conventions import utc_now
from tests.client.publishing_server import ROOT, publishing
from tests.client.quoter import quoting

# Rights over the namespace alone, also for users who have none over the machine.
NAMESPACE = ("unshare", "--user", "--map-root-user", "--net")
HOUR = np.timedelta64(3_600_000_000, "us")
EAGER = Backoff(first_seconds=0.01, longest_seconds=0.05)


def link(state: str) -> None:
    """Take the only link of this namespace up or down."""
    subprocess.run(["ip", "link", "set", "lo", state], check=True, timeout=20)


def reason_to_skip() -> str:
    missing = [name for name in ("unshare", "ip") if shutil.which(name) is None]
    if missing:
        return f"needs the commands {' and '.join(missing)}"
    tried = subprocess.run(
        [*NAMESPACE, "ip", "link", "set", "lo", "up"], capture_output=True, text=True, timeout=20
    )
    return "" if tried.returncode == 0 else f"no network namespace here: {tried.stderr.strip()}"


@pytest.mark.parametrize("quote_max_age", ["1s", "1h"])
def test_a_network_that_goes_down_is_noticed_and_one_that_is_back_is_used(
    quote_max_age: str,
) -> None:
    """By the age of quotes where that is limited, by the silence where it is not."""
    if reason := reason_to_skip():
        pytest.skip(reason)
    done = subprocess.run(
        [*NAMESPACE, sys.executable, "-m", "tests.client.test_network_namespace", quote_max_age],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    cause = StaleCause.AGED if quote_max_age == "1s" else StaleCause.SILENT
    assert done.stdout.split() == [cause.name, "1"]


async def outage(quote_max_age: str) -> None:
    """Says why surfaces were stale, and how many runs of a server were seen."""
    limits = {} if quote_max_age == "1s" else {"max_age": HOUR}
    async with (
        publishing(quote_max_age=quote_max_age) as server,
        connect(server.address, backoff=EAGER) as client,
        quoting(client, **limits) as quoter,
    ):
        await quoter.until(quoter.is_live)
        link("down")
        await quoter.until(quoter.is_stale)
        causes = sorted(cause.name for cause in quoter.causes if cause)
        # Until the connection is given up as well, so that a new one has to be had.
        await asyncio.sleep(1.5)
        link("up")
        back = utc_now()
        await quoter.until(lambda: quoter.is_current(back))
        print(*causes, len(quoter.epochs()))  # noqa: T201 - the test reads it


if __name__ == "__main__":
    link("up")
    asyncio.run(outage(sys.argv[1]))
