"""How a dealer quotes an option of known worth: a noisy mid, a spread, ticks and gaps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from calib.conventions import Bools, Floats
from calib.errors import InvalidRequest
from calib.feeds.simulated.noise import MidNoise
from calib.feeds.simulated.ticks import TickSchedule

_FURTHEST = 8.0  # standardised moneyness beyond which spreads widen no more


@dataclass(frozen=True)
class Dealer:
    """The habits of one venue's market makers.

    The half-spread in vol is (``half_spread_vol`` + ``hedge_cost``/√T)(1 + ``wing_widening`` x²),
    x = k/deviation: at the money ``hedge_cost`` is thus a part of the forward, whatever the
    expiry. In the money prices widen further by ``hedge_cost`` times the excess of the delta over
    that of the out-of-the-money option. The mid's error has the standard deviation ``mid_noise``
    half-spreads in vol; the share ``own_noise`` of its variance is drawn anew for every quote, the
    rest is ``noise``, common to put and call and correlated over strikes and time.
    ``missing_side`` is the chance that a side at the money is not quoted for no reason, growing
    with |x|; ``lot`` and ``lots`` are the size step and the typical size in steps.
    Raises InvalidRequest where a number is negative or a share exceeds 1.
    """

    ticks: TickSchedule
    half_spread_vol: float = 0.0025
    wing_widening: float = 0.08
    hedge_cost: float = 0.0008
    mid_noise: float = 0.35
    own_noise: float = 0.1
    noise: MidNoise = field(default_factory=MidNoise)
    missing_side: float = 0.01
    lot: float = 0.1
    lots: float = 100.0

    def __post_init__(self) -> None:
        shares = {"own_noise": self.own_noise, "missing_side": self.missing_side}
        amounts = {
            "half_spread_vol": self.half_spread_vol,
            "wing_widening": self.wing_widening,
            "hedge_cost": self.hedge_cost,
            "mid_noise": self.mid_noise,
        }
        for name, value in (shares | amounts).items():
            if not value >= 0.0 or (name in shares and value > 1.0):
                raise InvalidRequest(f"dealer {name}={value} is not a share or amount")
        if not self.lot > 0.0 or not self.lots > 0.0:
            raise InvalidRequest(f"dealer lot={self.lot} and lots={self.lots} must be positive")


class TrueOptions(NamedTuple):
    """Options as they are truly worth, one row a strike of an expiry."""

    k: Floats  # ln(K/F)
    years: Floats
    vol: Floats  # nan where the worth is below the smallest double
    deviation: Floats  # of ln(F_T/F) at the expiry
    common_noise: Floats  # the field at this strike
    premium_scale: Floats  # premium of an option worth one forward, in the venue's unit


class DealerQuotes(NamedTuple):
    """Both rights of every strike: arrays of shape (strikes, 2), calls first; nan where absent."""

    bid: Floats
    ask: Floats
    bid_size: Floats
    ask_size: Floats
    noise_vol: Floats  # standard deviation of the mid's error, in vol


def dealer_quotes(
    dealer: Dealer, options: TrueOptions, random: np.random.Generator
) -> DealerQuotes:
    """What the dealer shows for ``options``: bids rounded down to a tick, asks up.

    A bid that falls below the first tick is absent.
    """
    from calib.market.black import black_price

    sign = np.array([1.0, -1.0])
    k, years = options.k[:, None], options.years[:, None]
    vol = np.where(np.isnan(options.vol), 0.0, options.vol)[:, None]
    x = np.clip(options.k / options.deviation, -_FURTHEST, _FURTHEST)[:, None]
    base_vol = dealer.half_spread_vol + dealer.hedge_cost / np.sqrt(years)
    half_vol = base_vol * (1.0 + dealer.wing_widening * x * x)
    noise_vol = dealer.mid_noise * half_vol

    own = random.standard_normal((len(options.k), 2))
    common = options.common_noise[:, None]
    error = np.sqrt(1.0 - dealer.own_noise) * common + np.sqrt(dealer.own_noise) * own
    mid_vol = np.maximum(vol + noise_vol * error, 0.0)
    strike = np.exp(k)
    low = black_price(np.maximum(mid_vol - half_vol, 0.0), 1.0, strike, years, sign)
    high = black_price(mid_vol + half_vol, 1.0, strike, years, sign)
    extra = dealer.hedge_cost * _excess_delta(options.k, vol[:, 0], options.years)
    scale = options.premium_scale[:, None]
    bid = dealer.ticks.down((low - extra) * scale)
    ask = dealer.ticks.up((high + extra) * scale)

    shown_bid = (bid > 0.0) & _shown(dealer, x, random)
    shown_ask = _shown(dealer, x, random)
    return DealerQuotes(
        bid=np.where(shown_bid, bid, np.nan),
        ask=np.where(shown_ask, ask, np.nan),
        bid_size=np.where(shown_bid, _sizes(dealer, x, random), np.nan),
        ask_size=np.where(shown_ask, _sizes(dealer, x, random), np.nan),
        noise_vol=np.broadcast_to(noise_vol, bid.shape),
    )


def _excess_delta(k: Floats, vol: Floats, years: Floats) -> Floats:
    """What |Δ| of the in-the-money right exceeds the other's by, calls first; 0 for the other."""
    from scipy.special import ndtr

    spread = np.maximum(vol * np.sqrt(years), 1e-12)
    d1 = -k / spread + 0.5 * spread
    excess = ndtr(d1) - ndtr(-d1)
    call, put = np.where(k < 0.0, excess, 0.0), np.where(k < 0.0, 0.0, -excess)
    return np.asarray(np.maximum(np.stack([call, put], axis=1), 0.0))


def _shown(dealer: Dealer, x: Floats, random: np.random.Generator) -> Bools:
    chance = np.minimum(dealer.missing_side * (1.0 + np.abs(x)), 0.5)
    return random.random((len(x), 2)) >= chance


def _sizes(dealer: Dealer, x: Floats, random: np.random.Generator) -> Floats:
    typical = dealer.lots / (1.0 + x * x)
    drawn = np.rint(typical * np.exp(random.standard_normal((len(x), 2))))
    return np.round(np.maximum(drawn, 1.0) * dealer.lot, 10)
