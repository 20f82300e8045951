"""Attribution: which cause explains what is wrong with an expiry, with its evidence.

Rules a person can check, one number against one limit each. Causes come in an order: what is wrong
with the data explains all else, but that forwards that jump leave strikes behind, and so quotes few
or lone; a jump that the quotes themselves show explains what numerics do with it; numerics explain
what the shape lacks, and that what the parameters and errors do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import nan
from typing import NamedTuple

from calib.modelrisk.alarms import Alarm
from calib.modelrisk.delta_buckets import DELTA_BUCKETS
from calib.modelrisk.findings import Cause, Finding
from calib.modelrisk.innovations import Innovation
from calib.modelrisk.metrics import SliceMetrics
from calib.modelrisk.usual import Usual
from calib.states import FitState

_ORDER = {cause: place for place, cause in enumerate(Cause)}

_WITHOUT = {
    FitState.EXPIRED: (Cause.EXPIRED, "the options have expired"),
    FitState.NO_FORWARD: (
        Cause.NO_FORWARD,
        "neither a venue nor put-call parity nor its neighbours give a forward",
    ),
}
"""What keeps an expiry from being fitted however many quotes it has."""


class _Found(NamedTuple):
    """A `Finding` but for its expiry."""

    cause: Cause
    name: str
    value: float
    limit: float
    text: str


@dataclass(frozen=True)
class AttributionSettings:
    """The limit of each rule, in the unit of its number.

    ``basis_z``: parity against the venue's forward, in standard errors. ``crossed_share`` of the
    expiry's out-of-the-money rows. ``venue_gap`` in half-spreads. ``outlier_violation``:
    half-spreads beyond bid-ask, of one quote that makes up ``outlier_share`` of χ².
    ``age_seconds``: median age of a venue's quotes, half of what a server by default takes to be
    too old to be used. ``one_sided_share`` of the rows used. ``starvation``: usual number of quotes
    over that at hand; ``bracketed``: two-sided quotes within 17.5 delta. ``wide_share``: median
    half-spread over the vol at the money; ``widening``: over its usual value. ``unsettled``:
    residuals, in half-spreads, of a fit that its step limit ended. ``blend``, ``bound_distance``
    and ``condition`` of the parameters. ``forward_z`` and ``level_z`` in predictive deviations: of
    486 steps of six hours in January and March 2026 the forward goes beyond 3.5 in five, in the
    falls of 29 and 31 January and the rise of 4 March, and the level of one expiry in 150; in the
    first week of April, which had no say in it, neither does.
    ``runs_z`` (below it) with a bias of ``bias`` half-spreads in some bucket: at 1 the smile leaves
    bid-ask there. ``disagreement``: range between models over what the quotes leave open.
    ``mahalanobis`` of the parameters' move, which knows their errors but not how far a market
    moves: on the recorded months one expiry in 150 goes beyond 20 from one chain to the next, as
    the benchmark of model risk prints.
    """

    basis_z: float = 5.0
    crossed_share: float = 0.05
    venue_gap: float = 2.0
    outlier_violation: float = 4.0
    outlier_share: float = 0.5
    age_seconds: float = 300.0
    one_sided_share: float = 0.5
    starvation: float = 1.6
    bracketed: int = 3
    wide_share: float = 0.1
    widening: float = 2.5
    unsettled: float = 1.5
    blend: float = 0.02
    bound_distance: float = 0.02
    condition: float = 1e6
    forward_z: float = 3.5
    level_z: float = 3.5
    runs_z: float = -3.0
    bias: float = 1.0
    disagreement: float = 5.0
    mahalanobis: float = 20.0


def attribute(
    metrics: SliceMetrics,
    innovation: Innovation | None = None,
    *,
    blend: float = 0.0,
    usual: Usual | None = None,
    disagreement: float = nan,
    alarms: Sequence[Alarm] = (),
    settings: AttributionSettings | None = None,
) -> tuple[Finding, ...]:
    """Every cause that holds for one expiry, the one that explains the others first."""
    chosen = settings or AttributionSettings()
    found = [
        *_data(metrics, usual or Usual(), chosen),
        *_numerics(metrics, blend, chosen),
        *_regime(metrics, innovation, alarms, chosen),
        *_shape(metrics, disagreement, chosen),
    ]
    found.sort(key=lambda one: _ORDER[one.cause])
    return tuple(Finding(metrics.expiry, *one) for one in found)


def _data(m: SliceMetrics, usual: Usual, s: AttributionSettings) -> Iterator[_Found]:
    if m.state in _WITHOUT:
        cause, text = _WITHOUT[m.state]
        yield _Found(cause, "state", float(m.state), nan, text)
    basis = abs(m.forward.basis_z)
    if basis >= s.basis_z:
        yield _Found(
            Cause.INCONSISTENT_FORWARD,
            "forward_basis_z",
            basis,
            s.basis_z,
            f"put-call parity over {m.forward.pairs} strikes gives a forward of "
            f"{m.forward.parity:.6g}, {1e4 * m.forward.basis:+.1f} bp from the venue's "
            f"{m.forward.venue:.6g}: {basis:.1f} standard errors",
        )
    share = m.crossed / max(m.crossed + m.quotes_used, 1)
    if share >= s.crossed_share:
        yield _Found(
            Cause.CROSSED_QUOTES,
            "crossed_share",
            share,
            s.crossed_share,
            f"{m.crossed} quotes out of the money are crossed (bid above ask), beside "
            f"{m.quotes_used} that are used",
        )
    if m.venue_gap >= s.venue_gap:
        yield _Found(
            Cause.VENUES_APART,
            "venue_gap",
            m.venue_gap,
            s.venue_gap,
            f"venues lie {m.venue_gap:.1f} half-spreads apart on average",
        )
    if m.worst_violation >= s.outlier_violation and m.worst_share >= s.outlier_share:
        yield _Found(
            Cause.OUTLIER,
            "worst_violation",
            m.worst_violation,
            s.outlier_violation,
            f"the smile lies {m.worst_violation:.1f} half-spreads outside the bid-ask of one "
            f"quote, which makes up {m.worst_share:.0%} of all squared residuals",
        )
    if m.median_age_seconds >= s.age_seconds:
        yield _Found(
            Cause.STALE_QUOTES,
            "median_age_seconds",
            m.median_age_seconds,
            s.age_seconds,
            f"half of a venue's quotes used are at least {m.median_age_seconds:.0f} s old",
        )
    if m.one_sided_share >= s.one_sided_share:
        yield _Found(
            Cause.ONE_SIDED_QUOTES,
            "one_sided_share",
            m.one_sided_share,
            s.one_sided_share,
            f"{m.ceilings + m.floors} of {m.quotes_used} quotes used have one side only",
        )
    if m.failed or m.state in _WITHOUT:
        return  # what it had to be fitted from was not used, and says nothing
    starvation = usual.starvation(m.quotes_used)
    if starvation >= s.starvation:
        yield _Found(
            Cause.FEW_QUOTES,
            "starvation",
            starvation,
            s.starvation,
            f"{m.quotes_used} quotes are used where {usual.quotes:.0f} are usual",
        )
    elif m.bracketed < s.bracketed and not m.one_sided_share >= s.one_sided_share:  # says more
        yield _Found(
            Cause.FEW_QUOTES,
            "bracketed",
            m.bracketed,
            s.bracketed,
            f"{m.bracketed} two-sided quotes between the put and the call of 17.5 delta hold the "
            "smile",
        )
    if m.stated_noise >= s.wide_share * m.atm_vol:
        share = m.stated_noise / m.atm_vol
        yield _Found(
            Cause.WIDE_QUOTES,
            "stated_noise_share",
            share,
            s.wide_share,
            f"the median half-spread is {share:.0%} of the vol at the money",
        )
    elif m.stated_noise >= s.widening * usual.noise:
        yield _Found(
            Cause.WIDE_QUOTES,
            "widening",
            m.stated_noise / usual.noise,
            s.widening,
            f"the median half-spread is {m.stated_noise / usual.noise:.1f} times its usual",
        )


def _numerics(m: SliceMetrics, blend: float, s: AttributionSettings) -> Iterator[_Found]:
    if m.failed:
        yield _Found(
            Cause.FIT_FAILED, "state", float(m.state), nan, f"the fit ended {m.state.name}"
        )
    if m.state is FitState.STEP_LIMIT and m.normalised_residual >= s.unsettled:
        yield _Found(
            Cause.NOT_CONVERGED,
            "normalised_residual",
            m.normalised_residual,
            s.unsettled,
            f"the solver was stopped after {m.steps} steps, with residuals of "
            f"{m.normalised_residual:.1f} half-spreads",
        )
    if blend >= s.blend:
        yield _Found(
            Cause.BLENDED,
            "blend",
            blend,
            s.blend,
            f"the fit was drawn {blend:.0%} of the way to its anchor to be free of arbitrage",
        )
    if m.bound_distance <= s.bound_distance:
        yield _Found(
            Cause.AT_BOUND,
            "bound_distance",
            m.bound_distance,
            s.bound_distance,
            f"a parameter lies within {m.bound_distance:.1%} of its bound",
        )
    if m.condition >= s.condition:
        yield _Found(
            Cause.ILL_CONDITIONED,
            "condition",
            m.condition,
            s.condition,
            f"the parameters' errors are all but dependent: the root of the condition number of "
            f"their correlations is {m.condition:.0e}",
        )


def _shape(m: SliceMetrics, disagreement: float, s: AttributionSettings) -> Iterator[_Found]:
    worst = max(
        zip(DELTA_BUCKETS, m.bias, strict=True),
        key=lambda one: abs(one[1].half_spreads) if one[1].count else -1.0,
    )
    bucket, bias = worst
    if m.runs_z <= s.runs_z and abs(bias.half_spreads) >= s.bias:
        yield _Found(
            Cause.SYSTEMATIC_RESIDUALS,
            "runs_z",
            m.runs_z,
            s.runs_z,
            f"residuals keep their sign along strikes (runs test {m.runs_z:.1f}); at {bucket} the "
            f"smile is {bias.half_spreads:+.1f} half-spreads off",
        )
    if disagreement >= s.disagreement:
        yield _Found(
            Cause.MODELS_DISAGREE,
            "disagreement",
            disagreement,
            s.disagreement,
            f"models of the same quotes differ by {disagreement:.1f} times what these leave open",
        )


def _regime(
    m: SliceMetrics,
    innovation: Innovation | None,
    alarms: Sequence[Alarm],
    s: AttributionSettings,
) -> Iterator[_Found]:
    if innovation is not None:
        forward, level = abs(innovation.forward_z), abs(innovation.level_z)
        hours = innovation.elapsed_years * 8760.0
        if forward >= s.forward_z:
            yield _Found(
                Cause.FORWARD_JUMPED,
                "forward_z",
                forward,
                s.forward_z,
                f"the forward moved by {innovation.forward_move:+.2%} in {hours:.3g} h, "
                f"{forward:.1f} deviations of the vol at the money",
            )
        if level >= s.level_z:
            yield _Found(
                Cause.LEVEL_JUMPED,
                "level_z",
                level,
                s.level_z,
                f"the vol at the money came {innovation.level:+.2%} from where the last surface "
                f"saw it {hours:.3g} h before, {level:.1f} predictive deviations",
            )
    if m.move.mahalanobis >= s.mahalanobis:
        yield _Found(
            Cause.PARAMETERS_JUMPED,
            "mahalanobis",
            m.move.mahalanobis,
            s.mahalanobis,
            f"the parameters moved by {m.move.mahalanobis:.1f} of their joint standard errors",
        )
    for alarm in alarms:
        yield _Found(
            Cause.ERRORS_LEAVE_BARS,
            f"{alarm.chart}_{alarm.metric}",
            alarm.value,
            alarm.limit,
            alarm.cause,
        )
