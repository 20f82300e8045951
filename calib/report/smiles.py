"""What a picture or a table shows of each expiry: its quotes in vol, and the fitted smile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from calib.conventions import Bools, Floats
from calib.market.slices import QuoteKind, Slices
from calib.quotes.reasons import Reason
from calib.report.style import expiry_texts
from calib.surface.surface import ExpirySlice, Surface


class Quoted(Protocol):
    """A surface and the slices that it was fitted to; :class:`calib.Fit` is one."""

    @property
    def surface(self) -> Surface:
        """The fitted surface."""
        ...

    @property
    def slices(self) -> Slices:
        """The chain in vol, row by row."""
        ...

    @property
    def reason(self) -> NDArray[np.int8]:
        """Why each row of the chain was not used, 0 where it was."""
        ...


@dataclass(frozen=True)
class QuotedSurface:
    """A surface from anywhere, a server for example, beside the slices of its chain."""

    surface: Surface
    slices: Slices

    @property
    def reason(self) -> NDArray[np.int8]:
        """Why each row was not used: FIT_FAILED where the surface does not hold its expiry."""
        held = np.isin(self.slices.expiry, [each.expiry for each in self.surface.expiries])
        unheld = ~np.append(held, True)[self.slices.slice_index]
        reason = self.slices.reason
        return np.where((reason == Reason.USABLE) & unheld, np.int8(Reason.FIT_FAILED), reason)


@dataclass(frozen=True)
class Smile:
    """One expiry: quotes by log-moneyness, and the smile through them where there is one.

    ``two_sided``, ``ceiling``, ``floor`` and ``rejected`` are masks over the quote arrays and
    exclude each other; in-the-money quotes, which say the same as their out-of-the-money
    partners, are in none of them. ``fitted`` is None where the surface does not hold the expiry.
    ``label`` is its date, with the time where another expiry of the chain shares the date.
    """

    surface: Surface
    expiry: np.datetime64
    label: str
    years: float
    forward: float
    log_moneyness: Floats
    bid_vol: Floats
    ask_vol: Floats
    two_sided: Bools
    ceiling: Bools
    floor: Bools
    rejected: Bools
    fitted: ExpirySlice | None

    @property
    def quoted_range(self) -> tuple[float, float]:
        """Lowest and highest log-moneyness among the quotes used; (nan, nan) without any."""
        if self.fitted is not None:
            return self.fitted.log_moneyness_min, self.fitted.log_moneyness_max
        used = self.log_moneyness[self.two_sided | self.ceiling | self.floor]
        return (float(used.min()), float(used.max())) if len(used) else (np.nan, np.nan)

    @property
    def atm_vol(self) -> float:
        """Model vol at the forward, nan where nothing is fitted."""
        return float(self.model_vol(np.zeros(1))[0])

    def model_vol(self, log_moneyness: Floats) -> Floats:
        """Model vol along the smile, nan where nothing is fitted."""
        if self.fitted is None:
            return np.full(np.shape(log_moneyness), np.nan)
        w = self.surface.total_variance(log_moneyness, self.expiry)
        return np.sqrt(np.asarray(w) / self.years)

    def vol_error(self, log_moneyness: Floats) -> Floats:
        """One standard error of the model vol, nan where it is not known."""
        if self.fitted is None:
            return np.full(np.shape(log_moneyness), np.nan)
        strike = self.fitted.forward * np.exp(log_moneyness)
        return np.asarray(self.surface.vol_error(strike, self.expiry))


def smiles_of(quoted: Quoted) -> tuple[Smile, ...]:
    """Every expiry of the chain in order of time, fitted or not."""
    slices, surface = quoted.slices, quoted.surface
    fitted = {each.expiry: each for each in surface.expiries}
    labels = expiry_texts(slices.expiry)
    return tuple(
        _smile(quoted, fitted.get(expiry), index, labels[index])
        for index, expiry in enumerate(slices.expiry)
    )


def smile_at(quoted: Quoted, expiry: np.datetime64) -> Smile | None:
    """The smile of one expiry of the chain, None where the chain does not have it."""
    return next((smile for smile in smiles_of(quoted) if smile.expiry == expiry), None)


def _smile(quoted: Quoted, fitted: ExpirySlice | None, index: int, label: str) -> Smile:
    slices = quoted.slices
    rows = np.flatnonzero(slices.slice_index == index)
    reason = quoted.reason[rows]
    kind = np.where(reason == Reason.USABLE, slices.kind[rows], QuoteKind.NONE)
    bid, ask = slices.bid_vol[rows], slices.ask_vol[rows]
    shown = (np.isfinite(bid) | np.isfinite(ask)) & (reason != Reason.IN_THE_MONEY)
    return Smile(
        surface=quoted.surface,
        expiry=slices.expiry[index],
        label=label,
        years=float(slices.years[index]),
        forward=float(slices.forward[index]),
        log_moneyness=slices.log_moneyness[rows],
        bid_vol=bid,
        ask_vol=ask,
        two_sided=kind == QuoteKind.TWO_SIDED,
        ceiling=kind == QuoteKind.CEILING,
        floor=kind == QuoteKind.FLOOR,
        rejected=shown & (kind == QuoteKind.NONE),
        fitted=fitted,
    )
