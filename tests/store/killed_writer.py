"""A process that writes to a store as a server does until it is killed, and says what is written.

``python -m tests.store.killed_writer URL QUOTES EPOCH DAY``: a line of its output is a revision,
which with all before it is no longer waiting to be written. Their times are on that day.
"""

from __future__ import annotations

import sys
from time import monotonic, sleep

import numpy as np

from calib.quotes.fingerprint import fingerprint
from calib.store import Entry, RecordKind, StoreWriter, open_store
from tests.service.samples import surface
from tests.store.samples import chain, fitted, record

_MOST_WAITING = 20


def main(url: str, quotes: str, epoch: str, day: str) -> None:
    """Write for ever; whenever nothing waits for a moment, files are merged."""
    with open_store(url, create=True, quotes=quotes) as store:
        # A clock of a thousand seconds in one: tidying is due all the time.
        writer = StoreWriter(store, clock=lambda: 1_000.0 * monotonic())
        put = written = 0
        while True:
            put += 1
            writer.put(_entry(put, epoch, np.datetime64(day, "us")))
            # Some batches of one and some of many, and some moments with nothing to write.
            while writer.state.waiting > (_MOST_WAITING if put % 50 else 0):
                sleep(0.001)
            state = writer.state
            assert not state.lost
            if put - state.waiting > written:
                written = put - state.waiting
                sys.stdout.write(f"{written}\n")
                sys.stdout.flush()


def _entry(revision: int, epoch: str, day: np.datetime64) -> Entry:
    time = day + np.timedelta64(revision, "ms")
    one = chain(time=time, strikes=3)
    return Entry(
        surface=surface(at=time, epoch=epoch, revision=revision).to_proto(),
        provenance=fitted(one, fingerprint(one)),
        chain=one,
        records=tuple(
            record(revision, kind=kind, time=time, epoch=epoch, n=revision) for kind in RecordKind
        ),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
