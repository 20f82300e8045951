"""Real chains with one thing wrong in one expiry, so that attribution can be scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from calib.conventions import Floats, Ints
from calib.fitting.fit import fit_chains
from calib.fitting.fit_value import Fit
from calib.market.black import black_price, implied_vol
from calib.market.slices import QuoteKind
from calib.modelrisk.attribution import Cause, Usual, attribute
from calib.modelrisk.evidence import accustomed
from calib.modelrisk.innovations import innovations
from calib.modelrisk.metrics import measure
from calib.quotes.chain import Chain
from calib.quotes.reasons import Reason
from calib.surface.surface import Surface

INJECTED = (
    Cause.INCONSISTENT_FORWARD,
    Cause.CROSSED_QUOTES,
    Cause.OUTLIER,
    Cause.ONE_SIDED_QUOTES,
    Cause.FEW_QUOTES,
    Cause.WIDE_QUOTES,
    Cause.STALE_QUOTES,
    Cause.LEVEL_JUMPED,
)
JUMP = (0.03, 0.3)
"""Vols by which an expiry is made to jump, at least and at most: what a day without and one with an
event do to a week's options. The rules' limits have no say in it."""

SILENCE = (5.0, 60.0)
"""Minutes for which a feed was silent: from a hiccup to an outage."""

LEAST_QUOTES = 10


@dataclass(frozen=True)
class Score:
    """How often each injected cause (None: nothing) was found first as which."""

    counts: Counter[tuple[Cause | None, Cause | None]]

    @property
    def right(self) -> float:
        """The share found as what it was."""
        total = sum(self.counts.values())
        return sum(n for (put, found), n in self.counts.items() if put is found) / total

    @property
    def wrong(self) -> float:
        """The share found as what it was not; what was too small to be found is not wrong."""
        total = sum(self.counts.values())
        missed = sum(n for (put, found), n in self.counts.items() if found is None and put)
        return 1.0 - self.right - missed / total

    def table(self) -> str:
        """The confusion table, a row an injected cause."""
        lines = []
        for put in (*INJECTED, None):
            row = {f: n for (p, f), n in self.counts.items() if p is put}
            found = ", ".join(f"{f or 'nothing'} {n}" for f, n in sorted(row.items(), key=_falling))
            lines.append(f"{put or 'nothing':>22}: {found}")
        return "\n".join([*lines, f"{'right':>22}: {self.right:.1%}, wrong {self.wrong:.1%}"])


def _falling(item: tuple[Cause | None, int]) -> int:
    return -item[1]


def score(chains: Sequence[Chain], every: int, seed: int = 5) -> Score:
    """Inject each cause, and none, into every so-many-th of the chains of one underlying."""
    rng = np.random.default_rng(seed)
    counts: Counter[tuple[Cause | None, Cause | None]] = Counter()
    usual: dict[np.datetime64, Usual] = {}
    last: Surface | None = None
    for number, chain in enumerate(chains):
        (fit,) = fit_chains([chain], [last])
        if last is not None and number % every == every - 1:
            counts.update(_found(fit, last, usual, rng))
        for one in measure(fit).slices:
            usual[one.expiry] = accustomed(one, usual.get(one.expiry), 0.1)
        last = fit.surface
    return Score(counts)


def _found(
    fit: Fit, last: Surface, usual: dict[np.datetime64, Usual], rng: np.random.Generator
) -> Iterator[tuple[Cause | None, Cause | None]]:
    known = {one.expiry for one in last.expiries}
    places = [
        i
        for i, expiry in enumerate(fit.slices.expiry)
        if expiry in known
        and expiry in usual
        and fit.slice_diagnostics[i].quotes_used >= LEAST_QUOTES
    ]
    causes = (*INJECTED, None)
    chosen = rng.choice(places, len(causes)).tolist()
    spoiled = [injected(fit, c, i, rng) for c, i in zip(causes, chosen, strict=True)]
    fits = fit_chains(spoiled, [last] * len(spoiled))
    for cause, place, each in zip(causes, chosen, fits, strict=True):
        expiry = fit.slices.expiry[place]
        metrics = next(one for one in measure(each, last).slices if one.expiry == expiry)
        ahead = next((x for x in innovations(last, each.slices) if x.expiry == expiry), None)
        findings = attribute(metrics, ahead, blend=each.surface.blend, usual=usual[expiry])
        yield cause, findings[0].cause if findings else None


def injected(fit: Fit, cause: Cause | None, place: int, rng: np.random.Generator) -> Chain:
    """The chain of ``fit`` with one cause put into the expiry at ``place``."""
    slices, quotes = fit.slices, fit.slices.chain.quotes
    mine = np.flatnonzero(slices.slice_index == place)
    used = mine[fit.used[mine]]
    match cause:
        case None:
            return slices.chain
        case Cause.INCONSISTENT_FORWARD:
            return _edited(slices.chain, mine, forward=1.01 * quotes.forward[mine])
        case Cause.CROSSED_QUOTES:
            rows = rng.choice(used, max(3, len(used) // 3), replace=False)
            return _edited(slices.chain, rows, bid=1.02 * quotes.ask[rows], ask=quotes.bid[rows])
        case Cause.OUTLIER:
            seen = used[slices.kind[used] == QuoteKind.TWO_SIDED]
            deviation = fit.model_vol[seen] * np.sqrt(slices.years[place])
            near = seen[np.abs(slices.log_moneyness[seen]) < deviation]
            rows = rng.choice(near, 1)
            return _edited(
                slices.chain, rows, bid=2.0 * quotes.bid[rows], ask=2.0 * quotes.ask[rows]
            )
        case Cause.ONE_SIDED_QUOTES:
            rows = rng.choice(used, int(0.75 * len(used)), replace=False)
            return _edited(slices.chain, rows, bid=np.full(len(rows), np.nan))
        case Cause.FEW_QUOTES:
            rows = mine[rng.random(len(mine)) > 0.4]
            nothing = np.full(len(rows), np.nan)
            return _edited(slices.chain, rows, bid=nothing, ask=nothing)
        case Cause.WIDE_QUOTES:
            mid = 0.5 * (quotes.bid[mine] + quotes.ask[mine])
            half = np.minimum(2.0 * (quotes.ask[mine] - quotes.bid[mine]), 0.95 * mid)
            return _edited(slices.chain, mine, bid=mid - half, ask=mid + half)
        case Cause.STALE_QUOTES:
            silent = np.timedelta64(round(60e6 * _drawn(rng, SILENCE)), "us")
            return _edited(slices.chain, mine, quote_time=quotes.quote_time[mine] - silent)
        case Cause.LEVEL_JUMPED:
            by = _drawn(rng, JUMP)
            sides = {
                side: _lifted(fit, place, mine, getattr(quotes, side)[mine], by)
                for side in ("bid", "ask")
            }
            return _edited(slices.chain, mine, **sides)
    raise ValueError(f"nobody has said how {cause} comes about")


def _drawn(rng: np.random.Generator, ends: tuple[float, float]) -> float:
    """A size between two ends, as likely to be doubled as to be halved."""
    return float(np.exp(rng.uniform(*np.log(ends))))


def _lifted(fit: Fit, place: int, rows: Ints, premium: Floats, by: float) -> Floats:
    """Inverse premiums at vols that are higher by so much; those without a vol as they were."""
    slices, quotes = fit.slices, fit.slices.chain.quotes
    forward, years = float(slices.forward[place]), float(slices.years[place])
    strike, sign = quotes.strike[rows], np.where(quotes.right[rows] == 1, 1, -1)
    vol = implied_vol(premium * forward, forward, strike, years, sign)
    moved = black_price(np.maximum(vol + by, 0.01), forward, strike, years, sign) / forward
    return np.where(np.isfinite(moved), moved, premium)


def _edited(chain: Chain, rows: Ints, **columns: object) -> Chain:
    """The chain with some columns of some rows replaced, and judged anew."""
    quotes, changed = chain.quotes, {}
    for name, values in columns.items():
        column = getattr(quotes, name).copy()
        column[rows] = values
        changed[name] = column
    quotes = replace(quotes, **changed)
    reason = quotes.reason.copy()
    reason[np.isin(reason, (Reason.CROSSED, Reason.NO_QUOTE))] = Reason.USABLE
    usable = reason == Reason.USABLE
    reason[usable & (quotes.bid > quotes.ask)] = Reason.CROSSED
    reason[usable & np.isnan(quotes.bid) & np.isnan(quotes.ask)] = Reason.NO_QUOTE
    return replace(chain, quotes=quotes.with_reason(reason))
