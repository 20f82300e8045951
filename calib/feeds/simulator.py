"""Seeded markets of which the truth is known, and is not one of the models that get fitted.

Spot and variance of every underlying follow a Bates model; at each snapshot every listed option is
worth its Bates price under the variance of that moment, and a dealer quotes around it. The same
settings give the same bytes, on the same build of numpy and jax.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np

from calib.conventions import (
    MICROSECONDS_PER_YEAR,
    Floats,
    Instants,
    Unit,
    log_moneyness,
    to_instant,
    years_between,
)
from calib.errors import InvalidRequest
from calib.feeds.simulated.bates import expected_variance, jump_variance
from calib.feeds.simulated.contour import time_value
from calib.feeds.simulated.dealer import TrueOptions, dealer_quotes
from calib.feeds.simulated.expiries import listed_expiries
from calib.feeds.simulated.path import Level, moved
from calib.feeds.simulated.snapshot import Simulation, Snapshot, Truth, collected
from calib.feeds.simulated.strikes import extended_strikes, strike_grid
from calib.feeds.simulated.underlying import SimulatedUnderlying, default_underlyings
from calib.quotes.labels import Labels
from calib.quotes.table import QuoteTable, joined, validated

_LIFE_STRIKES_SECONDS = 60.0  # strikes are laid out for no less life than this


@dataclass(frozen=True)
class SimulatorSettings:
    """What to simulate: everything but the code that does it.

    ``expiries`` and ``strikes`` are numbers, per underlying and per expiry; strikes are added
    when spot runs away from those listed. There are ``snapshots`` moments, the first at
    ``start``, ``interval`` apart. Adding an underlying or a snapshot changes none of the others.
    Raises InvalidRequest where a number is below 1, the interval is not positive, there is no
    underlying or a name occurs twice.
    """

    seed: int = 1
    underlyings: tuple[SimulatedUnderlying, ...] = field(default_factory=default_underlyings)
    expiries: int = 12
    strikes: int = 40
    snapshots: int = 60
    interval: timedelta = timedelta(seconds=1)
    start: datetime = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)

    def __post_init__(self) -> None:
        for name in ("expiries", "strikes", "snapshots"):
            if getattr(self, name) < 1:
                raise InvalidRequest(f"{name}={getattr(self, name)} must be at least 1")
        if self.seed < 0:
            raise InvalidRequest(f"seed={self.seed} must not be negative")
        if self.interval <= timedelta(0):
            raise InvalidRequest(f"interval={self.interval} must be positive")
        names = [underlying.name for underlying in self.underlyings]
        if not names or len(set(names)) < len(names):
            raise InvalidRequest(f"underlyings {names}: give at least one, each name once")


def simulate(settings: SimulatorSettings) -> Simulation:
    """The whole simulation as two data frames: ``quotes``, a quote table, and ``truth``."""
    return collected(snapshots(settings))


def snapshots(settings: SimulatorSettings) -> Iterator[Snapshot]:
    """The snapshots one after another, in memory that does not grow with their number."""
    start = to_instant(settings.start)
    markets = [_opened(settings, index, start) for index in range(len(settings.underlyings))]
    randoms = [_randoms(settings.seed, index) for index in range(len(settings.underlyings))]
    for number in range(settings.snapshots):
        now = start + number * np.timedelta64(settings.interval)
        if number:
            markets = [_moved(settings, *pair, now) for pair in zip(markets, randoms, strict=True)]
        markets = [_rolled(settings, *pair, now) for pair in zip(markets, randoms, strict=True)]
        parts = [_quoted(*pair, now) for pair in zip(markets, randoms, strict=True)]
        yield _together(now, parts)


class _Randoms(NamedTuple):
    """Streams of their own, so that more strikes do not mean another path."""

    path: np.random.Generator
    noise: np.random.Generator
    dealer: np.random.Generator


class _Listing(NamedTuple):
    expiry: np.datetime64
    strikes: Floats
    noise: Floats  # coefficients of the dealer's mid noise


class _Market(NamedTuple):
    """One underlying at one time."""

    underlying: SimulatedUnderlying
    start: np.datetime64
    now: np.datetime64
    level: Level
    listings: tuple[_Listing, ...]

    def forward(self, expiry: Instants | np.datetime64) -> Floats:
        elapsed = years_between(self.start, self.now)
        ahead = years_between(self.start, expiry)
        growth = self.underlying.carry.integral(elapsed, ahead)
        return np.asarray(self.level.spot * np.exp(growth))

    def deviation(self, years: Floats) -> Floats:
        """Standard deviation of the log price over ``years``."""
        model = self.underlying.model
        diffusive = expected_variance(model, years, self.level.variance)
        return np.sqrt(diffusive + jump_variance(model, years))


def _randoms(seed: int, index: int) -> _Randoms:
    streams = np.random.SeedSequence(seed, spawn_key=(index,)).spawn(len(_Randoms._fields))
    return _Randoms(*(np.random.default_rng(stream) for stream in streams))


def _opened(settings: SimulatorSettings, index: int, start: np.datetime64) -> _Market:
    underlying = settings.underlyings[index]
    level = Level(np.asarray(underlying.spot), np.asarray(underlying.variance))
    return _Market(underlying, start, start, level, ())


def _moved(
    settings: SimulatorSettings, market: _Market, randoms: _Randoms, now: np.datetime64
) -> _Market:
    underlying = market.underlying
    seconds = settings.interval.total_seconds()
    elapsed = years_between(market.start, market.now)
    after = years_between(market.start, now)
    growth = float(underlying.carry.integral(elapsed, after))
    level = moved(underlying.model, market.level, float(after - elapsed), growth, randoms.path)
    field_of = underlying.dealer.noise
    listings = tuple(
        each._replace(noise=field_of.moved(each.noise, seconds, randoms.noise))
        for each in market.listings
    )
    return market._replace(now=now, level=level, listings=listings)


def _rolled(
    settings: SimulatorSettings, market: _Market, randoms: _Randoms, now: np.datetime64
) -> _Market:
    """The market without what has expired, with what is listed instead and the strikes it needs."""
    held = {each.expiry: each for each in market.listings}
    expiries = listed_expiries(
        market.underlying.expiries, now, settings.expiries, np.array(list(held), "datetime64[us]")
    )
    shortest = _LIFE_STRIKES_SECONDS * 1e6 / MICROSECONDS_PER_YEAR
    deviations = market.deviation(np.maximum(years_between(now, expiries), shortest))
    forwards = market.forward(expiries)
    listings = []
    for expiry, forward, deviation in zip(expiries, forwards, deviations, strict=True):
        layout = (float(forward), float(deviation), settings.strikes)
        if expiry in held:
            each = held[expiry]
            listings.append(each._replace(strikes=extended_strikes(each.strikes, *layout)))
        else:
            noise = market.underlying.dealer.noise.fresh(randoms.noise)
            listings.append(_Listing(expiry, strike_grid(*layout), noise))
    return market._replace(listings=tuple(listings))


def _quoted(market: _Market, randoms: _Randoms, now: np.datetime64) -> tuple[QuoteTable, Truth]:
    """The chain of one underlying and its truth; calls before puts, strike by strike."""
    from calib.market.black import implied_vol

    underlying, listings = market.underlying, market.listings
    counts = [len(each.strikes) for each in listings]
    expiry = np.repeat(np.array([each.expiry for each in listings], "datetime64[us]"), counts)
    strike = np.concatenate([each.strikes for each in listings])
    years = years_between(now, expiry)
    forward = market.forward(expiry)
    discount = np.exp(-underlying.rate * years)
    k = log_moneyness(strike, forward)
    worth = time_value(underlying.model, k, years, market.level.variance)
    vol = implied_vol(worth, 1.0, np.exp(k), years, np.where(k < 0.0, -1, 1))
    deviation = market.deviation(years)
    noise = np.repeat(np.stack([each.noise for each in listings]), counts, axis=0)
    scale = discount * forward if underlying.unit is Unit.LINEAR else discount
    options = TrueOptions(
        k, years, vol, deviation, underlying.dealer.noise.at(noise, k / deviation), scale
    )
    quotes = dealer_quotes(underlying.dealer, options, randoms.dealer)

    intrinsic = np.maximum(np.stack([-np.expm1(k), np.expm1(k)], axis=1), 0.0)
    table = validated(
        quote_time=np.full(2 * len(k), now),
        venue=Labels.constant(underlying.venue, 2 * len(k)),
        underlying=Labels.constant(underlying.name, 2 * len(k)),
        expiry=np.repeat(expiry, 2),
        strike=np.repeat(strike, 2),
        right=Labels(np.tile(np.array([0, 1], np.int32), len(k)), ("C", "P")),
        unit=Labels.constant(underlying.unit.name.lower(), 2 * len(k)),
        bid=quotes.bid.ravel(),
        ask=quotes.ask.ravel(),
        bid_size=quotes.bid_size.ravel(),
        ask_size=quotes.ask_size.ravel(),
        forward=np.repeat(_venue_forward(market, counts, forward), 2),
        spot=np.full(2 * len(k), _on_tick(float(market.level.spot), underlying.spot_tick)),
    )
    truth = Truth(
        forward=np.repeat(forward, 2),
        discount_factor=np.repeat(discount, 2),
        true_price=((worth[:, None] + intrinsic) * scale[:, None]).ravel(),
        true_vol=np.repeat(vol, 2),
        noise_vol=quotes.noise_vol.ravel(),
    )
    return table, truth


def _venue_forward(market: _Market, counts: list[int], forward: Floats) -> Floats:
    """The forward where the venue shows it, row by row, else nan."""
    match market.underlying.venue_forwards:
        case "all":
            return forward
        case "none":
            return np.full(forward.shape, np.nan)
        case "monthly":
            rule = market.underlying.expiries
            shown = [rule.is_monthly(each.expiry) for each in market.listings]
            return np.where(np.repeat(shown, counts), forward, np.nan)


def _on_tick(value: float, tick: float) -> float:
    return float(np.round(np.rint(value / tick) * tick, 10))


def _together(now: np.datetime64, parts: list[tuple[QuoteTable, Truth]]) -> Snapshot:
    quotes = joined([quotes for quotes, _ in parts])
    columns = zip(*(vars(truth).values() for _, truth in parts), strict=True)
    return Snapshot(now, quotes, Truth(*(np.concatenate(column) for column in columns)))
