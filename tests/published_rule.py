"""The evaluation rule of `protos/calib/v1/surface.proto`, read line by line, in 40 digits.

Written from the proto's comment alone and sharing no code with calib: slow, plain, and the other
side of every comparison with `calib.Surface`. Step numbers are those of the comment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import mpmath

from calib.v1 import surface_pb2

Number = Any  # an mpmath number
Formula = Callable[[list[Number], Number, Number], Number]

mp = mpmath.mp.clone()
mp.dps = 40

DISTANCES = [mp.mpf(x) for x in (0, 0.5, 1, 2, 4, 8)]


def svi(p: list[Number], k: Number, years: Number) -> Number:
    a, b, rho, m, sigma = p
    return a + b * (rho * (k - m) + mp.sqrt((k - m) ** 2 + sigma**2))


def essvi(p: list[Number], k: Number, years: Number) -> Number:
    theta, rho, psi = p
    root = mp.sqrt((psi * k + theta * rho) ** 2 + theta**2 * (1 - rho**2))
    return (theta + rho * psi * k + root) / 2


def sabr(p: list[Number], k: Number, years: Number) -> Number:
    alpha, beta, rho, nu = p
    e = mp.exp((1 - beta) * k / 2)
    wing = (1 - beta) * k
    z = -nu / alpha * e * k
    x = mp.log((mp.sqrt(1 - 2 * rho * z + z**2) + z - rho) / (1 - rho))
    vol = (
        alpha
        / (e * (1 + wing**2 / 24 + wing**4 / 1920))
        * (z / x if z else 1)
        * (
            1
            + years
            * (
                (1 - beta) ** 2 * alpha**2 / (24 * e**2)
                + rho * beta * nu * alpha / (4 * e)
                + (2 - 3 * rho**2) * nu**2 / 24
            )
        )
    )
    return vol**2 * years


class PublishedRule:
    """Evaluates a message; t is years, an mpmath number, and so is every value."""

    def __init__(self, message: surface_pb2.Surface) -> None:
        expiries = message.expiries
        name = cast("str", expiries[0].WhichOneof("parameters"))
        self.is_sabr = name == "sabr"
        self.formula: Formula = {"svi": svi, "essvi": essvi, "sabr": sabr}[name]
        messages = [getattr(e, name) for e in expiries]
        names = [field.name for field in messages[0].DESCRIPTOR.fields]
        self.p = [[mp.mpf(getattr(one, n)) for n in names] for one in messages]
        self.t = [mp.mpf(e.years) for e in expiries]
        self.tau = [mp.mpf(e.variance_time) for e in expiries]
        self.f = [mp.mpf(e.forward) for e in expiries]
        self.d = [mp.mpf(e.discount_factor) for e in expiries]
        self.f_error = [mp.mpf(e.forward_error) for e in expiries]
        self.low = [mp.mpf(e.log_moneyness_min) for e in expiries]
        self.high = [mp.mpf(e.log_moneyness_max) for e in expiries]
        self.c = [[mp.mpf(v) for v in e.covariance.values] for e in expiries]
        self.spot = mp.mpf(message.spot) if message.HasField("spot") else None

    # Steps 2-4: time, forward, discount factor.
    def variance_time(self, t: Number) -> Number:
        if t > self.t[-1]:
            return self.tau[-1] + (t - self.t[-1])
        return _through([0, *self.t], [0, *self.tau], t)

    def forward(self, t: Number) -> Number:
        logs = [mp.log(f) for f in self.f]
        if t > self.t[-1]:
            drift = 0 if self.spot is None else (logs[-1] - mp.log(self.spot)) / self.t[-1]
            return mp.exp(logs[-1] + (t - self.t[-1]) * drift)
        start = logs[0] if self.spot is None else mp.log(self.spot)
        return mp.exp(_through([0, *self.t], [start, *logs], t))

    def discount_factor(self, t: Number) -> Number:
        logs = [mp.log(d) for d in self.d]
        if t > self.t[-1]:
            return mp.exp(logs[-1] * t / self.t[-1])
        return mp.exp(_through([0, *self.t], [0, *logs], t))

    # Steps 5-7: log-moneyness, total variance, volatility.
    def total_variance(self, k: Number, t: Number) -> Number:
        tau = self.variance_time(t)
        if t < self.t[0]:
            return self.smile(0, k) * tau / self.tau[0]
        if t > self.t[-1]:
            last = len(self.t) - 1
            return self.smile(last, k) + (tau / self.tau[-1] - 1) * self.smile(last, mp.mpf(0))
        return self._between(lambda i: self.smile(i, k), t)

    def vol(self, strike: float, t: Number) -> Number:
        return mp.sqrt(self.total_variance(self._k(strike, t), t) / t)

    def smile(self, i: int, k: Number) -> Number:
        """w_i(k), continued where the model is SABR."""
        edge = min(max(k, self.low[i]), self.high[i])
        if not self.is_sabr or k == edge:
            return self._formula(i, k)
        limits = (mp.mpf(-1.95), 0) if k < edge else (0, mp.mpf(1.95))
        slope = min(max(self._slope(i, edge), limits[0]), limits[1])
        return self._formula(i, edge) + slope * (k - edge)

    # Step 9.
    def is_extrapolated(self, strike: float, t: Number) -> bool:
        k = self._k(strike, t)
        inside = min(max(t, self.t[0]), self.t[-1])
        low = self._between(lambda i: self.low[i], inside)
        high = self._between(lambda i: self.high[i], inside)
        slack = mp.mpf(1e-12)
        return bool(t != inside or k < low - slack or k > high + slack)

    # Step 10.
    def vol_error(self, strike: float, t: Number) -> Number:
        k = self._k(strike, t)
        inside = min(max(t, self.t[0]), self.t[-1])
        return self._between(lambda i: self._smile_error(i, k), inside)

    def _smile_error(self, i: int, k: Number) -> Number:
        edge = min(max(k, self.low[i]), self.high[i])
        if k == edge:
            return self._delta(i, k)
        unit = mp.sqrt(self.smile(i, mp.mpf(0)))
        outward = 1 if k > edge else -1
        seen = [self._delta(i, edge + outward * x * unit) for x in DISTANCES]
        largest = [max(seen[: n + 1]) for n in range(len(seen))]
        return _through(DISTANCES, largest, min(abs(k - edge) / unit, DISTANCES[-1]))

    def _delta(self, i: int, k: Number) -> Number:
        """e_i(k)."""
        p, size = self.p[i], len(self.p[i])

        def moved(j: int) -> Callable[[Number], Number]:
            return lambda v: self.formula([*p[:j], v, *p[j + 1 :]], k, self.t[i])

        g = [mp.diff(moved(j), p[j]) for j in range(size)]
        pairs = [(a, b) for a in range(size) for b in range(size)]
        variance = sum(g[a] * self.c[i][a * size + b] * g[b] for a, b in pairs)
        variance += (self._slope(i, k) * self.f_error[i] / self.f[i]) ** 2
        return mp.sqrt(variance) / (2 * mp.sqrt(self._formula(i, k) * self.t[i]))

    def _formula(self, i: int, k: Number) -> Number:
        return self.formula(self.p[i], k, self.t[i])

    def _slope(self, i: int, k: Number) -> Number:
        return mp.diff(lambda x: self._formula(i, x), k)

    def _k(self, strike: float, t: Number) -> Number:
        return mp.log(mp.mpf(strike) / self.forward(t))

    def _between(self, at: Callable[[int], Number], t: Number) -> Number:
        """Linear in variance time from expiry to expiry; t_1 <= t <= t_N."""
        i = max(j for j, start in enumerate(self.t) if start <= t)
        if t == self.t[i]:
            return at(i)
        tau = self.variance_time(t)
        way = (tau - self.tau[i]) / (self.tau[i + 1] - self.tau[i])
        return at(i) + way * (at(i + 1) - at(i))


def _through(x: list[Number], y: list[Number], at: Number) -> Number:
    """Piecewise linear through the points (x, y), x ascending and around ``at``."""
    i = min(max(j for j, start in enumerate(x) if start <= at), len(x) - 2)
    return y[i] + (at - x[i]) / (x[i + 1] - x[i]) * (y[i + 1] - y[i])
