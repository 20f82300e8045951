"""Models side by side: what different models of the same quotes leave open.

All fit the same quotes within their spreads; what they say of prices between, beyond and across
the strikes is where they differ, and that is model uncertainty (Cont, "Model uncertainty and its
impact on the pricing of derivative instruments", Mathematical Finance 16 (2006), §4: the range of
prices over models that are calibrated to the same benchmarks).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, nan, sqrt

import numpy as np

from calib.conventions import Floats, iso, micros_of
from calib.errors import InvalidRequest
from calib.modelrisk.delta_buckets import DELTA_BUCKETS, DeltaBucket
from calib.modelrisk.plain_values import Value
from calib.modelrisk.tenors import Tenor, tenor_of
from calib.states import ModelName
from calib.surface.surface import Surface

_NODES = 64
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(_NODES)


@dataclass(frozen=True)
class Quantity:
    """One number by every model, in the order of the models: the first one's is in force."""

    by_model: tuple[float, ...]

    @property
    def range(self) -> float:
        """Largest less smallest: Cont's coherent measure μ; nan where a model has no value."""
        return float(np.ptp(self.by_model))


@dataclass(frozen=True)
class NodeComparison:
    """One strike: where the model in force has the delta of ``bucket``.

    ``vol`` as a decimal; ``call`` undiscounted, as a share of the forward; ``digital``: P(S_T > K).
    """

    bucket: DeltaBucket
    strike: float
    vol: Quantity
    call: Quantity
    digital: Quantity


@dataclass(frozen=True)
class ExpiryComparison:
    """One expiry that all models have.

    ``variance_swap`` and ``corridor`` are fair strikes as vols, of all strikes and of those from
    the 10-delta put to the 10-delta call.
    """

    expiry: np.datetime64
    years: float
    tenor: Tenor
    models: tuple[ModelName, ...]
    nodes: tuple[NodeComparison, ...]
    variance_swap: Quantity
    corridor: Quantity

    @property
    def vol_range(self) -> float:
        """The widest range of vols at the nodes from the 25-delta put to the 25-delta call.

        Nodes at which a model has no vol are left out; nan where none is left.
        """
        ranges = np.array([node.vol.range for node in self.nodes[1:-1]])
        return float(np.fmax.reduce(ranges, initial=nan))

    def values(self) -> dict[str, Value]:
        """Every number of every model under one flat name."""
        found: dict[str, Value] = {
            "expiry": iso(self.expiry),
            "years": self.years,
            "tenor": self.tenor.value,
            "vol_range": self.vol_range,
        }
        for place, model in enumerate(self.models):
            name = model.name.lower()
            found[f"variance_swap_{name}"] = self.variance_swap.by_model[place]
            found[f"corridor_{name}"] = self.corridor.by_model[place]
            for node in self.nodes:
                found[f"vol_{node.bucket}_{name}"] = node.vol.by_model[place]
                found[f"call_{node.bucket}_{name}"] = node.call.by_model[place]
                found[f"digital_{node.bucket}_{name}"] = node.digital.by_model[place]
        return found


def compare(surfaces: Sequence[Surface]) -> tuple[ExpiryComparison, ...]:
    """Surfaces of the same quotes, the one in force first; an entry for each common expiry.

    Raises InvalidRequest where they are not of one underlying and quote time.
    """
    if len({(one.underlying, micros_of(one.quote_time)) for one in surfaces}) != 1:
        raise InvalidRequest("models are compared on surfaces of one underlying and quote time")
    first = surfaces[0]
    common = set.intersection(*({one.years for one in each.expiries} for each in surfaces))
    chosen = [(i, one) for i, one in enumerate(first.expiries) if one.years in common]
    if not chosen:
        return ()
    handles = first.handle_values()
    found = []
    for i, one in chosen:
        value = handles[i].value
        strikes = (
            value.put_10_strike,
            value.put_25_strike,
            one.forward,
            value.call_25_strike,
            value.call_10_strike,
        )
        found.append(
            ExpiryComparison(
                expiry=one.expiry,
                years=one.years,
                tenor=tenor_of(one.years),
                models=tuple(each.model for each in surfaces),
                nodes=tuple(
                    _node(surfaces, one.years, bucket, strike)
                    for bucket, strike in zip(DELTA_BUCKETS, strikes, strict=True)
                ),
                variance_swap=Quantity(
                    tuple(float(each.variance_swap(one.years)) for each in surfaces)
                ),
                corridor=Quantity(
                    tuple(
                        corridor_vol(each, one.years, strikes[0], strikes[-1]) for each in surfaces
                    )
                ),
            )
        )
    return tuple(found)


def corridor_vol(surface: Surface, years: float, low: float, high: float) -> float:
    """The fair strike, as a vol, of variance that counts while ``low`` < S < ``high``.

    √(W/t), W = 2∫ Q(K)/K² dK over the corridor, Q the undiscounted price of the option out of the
    money (Carr & Madan, "Towards a theory of volatility trading", 1998, §III.C). nan where the
    forward does not lie in the corridor.
    """
    forward = float(surface.forward(years))
    if not 0.0 < low <= forward <= high:
        return nan
    total = 0.0
    for end in (log(low / forward), log(high / forward)):
        k = 0.5 * end * (1.0 + _POINTS)
        prices = out_of_the_money(np.asarray(surface.total_variance(k, years)), k)
        total += abs(end) * float(_WEIGHTS @ (prices * np.exp(-k)))  # 2·Q/K² dK, half the width
    return sqrt(total / years)


def out_of_the_money(total_variance: Floats, k: Floats) -> Floats:
    """Black's undiscounted price, for forward 1, of the put below it and of the call from it on."""
    from scipy.special import ndtr

    root = np.sqrt(total_variance)
    sign = np.where(k < 0.0, -1.0, 1.0)
    d1 = 0.5 * root - k / root
    price: Floats = sign * (ndtr(sign * d1) - np.exp(k) * ndtr(sign * (d1 - root)))
    return price


def _node(
    surfaces: Sequence[Surface], years: float, bucket: DeltaBucket, strike: float
) -> NodeComparison:
    calls = []
    for each in surfaces:
        k = log(strike / float(each.forward(years))) if strike > 0.0 else nan
        w = np.asarray(each.total_variance(k, years))
        price = float(out_of_the_money(w, np.asarray(k)))
        calls.append(price if k >= 0.0 else price + 1.0 - float(np.exp(k)))
    return NodeComparison(
        bucket,
        strike,
        Quantity(tuple(float(each.implied_vol(strike, years)) for each in surfaces)),
        Quantity(tuple(calls)),
        Quantity(tuple(1.0 - float(each.distribution(strike, years)) for each in surfaces)),
    )
