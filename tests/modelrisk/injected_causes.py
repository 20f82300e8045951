"""Chains, recorded or simulated, with one fault in each, so that attribution can be scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np

from calib.feeds.hostile.fault import Fault, FaultName
from calib.feeds.hostile.market import hostile
from calib.feeds.hostile.second_venue import with_second_venue
from calib.feeds.simulated.underlying import default_underlyings
from calib.feeds.simulator import SimulatorSettings
from calib.feeds.simulator import snapshots as simulated
from calib.fitting.fit import fit_chains
from calib.fitting.fit_value import Fit
from calib.modelrisk.findings import Cause
from calib.modelrisk.metrics import SliceMetrics
from calib.modelrisk.monitor import Assessment, MonitorSettings, MonitorState
from calib.quotes.chain import Chain, chain_at, chains
from calib.quotes.table import joined
from calib.surface.surface import Surface
from tests.modelrisk.real_months import lived

EXPECTED = {
    FaultName.STALE_VENUE: Cause.STALE_QUOTES,
    FaultName.SHIFTED_VENUE: Cause.VENUES_APART,
    FaultName.FAT_FINGER: Cause.OUTLIER,
    FaultName.CROSSED_CHAIN: Cause.CROSSED_QUOTES,
    FaultName.MISSING_STRIKES: Cause.FEW_QUOTES,
    FaultName.MISSING_SIDES: Cause.ONE_SIDED_QUOTES,
    FaultName.WIDE_MARKET: Cause.WIDE_QUOTES,
    FaultName.WRONG_FORWARD: Cause.INCONSISTENT_FORWARD,
    FaultName.SPOT_JUMP: Cause.FORWARD_JUMPED,
    FaultName.VOL_JUMP: Cause.LEVEL_JUMPED,
}

VOL_JUMP = (0.03, 0.3)
SPOT_JUMP = (0.02, 0.2)
"""Vols, and shares of the forward, by which an expiry and a market are made to jump, at least and
at most: a day without and one with an event. The rules' limits have no say in it, so that some are
too small to be found, a day before expiry above all."""

SHIFT = 4.0
"""Half-spreads by which a venue is shifted at least: five vols lie inside of many a spread."""

LEAST_QUOTES = 8
"""Two-sided quotes of an expiry that a fault is put into: below it the data are at fault anyway."""
SECOND = "second"


@dataclass(frozen=True)
class Score:
    """How often each fault (None: nothing) was found first as which cause, and what was found at
    all ``quiet`` expiries (None: nothing)."""

    counts: Counter[tuple[FaultName | None, Cause | None]] = field(default_factory=Counter)
    quiet: Counter[Cause | None] = field(default_factory=Counter)

    def __add__(self, other: Score) -> Score:
        return Score(self.counts + other.counts, self.quiet + other.quiet)

    @property
    def right(self) -> float:
        """The share found as what it was."""
        right = sum(
            n
            for (put, found), n in self.counts.items()
            if found is (None if put is None else EXPECTED[put])
        )
        return right / sum(self.counts.values())

    @property
    def wrong(self) -> float:
        """The share found as what it was not; what was too small to be found is not wrong."""
        missed = sum(n for (put, found), n in self.counts.items() if put and found is None)
        return 1.0 - self.right - missed / sum(self.counts.values())

    @property
    def false_share(self) -> float:
        """The share of quiet expiries with a finding."""
        return 1.0 - self.quiet[None] / sum(self.quiet.values())

    def table(self) -> str:
        """The confusion table, a row a fault."""
        lines = []
        for put in (*FaultName, None):
            row = Counter({found: n for (p, found), n in self.counts.items() if p is put})
            lines.append(f"{put or 'nothing':>22}: {_listed(row)}")
        total = sum(self.counts.values())
        lines.append(f"{'right':>22}: {self.right:.1%}, wrong {self.wrong:.1%} of {total}")
        lines.append(f"{'quiet expiries':>22}: {_listed(self.quiet)}; {self.false_share:.1%} false")
        return "\n".join(lines)


def _listed(counts: Counter[Cause | None]) -> str:
    return ", ".join(f"{cause or 'nothing'} {n}" for cause, n in counts.most_common())


def score(
    recorded: Sequence[Chain],
    settings: MonitorSettings,
    *,
    every: int,
    lag: int = 1,
    seed: int = 5,
) -> Score:
    """Put each fault, and none, into every so-many-th of the chains of one underlying.

    The monitor has lived through the chains before. A stale venue fell silent after the chain
    ``lag`` chains before.
    """
    rng = np.random.default_rng(seed)
    total = Score()
    state = MonitorState.start(recorded[0].underlying)
    last: Surface | None = None
    for number, chain in enumerate(recorded):
        (fit,) = fit_chains([chain], [last])
        if last is not None and number >= lag and number % every == every - 1:
            total += _scored(_Moment(recorded[number - lag], fit, last, state, settings), rng)
        state, _, last = lived(state, fit, last, settings)
    return total


def simulated_score(
    seed: int, *, underlyings: int = 3, snapshots: int = 5, every: int = 5
) -> Score:
    """The score of a simulated market, four minutes between its snapshots."""
    settings = SimulatorSettings(
        seed=seed,
        underlyings=default_underlyings(underlyings),
        expiries=6,
        strikes=24,
        snapshots=snapshots,
        interval=timedelta(minutes=4),
    )
    found = list(chains(joined([one.quotes for one in simulated(settings)])))
    monitor = MonitorSettings(quote_max_age_seconds=300.0)
    total = Score()
    for name in sorted({chain.underlying for chain in found}):
        mine = [chain for chain in found if chain.underlying == name]
        total += score(mine, monitor, every=every, lag=3)
    return total


@dataclass(frozen=True)
class _Moment:
    """A chain that was fitted, an earlier one, and what was known before the fit."""

    before: Chain
    fit: Fit
    last: Surface
    state: MonitorState
    settings: MonitorSettings

    @property
    def chain(self) -> Chain:
        return self.fit.slices.chain


def _scored(moment: _Moment, rng: np.random.Generator) -> Score:
    _, clean, _ = lived(moment.state, moment.fit, moment.last, moment.settings)
    if clean.metrics is None:
        return Score()
    known = {one.expiry for one in moment.last.expiries}
    seen = [one for one in clean.metrics.slices if one.expiry in known]
    places = [one for one in seen if one.two_sided >= LEAST_QUOTES]
    put: list[FaultName | None] = [*FaultName, None]
    where = [places[i] for i in rng.choice(len(places), len(put)).tolist()]
    spoiled = [
        _spoiled(moment, [_fault(moment, name, one, clean, rng)] if name else [])
        for name, one in zip(put, where, strict=True)
    ]
    calm = _spoiled(moment, [], second=True)
    # One by one, as the engine fits them: the shapes are those that are compiled anyway.
    fits = [fit_chains([chain], [moment.last])[0] for chain in (*spoiled, calm)]
    found = [lived(moment.state, fit, moment.last, moment.settings)[1] for fit in fits]
    quiet = [first(one, each.expiry) for one in (clean, found[-1]) for each in seen]
    counts = [
        (name, first(one, at.expiry)) for name, at, one in zip(put, where, found[:-1], strict=True)
    ]
    return Score(Counter(counts), Counter(quiet))


def first(assessment: Assessment, expiry: np.datetime64) -> Cause | None:
    """The cause that an assessment names first for an expiry."""
    one = assessment.of(expiry)
    return one.findings[0].cause if one is not None and one.findings else None


def _fault(
    moment: _Moment,
    name: FaultName,
    one: SliceMetrics,
    clean: Assessment,
    rng: np.random.Generator,
) -> Fault:
    """One that befalls the expiry of ``one``, alone but where it is the nature of a fault that it
    comes to all."""
    ahead = next(x for x in clean.innovations if x.expiry == one.expiry)
    size = name.usual_size
    match name:
        case FaultName.SHIFTED_VENUE:
            size = max(size, SHIFT * one.stated_noise)
        case FaultName.VOL_JUMP:
            size = np.copysign(_drawn(rng, VOL_JUMP), ahead.level)
        case FaultName.SPOT_JUMP:
            size = np.copysign(_drawn(rng, SPOT_JUMP), ahead.forward_move)
        case _:
            pass
    wide = (FaultName.STALE_VENUE, FaultName.SHIFTED_VENUE, FaultName.SPOT_JUMP)
    return Fault(
        name,
        moment.chain.underlying,
        moment.before.quote_time + np.timedelta64(1, "us"),
        moment.chain.quote_time + np.timedelta64(1, "us"),
        float(size),
        venue=SECOND if name.of_one_venue else None,
        expiry=None if name in wide else one.expiry,
        seed=int(rng.integers(1_000_000)),
    )


def _drawn(rng: np.random.Generator, ends: tuple[float, float]) -> float:
    """A size between two ends, as likely to be doubled as to be halved."""
    return float(np.exp(rng.uniform(*np.log(ends))))


def _spoiled(moment: _Moment, faults: Sequence[Fault], *, second: bool = False) -> Chain:
    """What the venues show at the moment: fresh rows, and old ones where a venue sends no more."""
    chain, quotes = moment.chain, joined([moment.before.quotes, moment.chain.quotes])
    if second or any(fault.name.of_one_venue for fault in faults):
        quotes = with_second_venue(quotes, chain.underlying, SECOND)
    now = quotes.quote_time == chain.quote_time
    return chain_at(hostile(quotes, faults).quotes.take(now), chain.underlying, chain.quote_time)
