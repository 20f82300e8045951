"""Why a quote row was not used: one enumeration for files, batches, residuals and messages."""

from enum import IntEnum


class Reason(IntEnum):
    """Why a row is not used in a fit; the numbers are those of ``calib.v1.RejectReason``.

    USABLE is the absence of a reason. The first block is decided by looking at the row alone,
    the second by the chain that it stands in, the third by the fit.
    """

    USABLE = 0

    BAD_QUOTE_TIME = 1
    BAD_UNDERLYING = 2
    BAD_EXPIRY = 3
    BAD_STRIKE = 4
    BAD_RIGHT = 5
    BAD_UNIT = 6
    BAD_EXERCISE = 7
    AMERICAN_EXERCISE = 8
    BAD_PRICE = 9
    BAD_SIZE = 10
    BAD_FORWARD = 11
    BAD_SPOT = 12
    NO_QUOTE = 13
    CROSSED = 14
    EXPIRED = 15
    BAD_VENUE = 25

    DUPLICATE = 16
    STALE = 21
    OUT_OF_ORDER = 24
    AHEAD_OF_CLOCK = 26
    REPEATED = 27
    VENUE_SILENT = 28
    VENUE_BEHIND = 29
    VENUE_AHEAD = 30
    VENUE_STUCK = 31
    VENUE_FORWARD = 32
    VENUE_APART = 33
    VENUE_INCOMPLETE = 34
    IN_THE_MONEY = 17
    NO_FORWARD = 18
    BELOW_INTRINSIC = 19
    ABOVE_MAXIMUM = 20

    TOO_FEW_QUOTES = 22
    FIT_FAILED = 23

    @property
    def column(self) -> str:
        """The column whose value is at fault, empty where the row is at fault as a whole."""
        return _COLUMN.get(self, "")

    @property
    def text(self) -> str:
        """One sentence for a person: what was wrong and what would be right."""
        return _TEXT[self]


_COLUMN = {
    Reason.BAD_QUOTE_TIME: "quote_time",
    Reason.BAD_UNDERLYING: "underlying",
    Reason.BAD_EXPIRY: "expiry",
    Reason.BAD_STRIKE: "strike",
    Reason.BAD_RIGHT: "right",
    Reason.BAD_UNIT: "unit",
    Reason.BAD_EXERCISE: "exercise",
    Reason.AMERICAN_EXERCISE: "exercise",
    Reason.BAD_PRICE: "bid",
    Reason.BAD_SIZE: "bid_size",
    Reason.BAD_FORWARD: "forward",
    Reason.BAD_SPOT: "spot",
    Reason.EXPIRED: "expiry",
    Reason.CROSSED: "bid",
    Reason.BAD_VENUE: "venue",
    Reason.AHEAD_OF_CLOCK: "quote_time",
    Reason.OUT_OF_ORDER: "quote_time",
}

_TEXT = {
    Reason.USABLE: "usable",
    Reason.BAD_QUOTE_TIME: "the quote time is missing or outside the years 1 to 9999",
    Reason.BAD_UNDERLYING: "the underlying is empty",
    Reason.BAD_EXPIRY: "the expiry is missing or outside the years 1 to 9999",
    Reason.BAD_STRIKE: "the strike must be positive and finite",
    Reason.BAD_RIGHT: "the right must be C or P",
    Reason.BAD_UNIT: "the unit must be linear, inverse or vol",
    Reason.BAD_EXERCISE: "the exercise must be european or american",
    Reason.AMERICAN_EXERCISE: (
        "American options are not calibrated: only European ones have a Black vol"
    ),
    Reason.BAD_PRICE: "bid and ask must be finite and not negative, or empty",
    Reason.BAD_SIZE: "sizes must be finite and not negative, or empty",
    Reason.BAD_FORWARD: "the forward must be positive and finite, or empty",
    Reason.BAD_SPOT: "the spot must be positive and finite, or empty",
    Reason.NO_QUOTE: "neither side is quoted (a zero bid is an absent bid)",
    Reason.CROSSED: "the bid stands above the ask",
    Reason.EXPIRED: "the option had no time left",
    Reason.BAD_VENUE: "the venue is empty",
    Reason.DUPLICATE: "a later row of the same option replaces this one",
    Reason.STALE: "the quote is older than its limit",
    Reason.OUT_OF_ORDER: "the quote is older than the one that it would replace",
    Reason.AHEAD_OF_CLOCK: "the quote time lies ahead of the server's clock",
    Reason.REPEATED: "the message was taken before, or a later one of its count was",
    Reason.VENUE_SILENT: "the venue sends nothing any more",
    Reason.VENUE_BEHIND: "the venue's quote times stay behind those of the other venues",
    Reason.VENUE_AHEAD: "the venue's clock runs ahead of the server's and of the other venues'",
    Reason.VENUE_STUCK: "the venue's prices stand still while those of other venues move",
    Reason.VENUE_FORWARD: "the venue's forwards lie away from those of the other venues",
    Reason.VENUE_APART: "the venue's vols lie away from those of the other venues",
    Reason.VENUE_INCOMPLETE: "the venue has not ended a full chain since messages of it were lost",
    Reason.IN_THE_MONEY: "in the money: used for put-call parity only",
    Reason.NO_FORWARD: "no forward could be had for the expiry",
    Reason.BELOW_INTRINSIC: "no side is worth more than intrinsic value, so no vol exists",
    Reason.ABOVE_MAXIMUM: "the price is at or above the most that the option can be worth",
    Reason.TOO_FEW_QUOTES: "the expiry has too few usable quotes to be fitted",
    Reason.FIT_FAILED: "the fit of the expiry failed",
}
