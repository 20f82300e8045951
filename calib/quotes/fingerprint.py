"""A hash of the quotes that a surface is fitted to: equal hashes are equal inputs."""

from __future__ import annotations

from hashlib import sha256

import numpy as np

from calib.conventions import Floats
from calib.quotes.chain import Chain
from calib.quotes.labels import Labels

_NUMBERS = (
    "quote_time",
    "expiry",
    "strike",
    "right",
    "unit",
    "bid",
    "ask",
    "bid_size",
    "ask_size",
    "forward",
    "spot",
    "reason",
)


def fingerprint(chain: Chain, weights: Floats | None = None) -> str:
    """SHA-256, in hexadecimal, of everything in the chain that a fit can see, row by row.

    Rows in another order are another input, and so are rows of other ``weights``, where they have
    any; how texts are coded does not matter.
    """
    quotes = chain.quotes
    moment = int(chain.quote_time.astype("datetime64[us]").astype(np.int64))
    digest = sha256(f"{chain.underlying}\0{moment}\0{len(quotes)}\0".encode())
    for name in _NUMBERS:
        digest.update(getattr(quotes, name).tobytes())
    digest.update(_texts(quotes.venue))
    if weights is not None:
        digest.update(np.asarray(weights, float).tobytes())
    return digest.hexdigest()


def _texts(labels: Labels) -> bytes:
    """The texts of all rows, independent of the order in which they were first met."""
    used = np.unique(labels.codes)
    names = ["" if code < 0 else labels.names[code] for code in used.tolist()]
    ordered = sorted(set(names))
    place = np.array([ordered.index(name) for name in names], np.int64)
    rows = place[np.searchsorted(used, labels.codes)]
    return "\0".join(ordered).encode() + b"\0\0" + rows.tobytes()
