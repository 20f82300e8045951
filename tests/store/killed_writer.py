"""A process that writes to a store until it is killed, and says what is acknowledged.

``python -m tests.store.killed_writer URL QUOTES EPOCH``: every line of its output is a revision
that the store has taken.
"""

from __future__ import annotations

import sys

import numpy as np

from calib.quotes.fingerprint import fingerprint
from calib.store import Entry, RecordKind, open_store
from tests.service.samples import START, surface
from tests.store.samples import chain, fitted, record


def main(url: str, quotes: str, epoch: str) -> None:
    """Write for ever; files are merged and rows written in between."""
    with open_store(url, create=True, quotes=quotes) as store:
        for revision in range(1, sys.maxsize):
            time = START + np.timedelta64(revision, "s")
            one = chain(time=time, strikes=3)
            store.append(
                [
                    Entry(
                        surface=surface(at=time, epoch=epoch, revision=revision).to_proto(),
                        provenance=fitted(one, fingerprint(one)),
                        chain=one,
                        records=tuple(record(revision, kind=kind, epoch=epoch, n=revision)
                                      for kind in RecordKind),
                    )
                ]
            )  # fmt: skip
            sys.stdout.write(f"{revision}\n")
            sys.stdout.flush()
            if revision % 5 == 0:
                store.tidy()


if __name__ == "__main__":
    main(*sys.argv[1:])
