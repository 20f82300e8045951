"""The published value: an immutable volatility surface of one underlying at one instant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np

from calib.arbitrage.certificate import Certificate
from calib.conventions import NO_INSTANT, ExpiryCalendar, iso, to_instant
from calib.errors import InvalidSurface
from calib.market.variance_clock import VarianceKnot
from calib.states import FitState, ForwardSource, ModelName
from calib.surface.content import ByContent
from calib.surface.evaluation import Evaluator
from calib.surface.hold import Hold
from calib.surface.marks import Mark
from calib.surface.smiles import Smiles
from calib.surface.timeline import Location, Timeline
from calib.surface.validation import PARAMETER_NAMES, PARAMETERS, check_surface, named_parameters

if TYPE_CHECKING:
    import pandas as pd

    from calib.surface.handles import SmileHandles
    from calib.v1 import surface_pb2


@dataclass(frozen=True, eq=False)
class SliceDiagnostics(ByContent):
    """How well the smile of one expiry is fitted; vols as decimals.

    ``rms_vol_error`` and ``max_abs_residual`` are over the two-sided quotes used, model minus mid;
    ``chi2_reduced`` counts residuals in half-spreads; ``in_spread_share`` is the share of all
    two-sided out-of-the-money quotes that could be inverted whose model vol lies within bid-ask.
    ``quote_share`` and ``memory_share`` say how much of the smile's shape its own quotes decide,
    and how much is remembered of the last surface; what is left of 1 is lent by neighbouring
    expiries and by the anchor. ``noise_scale`` is one standard deviation of the quotes' errors in
    half-spreads, measured on the residuals; the error bars stand on it (see
    `calib.fitting.uncertainty`), and ``covariance_scale`` is what the covariance comes to in units
    of that under the stated noise, one half-spread, in the mean over coordinates. Numbers that do
    not exist (no quotes) are nan.
    """

    state: FitState
    rms_vol_error: float = nan
    chi2_reduced: float = nan
    in_spread_share: float = nan
    max_abs_residual: float = nan
    quotes_used: int = 0
    quotes_rejected: int = 0
    steps: int = 0
    quote_share: float = nan
    memory_share: float = nan
    noise_scale: float = nan
    covariance_scale: float = nan


@dataclass(frozen=True, eq=False)
class ExpirySlice(ByContent):
    """The smile of one expiry.

    ``parameters`` are in the order of the model's paper: SVI (a, b, rho, m, sigma), eSSVI
    (theta, rho, psi), SABR (alpha, beta, rho, nu) with alpha at unit forward, see
    `calib.models.sabr`. In a surface they are a named tuple. ``covariance`` is theirs, row-major
    P×P, or empty where it is not known. ``forward_error`` is one standard error, nan where it is
    not known. The quoted range of k is that of the quotes used. ``anchor`` is the eSSVI smile
    (theta, rho, psi) toward which this one is drawn where its quotes say little, or empty.
    ``hold``: set where the expiry was HELD, and how much of its last good smile stands here.
    """

    expiry: np.datetime64
    years: float
    variance_time: float
    forward: float
    discount_factor: float
    parameters: tuple[float, ...]
    log_moneyness_min: float
    log_moneyness_max: float
    forward_error: float = 0.0
    forward_source: ForwardSource = ForwardSource.VENUE
    covariance: tuple[float, ...] = ()
    anchor: tuple[float, ...] = ()
    diagnostics: SliceDiagnostics = field(
        default_factory=lambda: SliceDiagnostics(FitState.CONVERGED)
    )
    hold: Hold | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "expiry", to_instant(self.expiry))
        object.__setattr__(self, "covariance", tuple(self.covariance))
        object.__setattr__(self, "anchor", tuple(self.anchor))


@dataclass(frozen=True, eq=False, repr=False)
class Surface(ByContent):
    """A volatility surface: smiles in order of expiry, and the rule that joins them.

    The methods take an ``expiry`` that is datetime-like (datetime, date, pandas Timestamp,
    datetime64, ISO text; UTC where it has no offset) or years from ``quote_time`` as a number;
    expiry and strike or log-moneyness may be arrays that broadcast. Scalars in give scalars out.
    Volatility belongs to ``quote_time`` and is held while the caller's clock moves on. Strikes
    that are not positive and expiries before ``quote_time`` have no value: nan.
    The methods raise NotFitted where the surface has no expiries, and where its calendar is
    INDEPENDENT for any expiry but the fitted ones.

    ``blend`` says how far the fit was drawn toward its arbitrage-free anchor, 0 to 1, before its
    certificate was had.

    ``variance_clock`` holds the knots of the clock that interpolation in time runs in: variance
    time is piecewise linear through (0, 0), the expiries and these knots, with slope 1 beyond the
    last of them.

    ``marks`` names what an operator has set by hand: the expiries' parameters hold it.

    Construction raises InvalidSurface for whatever contradicts this: expiries out of order or not
    after ``quote_time``, years that are not ACT/365F, parameters outside the model's domain,
    variance time that falls, numbers that are not finite.
    """

    underlying: str
    quote_time: np.datetime64
    model: ModelName
    calendar: ExpiryCalendar
    certificate: Certificate
    expiries: tuple[ExpirySlice, ...]
    spot: float | None = None
    calibration_time: np.datetime64 = NO_INSTANT
    epoch: str = ""
    revision: int = 0
    input_hash: str = ""
    code_version: str = ""
    blend: float = 0.0
    variance_clock: tuple[VarianceKnot, ...] = ()
    marks: tuple[Mark, ...] = ()

    def __post_init__(self) -> None:
        if self.model not in PARAMETER_NAMES:
            raise InvalidSurface(f"model is {self.model!r}, must be a ModelName")
        object.__setattr__(self, "quote_time", to_instant(self.quote_time))
        object.__setattr__(self, "calibration_time", to_instant(self.calibration_time))
        object.__setattr__(self, "expiries", tuple(map(self._named, self.expiries)))
        object.__setattr__(self, "variance_clock", tuple(map(_knot, self.variance_clock)))
        object.__setattr__(self, "marks", tuple(self.marks))
        check_surface(self)

    def _named(self, one: ExpirySlice) -> ExpirySlice:
        if isinstance(one.parameters, PARAMETERS[self.model]):
            return one
        return replace(one, parameters=named_parameters(self.model, one.parameters))

    def __repr__(self) -> str:
        return (
            f"Surface({self.underlying} {iso(self.quote_time)}, {self.model.name}, "
            f"{len(self.expiries)} expiries, {self.certificate.scope.name})"
        )

    def total_variance(self, log_moneyness: Any, expiry: Any) -> Any:
        """Total implied variance w(k, t) at k = ln(K/F(t)).

        At a fitted expiry the model's formula; between expiries linear in variance time at
        constant k; before the first w_1(k)·τ/τ_1; beyond the last w_N(k) + (τ/τ_N − 1)·w_N(0).
        SABR is continued linearly outside its quoted range, see
        `calib.surface.smiles.Smiles.total_variance`.
        """
        return self._evaluator.total_variance(log_moneyness, expiry)

    def implied_vol(self, strike: Any, expiry: Any) -> Any:
        """Implied Black volatility √(w/t), a decimal, at a strike in quote currency."""
        return self._evaluator.implied_vol(strike, expiry)

    def vol_error(self, strike: Any, expiry: Any) -> Any:
        """One standard error of the fitted vol, a decimal; nan where it is not known.

        The delta method on the parameters' covariance and the forward's error; never falling on
        the way out of the quoted range, see `calib.surface.smiles.Smiles.vol_error`. Linear in
        variance time between expiries at constant k, constant before the first and beyond the
        last.
        """
        return self._evaluator.vol_error(strike, expiry)

    def forward(self, expiry: Any) -> Any:
        """Forward F(t) in quote currency; ln F is linear in t, from ln spot at 0 where it is known.

        Beyond the last expiry F grows at its mean rate over spot; without spot it is flat before
        the first and beyond the last.
        """
        return self._evaluator.forward(expiry)

    def discount_factor(self, expiry: Any) -> Any:
        """Discount factor D(t); ln D is linear in t through (0, 0), at its mean rate at the end."""
        return self._evaluator.discount_factor(expiry)

    @property
    def smiles(self) -> Smiles:
        """The smiles of the fitted expiries, ready for evaluation."""
        return self._evaluator.smiles

    def place(self, strike: Any, expiry: Any) -> tuple[Any, Location]:
        """Log-moneyness of a strike, and how the smiles of the fitted expiries make up the one at
        ``expiry``."""
        return self._evaluator.place(strike, expiry)

    def is_extrapolated(self, strike: Any, expiry: Any) -> Any:
        """Whether t lies before the first or after the last expiry, or k outside the quoted range.

        Between expiries both ends of the range are linear in variance time. What has no value
        counts as extrapolated.
        """
        return self._evaluator.is_extrapolated(strike, expiry)

    def to_frame(self) -> pd.DataFrame:
        """One row per expiry: times, forward, parameters by name, quoted range, diagnostics."""
        from calib.surface.frames import surface_frame

        return surface_frame(self)

    def to_proto(self) -> surface_pb2.Surface:
        """The surface as the message ``calib.v1.Surface``; `from_proto` is its exact inverse."""
        from calib.surface.messages import surface_to_proto

        return surface_to_proto(self)

    @classmethod
    def from_proto(cls, message: surface_pb2.Surface) -> Surface:
        """The surface in a message; raises InvalidSurface where it holds none."""
        from calib.surface.messages import surface_from_proto

        return surface_from_proto(message)

    def to_json(self) -> str:
        """The message in the proto3 JSON mapping, on one line; `from_json` is its exact inverse."""
        from calib.surface.messages import surface_to_json

        return surface_to_json(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> Surface:
        """The surface in JSON text; raises InvalidSurface where it holds none."""
        from calib.surface.messages import surface_from_json

        return surface_from_json(text)

    def handles(self, expiry: Any = None) -> pd.DataFrame:
        """The smiles as traders read them, one row per fitted expiry, or per one asked for.

        ATM vol, skew, curvature, wing slopes, 25- and 10-delta strikes, vols, risk reversals and
        butterflies, and SVI's jump-wings, each with its standard error in ``<name>_error``; what
        each is, with its delta convention, in `calib.surface.handles`.
        """
        from calib.surface.frames import handles_frame

        return handles_frame(self.handle_values(expiry))

    def handle_values(self, expiry: Any = None) -> tuple[SmileHandles, ...]:
        """The same without pandas: per smile its handles and their errors, immutable."""
        from calib.surface.handles import smile_handles

        return smile_handles(self._evaluator, expiry)

    def density(self, strike: Any, expiry: Any) -> Any:
        """Risk-neutral density of S_T in strike, undiscounted: ∂²C/∂K² of undiscounted calls.

        Below 0 where the smile has butterfly arbitrage; see `calib.surface.density`.
        """
        from calib.surface.density import density

        return density(self._evaluator, strike, expiry)

    def distribution(self, strike: Any, expiry: Any) -> Any:
        """P(S_T ≤ K) = 1 + ∂C/∂K, of which `density` is the derivative."""
        from calib.surface.density import distribution

        return distribution(self._evaluator, strike, expiry)

    def variance_swap(self, expiry: Any, strikes: Any = None) -> Any:
        """Fair strike of a variance swap as a vol, a decimal: √(E[−2 ln(S_T/F)]/t).

        From the whole line, wings included, see `calib.surface.variance_swap`; inf where the left
        wing makes it infinite. With ``strikes``, ascending: from a strip of options at these alone,
        by CBOE's sum, see `calib.surface.replication`.
        """
        from calib.surface.replication import replicated_vol
        from calib.surface.variance_swap import variance_swap

        if strikes is None:
            return variance_swap(self._evaluator, expiry)
        return replicated_vol(self._evaluator, expiry, strikes)

    def variance_swap_error(self, expiry: Any) -> Any:
        """One standard error of `variance_swap`, a decimal; nan where it is not known."""
        from calib.surface.variance_swap import variance_swap_error

        return variance_swap_error(self._evaluator, expiry)

    def vix(self, days: float = 30, strikes: Any = None) -> float:
        """The index that CBOE's method gives, as a decimal vol: the VIX is 100 times it.

        Total variance to ``days`` from now is linear in time between those of the two neighbouring
        fitted expiries, each by `variance_swap` with the same ``strikes``. Raises NotFitted where
        there are not two.
        """
        from calib.surface.replication import vix

        return vix(self._evaluator, days, strikes)

    @cached_property
    def _evaluator(self) -> Evaluator:
        expiries = self.expiries
        count, size = len(expiries), len(PARAMETER_NAMES[self.model])
        unknown = (nan,) * (size * size)
        timeline = Timeline(
            years=tuple(one.years for one in expiries),
            variance_time=tuple(one.variance_time for one in expiries),
            forward=tuple(one.forward for one in expiries),
            discount_factor=tuple(one.discount_factor for one in expiries),
            spot=self.spot,
            coupled=self.calendar is ExpiryCalendar.SAME_ASSET,
            labels=tuple(iso(one.expiry) for one in expiries),
            knots=self.variance_clock,
        )
        smiles = Smiles(
            model=self.model,
            parameters=np.array([one.parameters for one in expiries]).reshape(count, size).T,
            years=np.array(timeline.years),
            k_min=np.array([one.log_moneyness_min for one in expiries]),
            k_max=np.array([one.log_moneyness_max for one in expiries]),
            covariance=np.array([one.covariance or unknown for one in expiries]).reshape(
                count, size, size
            ),
            forward_error_share=np.array([one.forward_error / one.forward for one in expiries]),
        )
        return Evaluator(self.quote_time, timeline, smiles)


def _knot(pair: Sequence[float]) -> VarianceKnot:
    if isinstance(pair, VarianceKnot):
        return pair
    years, variance_time = pair
    return VarianceKnot(float(years), float(variance_time))
