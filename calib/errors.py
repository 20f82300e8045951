"""Every exception that calib raises on purpose, in one tree.

::

    CalibError
    ├── InvalidRequest (ValueError)   the caller asked for something that has no answer
    │   ├── InvalidQuoteTable         a table that is not a quote table: names column and row
    │   └── InvalidSurface            a message or file that is not a surface
    ├── NotFitted (LookupError)       the surface, expiry or underlying asked for is not there
    ├── Forbidden                     the caller is not known, or has no right to what it asked
    └── Unavailable                   a server or store that cannot be reached or used now

Bad market data raises nothing: it comes back marked with a state and a reason
(:class:`calib.quotes.reasons.Reason`, :class:`calib.fitting.state.FitState`).
"""


class CalibError(Exception):
    """Base of every exception that calib raises on purpose."""


class InvalidRequest(CalibError, ValueError):
    """The request cannot be answered as it stands; the message carries the offending value."""


class InvalidQuoteTable(InvalidRequest):
    """The input is not a quote table: a column is missing or holds the wrong type."""


class InvalidSurface(InvalidRequest):
    """The message or file is not a surface that this version can evaluate."""


class NotFitted(CalibError, LookupError):
    """No surface, or no such expiry, for what was asked."""


class Forbidden(CalibError):
    """The server does not know who calls, or does not give that caller what it asked for."""


class Unavailable(CalibError):
    """A server or a store cannot be reached or used now; trying again later may help."""
