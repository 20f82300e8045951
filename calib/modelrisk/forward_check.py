"""What put-call parity says of the forwards in use: the same quotes, another witness."""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot, log, nan

import numpy as np

from calib.conventions import Floats, Ints
from calib.market.forwards import VENUE_FLOOR
from calib.market.groups import group_quantiles
from calib.market.parity import parity_forwards, parity_pairs
from calib.market.slices import Slices
from calib.quotes.reasons import Reason


@dataclass(frozen=True)
class ForwardCheck:
    """The forwards of one expiry side by side, in quote currency; nan where one is not known.

    ``parity`` is implied by the pairs of calls and puts, ``parity_error`` one standard error of it,
    ``floor`` and ``ceiling`` the interval in which no bid crosses an ask; ``venue`` is the median
    of what the venue of these pairs shows. A linear pair's parity is taken under the discount
    factor in use.
    """

    used: float
    parity: float = nan
    parity_error: float = nan
    floor: float = nan
    ceiling: float = nan
    venue: float = nan
    pairs: int = 0

    @property
    def basis(self) -> float:
        """ln(parity/venue)."""
        return log(self.parity / self.venue) if self.parity > 0.0 and self.venue > 0.0 else nan

    @property
    def basis_z(self) -> float:
        """The basis in standard errors of the parity forward and of the venue's."""
        error = hypot(self.parity_error / self.parity, VENUE_FLOOR) if self.parity > 0.0 else nan
        return self.basis / error

    @property
    def gap(self) -> float:
        """By how much, as a share of itself, the forward in use lies outside of what the pairs'
        bids and asks allow; half the crossing where they allow nothing. 0 where all agree."""
        if not self.pairs:
            return nan
        outside = max(self.floor - self.used, self.used - self.ceiling, 0.0)
        return max(outside, 0.5 * (self.floor - self.ceiling)) / self.used


def forward_checks(slices: Slices) -> tuple[ForwardCheck, ...]:
    """A check for every expiry of a chain; each venue's pairs alone, the one known best counts."""
    quotes, count = slices.chain.quotes, len(slices.expiry)
    if not count:
        return ()
    inside = (slices.slice_index >= 0) & (quotes.venue.codes >= 0)
    usable = inside & (quotes.reason == Reason.USABLE)
    venues = int(quotes.venue.codes.max(initial=0)) + 1
    group: Ints = np.where(inside, slices.slice_index * venues + quotes.venue.codes, -1)
    given = np.flatnonzero(usable & np.isfinite(quotes.forward))
    (own,) = group_quantiles(quotes.forward[given], group[given], count * venues, 0.5)
    pairs = parity_pairs(quotes, group.astype(np.int64), usable)
    implied = parity_forwards(pairs, np.repeat(slices.discount_factor, venues))
    number = np.bincount(pairs.group, minlength=count * venues).reshape(count, venues)
    known = np.isfinite(implied.forward)
    error = np.where(known, implied.error, nan).reshape(count, venues)
    best = np.argmin(np.where(np.isfinite(error), error, np.inf), axis=1)

    def of_best(values: Floats) -> list[float]:
        column: list[float] = values.reshape(count, venues)[np.arange(count), best].tolist()
        return column

    columns = (
        slices.forward.tolist(),
        *map(of_best, (implied.forward, error, implied.floor, implied.ceiling, own)),
        number[np.arange(count), best].tolist(),
    )
    return tuple(ForwardCheck(*row) for row in zip(*columns, strict=True))
