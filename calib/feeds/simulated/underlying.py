"""One simulated underlying: its model, its forward curve, its venue; and a set of likely ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

import numpy as np

from calib.conventions import Unit
from calib.errors import InvalidRequest
from calib.feeds.simulated.bates import Bates
from calib.feeds.simulated.dealer import Dealer
from calib.feeds.simulated.expiries import ExpiryRule
from calib.feeds.simulated.path import Carry
from calib.feeds.simulated.ticks import TickSchedule


@dataclass(frozen=True)
class SimulatedUnderlying:
    """What is simulated under one name.

    ``unit``: LINEAR premiums are D · V · F, in quote currency; INVERSE ones D · V, in units of the
    underlying, so that an inverse premium is the undiscounted linear one over the forward where
    D = 1 (V: the option's worth in forwards). D = e^{−``rate`` T}; for inverse premiums ``rate``
    is that of the underlying. ``variance`` is the model's v at the start.
    ``venue_forwards`` says for which expiries the venue shows its forward: all, those that end a
    month (where a future trades), or none. ``spot_tick`` rounds the column ``spot`` only.
    Raises InvalidRequest where spot, variance or spot tick is not positive, or the unit is VOL.
    """

    name: str
    unit: Unit
    spot: float
    model: Bates
    variance: float
    expiries: ExpiryRule
    dealer: Dealer
    rate: float = 0.0
    carry: Carry = field(default_factory=Carry)
    venue_forwards: Literal["all", "monthly", "none"] = "all"
    spot_tick: float = 0.01
    venue: str = "simulated"

    def __post_init__(self) -> None:
        for label in ("spot", "variance", "spot_tick"):
            if not getattr(self, label) > 0:
                raise InvalidRequest(f"{self.name}: {label}={getattr(self, label)} is not positive")
        if self.unit is Unit.VOL:
            raise InvalidRequest(f"{self.name}: quotes are simulated in premiums, not in vols")


def default_underlyings(count: int = 3) -> tuple[SimulatedUnderlying, ...]:
    """BTC and ETH (inverse), SPX (linear), then SIM4, SIM5 … in turns, each with its own numbers.

    BTC shows its forwards, ETH those of month ends, SPX none.
    Raises InvalidRequest where ``count`` is not positive.
    """
    if count < 1:
        raise InvalidRequest(f"underlyings={count} must be at least 1")
    named = (_bitcoin(), _ether(), _index())
    return named[:count] + tuple(_further(number) for number in range(4, count + 1))


def _crypto_rule() -> ExpiryRule:
    morning = timedelta(hours=8)
    return ExpiryRule(morning, morning, monthly="last_friday", weekends=True)


def _index_rule() -> ExpiryRule:
    return ExpiryRule(
        settle=timedelta(hours=20),
        monthly_settle=timedelta(hours=13, minutes=30),
        monthly="third_friday",
        weekends=False,
    )


def _inverse_ticks() -> TickSchedule:
    return TickSchedule(((0.0, 0.0001), (0.005, 0.0005)))


def _linear_ticks() -> TickSchedule:
    return TickSchedule(((0.0, 0.05), (3.0, 0.1)))


def _index_dealer() -> Dealer:
    return Dealer(
        _linear_ticks(), half_spread_vol=0.0012, wing_widening=0.15, hedge_cost=6e-5, lot=1.0
    )


def _bitcoin() -> SimulatedUnderlying:
    return SimulatedUnderlying(
        name="BTC",
        unit=Unit.INVERSE,
        spot=88_000.0,
        model=Bates(3.0, 0.24, 1.3, -0.25, jump_rate=9.0, jump_mean=-0.012, jump_std=0.05),
        variance=0.19,
        expiries=_crypto_rule(),
        dealer=Dealer(_inverse_ticks()),
        carry=Carry(0.045, 0.065, 0.4),
    )


def _ether() -> SimulatedUnderlying:
    return SimulatedUnderlying(
        name="ETH",
        unit=Unit.INVERSE,
        spot=3_050.0,
        model=Bates(3.5, 0.42, 1.6, -0.1, jump_rate=10.0, jump_mean=-0.01, jump_std=0.065),
        variance=0.36,
        expiries=_crypto_rule(),
        dealer=Dealer(_inverse_ticks(), half_spread_vol=0.0035),
        carry=Carry(0.035, 0.05, 0.4),
        venue_forwards="monthly",
    )


def _index() -> SimulatedUnderlying:
    return SimulatedUnderlying(
        name="SPX",
        unit=Unit.LINEAR,
        spot=6_420.0,
        model=Bates(4.0, 0.026, 0.75, -0.72, jump_rate=0.8, jump_mean=-0.07, jump_std=0.06),
        variance=0.017,
        expiries=_index_rule(),
        dealer=_index_dealer(),
        rate=0.04,
        carry=Carry(0.027, 0.029, 0.5),
        venue_forwards="none",
    )


def _further(number: int) -> SimulatedUnderlying:
    """An underlying whose parameters are drawn from a generator seeded with its number."""
    random = np.random.default_rng(number)
    inverse = number % 2 == 0
    theta = float(random.uniform(0.2, 0.6) if inverse else random.uniform(0.03, 0.12))
    model = Bates(
        kappa=float(random.uniform(2.0, 5.0)),
        theta=theta,
        sigma=float(random.uniform(1.5, 2.8) * np.sqrt(theta)),
        rho=float(random.uniform(-0.4, 0.1) if inverse else random.uniform(-0.8, -0.4)),
        jump_rate=float(random.uniform(2.0, 10.0) if inverse else random.uniform(0.3, 2.0)),
        jump_mean=float(random.uniform(-0.03, 0.0) if inverse else random.uniform(-0.1, -0.03)),
        jump_std=float(random.uniform(0.04, 0.09)),
    )
    return SimulatedUnderlying(
        name=f"SIM{number}",
        unit=Unit.INVERSE if inverse else Unit.LINEAR,
        spot=float(np.round(np.exp(random.uniform(np.log(200.0), np.log(20_000.0))), 2)),
        model=model,
        variance=float(theta * random.uniform(0.6, 1.4)),
        expiries=_crypto_rule() if inverse else _index_rule(),
        dealer=Dealer(_inverse_ticks()) if inverse else _index_dealer(),
        rate=0.0 if inverse else 0.04,
        carry=Carry(float(random.uniform(0.0, 0.06)), float(random.uniform(0.0, 0.06)), 0.5),
        venue_forwards="all" if inverse else "none",
    )
