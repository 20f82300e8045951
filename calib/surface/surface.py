"""The published value: an immutable volatility surface of one underlying at one instant."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from calib.arbitrage.certificate import Certificate
from calib.conventions import NO_INSTANT, ExpiryCalendar
from calib.surface.state import FitState, ForwardSource, ModelName


@dataclass(frozen=True)
class SliceDiagnostics:
    """How well the smile of one expiry is fitted; vols as decimals.

    ``rms_vol_error`` and ``max_abs_residual`` are over the two-sided quotes used, model minus mid;
    ``chi2_reduced`` counts residuals in half-spreads; ``in_spread_share`` is the share of all
    two-sided out-of-the-money quotes that could be inverted whose model vol lies within bid-ask.
    Numbers that do not exist (no quotes) are nan.
    """

    state: FitState
    rms_vol_error: float = float("nan")
    chi2_reduced: float = float("nan")
    in_spread_share: float = float("nan")
    max_abs_residual: float = float("nan")
    quotes_used: int = 0
    quotes_rejected: int = 0
    steps: int = 0


@dataclass(frozen=True)
class ExpirySlice:
    """The smile of one expiry.

    ``parameters`` are in the order of the model's paper: SVI (a, b, rho, m, sigma), eSSVI
    (theta, rho, psi), SABR (alpha, beta, rho, nu). ``covariance`` is theirs, row-major P×P,
    or empty where it is not known. The quoted range of k is that of the quotes used.
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
    diagnostics: SliceDiagnostics = field(
        default_factory=lambda: SliceDiagnostics(FitState.CONVERGED)
    )


@dataclass(frozen=True)
class Surface:
    """A volatility surface: smiles in order of expiry, and the rule that joins them."""

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
