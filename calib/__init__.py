"""calib: implied volatility surfaces from option quotes, and their way to quoting engines.

Every public name stands in ``__all__``. Each one is imported when it is first asked for, so that
``import calib`` itself loads nothing else, and a quoting engine never loads jax or pandas.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from calib.arbitrage.certificate import Certificate as Certificate
    from calib.arbitrage.certificate import CertificateScope as CertificateScope
    from calib.client import Credentials as Credentials
    from calib.client import connect as connect
    from calib.conventions import ExpiryCalendar as ExpiryCalendar
    from calib.errors import CalibError as CalibError
    from calib.errors import Forbidden as Forbidden
    from calib.errors import InvalidQuoteTable as InvalidQuoteTable
    from calib.errors import InvalidRequest as InvalidRequest
    from calib.errors import InvalidSurface as InvalidSurface
    from calib.errors import NotFitted as NotFitted
    from calib.errors import Unavailable as Unavailable
    from calib.feeds.sample import sample_quotes as sample_quotes
    from calib.feeds.simulator import SimulatorSettings as SimulatorSettings
    from calib.feeds.simulator import simulate as simulate
    from calib.fitting.fit import fit as fit
    from calib.fitting.fit import fit_many as fit_many
    from calib.fitting.fit_value import Fit as Fit
    from calib.fitting.memory import Memory as Memory
    from calib.fitting.settings import FitSettings as FitSettings
    from calib.fitting.smile import LossName as LossName
    from calib.market.black import VolState as VolState
    from calib.market.black import black_price as black_price
    from calib.market.black import implied_vol as implied_vol
    from calib.market.black import implied_vol_state as implied_vol_state
    from calib.market.closures import Closure as Closure
    from calib.market.closures import Event as Event
    from calib.market.closures import WeeklyClosure as WeeklyClosure
    from calib.market.variance_clock import VarianceClock as VarianceClock
    from calib.quotes.reading import quotes_from_frame as quotes_from_frame
    from calib.quotes.reading import read_quotes as read_quotes
    from calib.quotes.reasons import Reason as Reason
    from calib.quotes.table import QuoteTable as QuoteTable
    from calib.report import plot as plot
    from calib.states import FitState as FitState
    from calib.states import ForwardSource as ForwardSource
    from calib.states import ModelName as ModelName
    from calib.store import open_store as open_store
    from calib.surface.surface import Surface as Surface

    __version__: str

# The room of every public name; the same as in the imports above, which only type checkers read.
_ROOMS = {
    "CalibError": "calib.errors",
    "Certificate": "calib.arbitrage.certificate",
    "CertificateScope": "calib.arbitrage.certificate",
    "Closure": "calib.market.closures",
    "Event": "calib.market.closures",
    "Credentials": "calib.client",
    "ExpiryCalendar": "calib.conventions",
    "Fit": "calib.fitting.fit_value",
    "FitSettings": "calib.fitting.settings",
    "FitState": "calib.states",
    "Forbidden": "calib.errors",
    "ForwardSource": "calib.states",
    "InvalidQuoteTable": "calib.errors",
    "InvalidRequest": "calib.errors",
    "InvalidSurface": "calib.errors",
    "LossName": "calib.fitting.smile",
    "Memory": "calib.fitting.memory",
    "ModelName": "calib.states",
    "NotFitted": "calib.errors",
    "QuoteTable": "calib.quotes.table",
    "Reason": "calib.quotes.reasons",
    "SimulatorSettings": "calib.feeds.simulator",
    "Surface": "calib.surface.surface",
    "Unavailable": "calib.errors",
    "VarianceClock": "calib.market.variance_clock",
    "VolState": "calib.market.black",
    "WeeklyClosure": "calib.market.closures",
    "black_price": "calib.market.black",
    "connect": "calib.client",
    "fit": "calib.fitting.fit",
    "fit_many": "calib.fitting.fit",
    "implied_vol": "calib.market.black",
    "implied_vol_state": "calib.market.black",
    "open_store": "calib.store",
    "plot": "calib.report",
    "quotes_from_frame": "calib.quotes.reading",
    "read_quotes": "calib.quotes.reading",
    "sample_quotes": "calib.feeds.sample",
    "simulate": "calib.feeds.simulator",
}

__all__ = sorted(_ROOMS)


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        value: object = version("calib")
    elif name == "plot":
        value = _import_module("calib.report.plot")
    elif name in _ROOMS:
        value = getattr(_import_module(_ROOMS[name]), name)
    else:
        raise AttributeError(f"module 'calib' has no attribute {name!r}")
    globals()[name] = value  # the next look-up no longer comes here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
