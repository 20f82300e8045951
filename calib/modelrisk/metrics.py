"""Metrics: what one fit says about how far its surface may be trusted, expiry by expiry."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import nan

import numpy as np

from calib.arbitrage.certificate import CertificateScope
from calib.modelrisk.delta_buckets import DELTA_BUCKETS
from calib.modelrisk.forward_check import ForwardCheck
from calib.modelrisk.parameter_moves import ParameterMove
from calib.modelrisk.plain_values import Value, plain_values
from calib.modelrisk.tenors import Tenor
from calib.quotes.reasons import Reason
from calib.states import FitState, ForwardSource

_FAILED = (FitState.NO_STEP_ACCEPTED, FitState.NON_FINITE, FitState.UNCERTIFIED)


@dataclass(frozen=True)
class BucketBias:
    """Residuals of the two-sided quotes used in one delta bucket, model less mid.

    ``vol`` is their mean as a decimal, ``half_spreads`` the mean of each over its half-spread.
    Without quotes both are nan.
    """

    count: int = 0
    vol: float = nan
    half_spreads: float = nan


@dataclass(frozen=True)
class SliceMetrics:
    """One expiry; vols as decimals, residuals are model less mid, nan is what does not exist.

    Fit, over the two-sided quotes used: ``rms_vol_error``; ``vega_vol_error`` = √(Σν r²/Σν), ν the
    Black vega; ``chi2_reduced`` in units of ``stated_noise``, the median half-spread in vol, and
    ``noise_scale``, what the residuals show it to be in units of it;
    ``in_spread_share``; ``worst_violation``, how far the worst quote (bounds included) lies
    outside bid-ask, in half-spreads; ``worst_share``, that quote's part of Σ(r/h)², to which a
    bound adds the square of its violation; ``runs_z`` of the signs
    along strikes, each the mean of its quotes (`calib.modelrisk.runs`); ``bias`` by delta bucket.
    ``bracketed`` counts the two-sided quotes from the 17.5-delta put to the 17.5-delta call: the
    inner three delta buckets.
    Quotes: how many were used of each kind, ``rejected`` by reason, ``crossed`` those of them out
    of the money whose bid stands above the ask; ages in seconds of those used
    at the quote time of the chain, the median that of the venue in which it is greatest;
    ``venue_gap``, the widest difference between the mean residuals of two venues in half-spreads.
    Shape: ``move`` since the last surface, ``condition`` and ``bound_distance`` of the parameters
    (`calib.modelrisk.parameter_moves`), ``atm_vol`` and ``atm_error``, what the quotes, the last
    surface and (``prior_share``) all else but the quotes decide.
    """

    expiry: np.datetime64
    years: float
    tenor: Tenor
    state: FitState
    forward_source: ForwardSource | None
    forward: ForwardCheck
    rms_vol_error: float = nan
    vega_vol_error: float = nan
    chi2_reduced: float = nan
    stated_noise: float = nan
    noise_scale: float = nan
    in_spread_share: float = nan
    worst_violation: float = nan
    worst_share: float = nan
    runs_z: float = nan
    bias: tuple[BucketBias, ...] = tuple(BucketBias() for _ in DELTA_BUCKETS)
    bracketed: int = 0
    two_sided: int = 0
    ceilings: int = 0
    floors: int = 0
    rejected: tuple[tuple[Reason, int], ...] = ()
    crossed: int = 0
    median_age_seconds: float = nan
    oldest_age_seconds: float = nan
    venue_gap: float = nan
    move: ParameterMove = field(default_factory=ParameterMove)
    condition: float = nan
    bound_distance: float = nan
    atm_vol: float = nan
    atm_error: float = nan
    quote_share: float = nan
    memory_share: float = nan
    prior_share: float = nan
    steps: int = 0

    @property
    def quotes_used(self) -> int:
        """Rows that the fit used, bounds included."""
        return self.two_sided + self.ceilings + self.floors

    @property
    def one_sided_share(self) -> float:
        """The share of bounds among the rows used."""
        return (self.ceilings + self.floors) / self.quotes_used if self.quotes_used else nan

    @property
    def failed(self) -> bool:
        """Whether the solver or the proof failed, whatever the quotes were."""
        return self.state in _FAILED

    @property
    def normalised_residual(self) -> float:
        """√χ²_red: the size of residuals in half-spreads."""
        return float(np.sqrt(self.chi2_reduced))

    def values(self) -> dict[str, Value]:
        """Every number under one flat name, for stores and tables."""
        found = plain_values(self, skip=("forward", "bias", "rejected", "move"))
        found["quotes_used"] = self.quotes_used
        found["quotes_rejected"] = sum(count for _, count in self.rejected)
        found["one_sided_share"] = self.one_sided_share
        for bucket, bias in zip(DELTA_BUCKETS, self.bias, strict=True):
            found[f"count_{bucket}"] = bias.count
            found[f"bias_{bucket}"] = bias.vol
            found[f"bias_half_spreads_{bucket}"] = bias.half_spreads
        for reason, count in self.rejected:
            found[f"rejected_{reason.name.lower()}"] = count
        found |= {f"forward_{name}": value for name, value in plain_values(self.forward).items()}
        found |= {f"forward_{name}": getattr(self.forward, name) for name in _DERIVED}
        found |= {f"move_{name}": value for name, value in plain_values(self.move).items()}
        return found


_DERIVED = ("basis", "basis_z", "gap")


@dataclass(frozen=True)
class SurfaceMetrics:
    """A surface as a whole, and its ``slices``: every expiry of the chain, fitted or not.

    ``rms_vol_error`` and ``in_spread_share`` are over all two-sided quotes used; ``blend`` says
    how far the fit was drawn to its anchor; the margins are those of the certificate.
    ``fit_seconds``: how long the fit took, nan where nobody said.
    """

    underlying: str
    quote_time: np.datetime64
    model: str
    slices: tuple[SliceMetrics, ...]
    expiries: int
    fitted: int
    quotes_used: int
    quotes_rejected: int
    rms_vol_error: float
    in_spread_share: float
    worst_violation: float
    spot: float
    blend: float
    arbitrage_free: bool
    certificate_scope: CertificateScope
    butterfly_margin: float
    calendar_margin: float
    steps: int
    fit_seconds: float = nan

    def values(self) -> dict[str, Value]:
        """Every number of the surface itself under one flat name."""
        return plain_values(self, skip=("slices",))
