"""The published rule of evaluation at 50 digits, written from protos/calib/v1/surface.proto alone.

It shares nothing with the package: it reads the JSON of the message, computes with mpmath, and
differentiates numerically. What it is asked for and what it answers is described in README.md.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from mpmath import mp, mpf

DIGITS = 50
MICROSECONDS_PER_YEAR = 365 * 86_400 * 10**6
LEVELS = ("NORMAL", "WIDENED", "HELD", "HALTED")
NODES = (0, mpf("0.5"), 1, 2, 4, 8)

VALUES = ("forward", "discountFactor", "logMoneyness", "totalVariance", "impliedVol", "volError")

Json = dict[str, Any]


def evaluate(surface: Json, query: Json) -> Json:
    """The expected values of a query; None where the rule gives no value."""
    with mp.workdps(DIGITS):
        return _Reader(surface).evaluate(query)


def standing(update: Json, surface: Json, now: str) -> Json:
    """How far an update may be relied on at an instant, by the comments on SurfaceUpdate."""
    until, risk = update.get("validUntil"), update.get("risk", {})
    fresh = until is None or micros(now) < micros(until)
    live = fresh and update.get("state") in ("SURFACE_STATE_LIVE", 1)
    judged = {micros(one["expiry"]): one.get("level") for one in risk.get("expiries", ())}
    level = _level(risk.get("level"))
    own = [_level(judged.get(micros(one["expiry"]))) for one in surface["expiries"]]
    return {
        "state": "LIVE" if live else "STALE",
        "level": level,
        "expiries": [max(one, level, key=LEVELS.index) for one in own],
    }


def _level(told: Any) -> str:
    if told in range(1, len(LEVELS) + 1):
        return LEVELS[told - 1]
    name = str(told).removeprefix("BREAKER_LEVEL_")
    return name if name in LEVELS else LEVELS[-1]


def micros(text: str) -> int:
    """Microseconds since 1970 of RFC 3339 text in UTC."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def total_variance(model: str, parameters: list[Any], k: Any, years: Any) -> Any:
    """The formula of a model, without continuation."""
    if model == "svi":
        a, b, rho, m, sigma = parameters
        return a + b * (rho * (k - m) + mp.sqrt((k - m) ** 2 + sigma**2))
    if model == "essvi":
        theta, rho, psi = parameters
        root = mp.sqrt((psi * k + theta * rho) ** 2 + theta**2 * (1 - rho**2))
        return (theta + rho * psi * k + root) / 2
    alpha, beta, rho, nu = parameters
    e = mp.exp((1 - beta) * k / 2)
    wing = (1 - beta) * k
    z = -nu / alpha * e * k
    if z:
        # Twice the digits: close to z = 0 the logarithm is of 1 plus very little.
        with mp.workdps(2 * mp.dps + 20):
            x = mp.log((mp.sqrt(1 - 2 * rho * z + z**2) + z - rho) / (1 - rho))
            ratio = z / x
    else:
        ratio = mpf(1)
    time = 1 + years * (
        (1 - beta) ** 2 * alpha**2 / (24 * e**2)
        + rho * beta * nu * alpha / (4 * e)
        + (2 - 3 * rho**2) * nu**2 / 24
    )
    vol = alpha / (e * (1 + wing**2 / 24 + wing**4 / 1920)) * ratio * time
    return vol**2 * years


_NAMES = {
    "svi": ("a", "b", "rho", "m", "sigma"),
    "essvi": ("theta", "rho", "psi"),
    "sabr": ("alpha", "beta", "rho", "nu"),
}


class _Smile:
    def __init__(self, model: str, expiry: Json) -> None:
        self.model = model
        self.parameters = [mpf(expiry.get(model, {}).get(name, 0.0)) for name in _NAMES[model]]
        self.years = mpf(expiry["years"])
        self.tau = mpf(expiry["varianceTime"])
        self.forward = mpf(expiry.get("forward", 0.0))
        self.discount_factor = mpf(expiry.get("discountFactor", 0.0))
        self.low = mpf(expiry.get("logMoneynessMin", 0.0))
        self.high = mpf(expiry.get("logMoneynessMax", 0.0))
        values = expiry.get("covariance", {}).get("values", [])
        size = len(self.parameters)
        rows = [values[i * size : (i + 1) * size] for i in range(size)]
        self.covariance = mp.matrix(rows) if values else None
        error = expiry.get("forwardError", 0.0)
        self.forward_error = None if error == "NaN" else mpf(error)

    def formula(self, k: Any) -> Any:
        return total_variance(self.model, self.parameters, k, self.years)

    def slope(self, k: Any) -> Any:
        return mp.diff(self.formula, k)

    def w(self, k: Any) -> Any:
        if self.model != "sabr" or self.low <= k <= self.high:
            return self.formula(k)
        if k < self.low:
            return self.formula(self.low) + (k - self.low) * min(
                max(self.slope(self.low), mpf("-1.95")), mpf(0)
            )
        return self.formula(self.high) + (k - self.high) * min(
            max(self.slope(self.high), mpf(0)), mpf("1.95")
        )

    def error(self, k: Any) -> Any:
        """None where it is not known."""
        if self.covariance is None or self.forward_error is None:
            return None
        if self.low <= k <= self.high:
            return self._delta(k)
        way = 1 if k > self.high else -1
        edge = self.high if k > self.high else self.low
        scale = mp.sqrt(self.w(mpf(0)))
        seen = [self._delta(edge + way * node * scale) for node in NODES]
        largest = [max(seen[: i + 1]) for i in range(len(NODES))]
        x = abs(k - edge) / scale
        for i in range(len(NODES) - 1):
            if x <= NODES[i + 1]:
                share = (x - NODES[i]) / (NODES[i + 1] - NODES[i])
                return largest[i] + share * (largest[i + 1] - largest[i])
        return largest[-1]

    def _delta(self, k: Any) -> Any:
        def moved(i: int, value: Any) -> Any:
            parameters = [*self.parameters[:i], value, *self.parameters[i + 1 :]]
            return total_variance(self.model, parameters, k, self.years)

        g = mp.matrix(
            [
                mp.diff(lambda value, i=i: moved(i, value), self.parameters[i])
                for i in range(len(self.parameters))
            ]
        )
        variance = (g.T * self.covariance * g)[0]
        variance += (self.slope(k) * self.forward_error / self.forward) ** 2
        return mp.sqrt(variance) / (2 * mp.sqrt(self.formula(k) * self.years))


class _Reader:
    def __init__(self, surface: Json) -> None:
        model = {"MODEL_SVI": "svi", "MODEL_ESSVI": "essvi", "MODEL_SABR": "sabr"}[surface["model"]]
        self.start = micros(surface["quoteTime"])
        self.spot = mpf(surface["spot"]) if "spot" in surface else None
        self.independent = surface["calendar"] == "EXPIRY_CALENDAR_INDEPENDENT"
        self.smiles = [_Smile(model, one) for one in surface["expiries"]]
        self.knots = [
            (mpf(knot["years"]), mpf(knot["varianceTime"]))
            for knot in surface.get("varianceClock", [])
        ]

    def evaluate(self, query: Json) -> Json:
        t = self._time(query)
        answer: Json = {**dict.fromkeys(VALUES), "extrapolated": True}
        at = [i for i, smile in enumerate(self.smiles) if smile.years == t]
        if not self.smiles:
            return {"notFitted": True}
        if t < 0:
            return answer
        if self.independent and not at:
            return {"notFitted": True}
        forward = mp.exp(self._log_forward(t))
        answer["forward"] = float(forward)
        answer["discountFactor"] = float(mp.exp(self._log_discount(t)))
        strike = query["strike"]
        if not strike > 0:
            return answer
        k = mp.log(mpf(strike) / forward)
        answer["logMoneyness"] = float(k)
        w = self._total_variance(k, t)
        answer["totalVariance"] = float(w)
        if t > 0:
            answer["impliedVol"] = float(mp.sqrt(w / t))
            error = self._error(k, t)
            answer["volError"] = None if error is None else float(error)
        low, high = self._mixed("low", t), self._mixed("high", t)
        outside = k < low - mpf("1e-12") or k > high + mpf("1e-12")
        beyond = t < self.smiles[0].years or t > self.smiles[-1].years
        answer["extrapolated"] = bool(outside or beyond)
        return answer

    def _time(self, query: Json) -> Any:
        if "years" in query:
            return mpf(query["years"])
        # A double, as the expiries' own years are: an instant of an expiry is that expiry.
        return mpf((micros(query["expiry"]) - self.start) / MICROSECONDS_PER_YEAR)

    def _pair(self, t: Any) -> tuple[_Smile, _Smile, Any]:
        """The neighbours of t and the way from one to the other in variance time."""
        smiles = self.smiles
        for smile in smiles:
            if t == smile.years:
                return smile, smile, mpf(0)
        if t < smiles[0].years:
            return smiles[0], smiles[0], mpf(0)
        for one, other in pairwise(smiles):
            if t < other.years:
                tau = self._tau(t)
                return one, other, (tau - one.tau) / (other.tau - one.tau)
        return smiles[-1], smiles[-1], mpf(0)

    def _tau(self, t: Any) -> Any:
        points = [(mpf(0), mpf(0)), *((smile.years, smile.tau) for smile in self.smiles)]
        points = sorted({*points, *self.knots})
        for (t0, tau0), (t1, tau1) in pairwise(points):
            if t <= t1:
                return tau0 + (t - t0) / (t1 - t0) * (tau1 - tau0)
        return points[-1][1] + t - points[-1][0]

    def _log_forward(self, t: Any) -> Any:
        first, last = self.smiles[0], self.smiles[-1]
        points = [(smile.years, mp.log(smile.forward)) for smile in self.smiles]
        if t <= first.years and self.spot is None:
            return points[0][1]
        if t > last.years:
            if self.spot is None:
                return points[-1][1]
            rate = (points[-1][1] - mp.log(self.spot)) / last.years
            return points[-1][1] + (t - last.years) * rate
        if self.spot is not None:
            points = [(mpf(0), mp.log(self.spot)), *points]
        return _linear(points, t)

    def _log_discount(self, t: Any) -> Any:
        last = self.smiles[-1]
        if t > last.years:
            return mp.log(last.discount_factor) * t / last.years
        return _linear(
            [(mpf(0), mpf(0)), *((s.years, mp.log(s.discount_factor)) for s in self.smiles)], t
        )

    def _total_variance(self, k: Any, t: Any) -> Any:
        first, last = self.smiles[0], self.smiles[-1]
        if t < first.years:
            return first.w(k) * self._tau(t) / first.tau
        if t > last.years:
            return last.w(k) + (self._tau(t) / last.tau - 1) * last.w(mpf(0))
        one, other, share = self._pair(t)
        return one.w(k) if not share else one.w(k) + share * (other.w(k) - one.w(k))

    def _error(self, k: Any, t: Any) -> Any:
        one, other, share = self._pair(t)
        ends = [smile.error(k) for smile, part in ((one, 1 - share), (other, share)) if part]
        if None in ends:
            return None
        return ends[0] if len(ends) == 1 else ends[0] + share * (ends[1] - ends[0])

    def _mixed(self, name: str, t: Any) -> Any:
        one, other, share = self._pair(t)
        return getattr(one, name) + share * (getattr(other, name) - getattr(one, name))


def _linear(points: list[tuple[Any, Any]], t: Any) -> Any:
    for (t0, y0), (t1, y1) in pairwise(points):
        if t <= t1:
            return y0 + (t - t0) / (t1 - t0) * (y1 - y0)
    return points[-1][1]
