"""Certified surfaces from chains: joint fits in batches, proofs, the least blend where needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from calib.arbitrage.certificate import Certificate
from calib.arbitrage.essvi import EssviSlices, as_svi
from calib.conventions import Bools, ExpiryCalendar, Floats, Ints
from calib.fitting.blend import Blended, blend, certify_all
from calib.fitting.descent import Schedule
from calib.fitting.essvi_surface import SCHEDULE, fit_essvi
from calib.fitting.joint import Penalty, fit_joint
from calib.fitting.smile import LossName
from calib.fitting.surface_batches import SurfaceBatch, fitted_expiries, surface_batches
from calib.fitting.surface_prior import anchor_of, uncertainty
from calib.fitting.surface_quotes import SurfaceQuotes
from calib.market.slices import Slices
from calib.models import svi
from calib.states import FitState

_PENALTY = Penalty(tuple(float(x) for x in np.geomspace(3.0, 1e4, 6)))
_SCHEDULE = Schedule()


@dataclass(frozen=True)
class JointSettings:
    """How surfaces are fitted.

    ``min_quotes``: two-sided quotes that an expiry needs to be fitted; one is enough where others
    lend it a shape. ``coupling``: precision of the difference between neighbouring expiries'
    deviations from the anchor, in prior spreads.
    """

    loss: LossName = LossName.DEAD_ZONE
    min_quotes: int = 1
    coupling: float = 4.0
    penalty: Penalty = _PENALTY
    schedule: Schedule = _SCHEDULE


@dataclass(frozen=True)
class CertifiedFit:
    """One surface, with its proof.

    ``expiries``: numbers, in the chain, of the n that were fitted; ``parameters`` (P, n) and their
    ``covariance`` (P, P, n) before inflation, of raw SVI (P = 5) or eSSVI (3); ``lean`` (n,): the
    share of each slice that its own quotes do not decide. ``states``: of all expiries of the
    chain. ``blend``: how far the fit was drawn toward its eSSVI anchor, 0 to 1.
    """

    expiries: Ints
    parameters: Floats
    covariance: Floats
    lean: Floats
    states: tuple[FitState, ...]
    steps: int
    blend: float
    certificate: Certificate


def fit_svi_surfaces(
    chains: Sequence[Slices],
    warm: Sequence[Floats | None] = (),
    settings: JointSettings = JointSettings(),
) -> list[CertifiedFit]:
    """SVI over all expiries of each chain, free of arbitrage on the whole line or said not to be.

    ``warm``: for each chain parameters (5, expiries) to start from, nan where there are none, or
    None; empty for none at all. Where a fit starts does not change what it minimises.
    """
    chosen = [fitted_expiries(slices, settings.min_quotes) for slices in chains]
    starts = list(warm) or [None] * len(chains)
    found: dict[int, CertifiedFit] = {}
    for batch in surface_batches(chains, chosen):
        found |= _fit_batch(chains, starts, settings, batch)
    return [found.get(i) or _nothing(slices) for i, slices in enumerate(chains)]


def fit_essvi_surfaces(
    chains: Sequence[Slices], settings: JointSettings = JointSettings()
) -> list[CertifiedFit]:
    """eSSVI over all expiries of each chain, free of arbitrage by construction, and proved so."""
    chosen = [fitted_expiries(slices, settings.min_quotes) for slices in chains]
    found: dict[int, CertifiedFit] = {}
    for batch in surface_batches(chains, chosen):
        fitted = _essvi(settings.loss, batch, _coupled(chains[batch.chains[0]]))
        surfaces = [
            fitted.parameters[:, : len(expiries), lane]
            for lane, expiries in enumerate(batch.expiries)
        ]
        raw = [np.stack(as_svi(EssviSlices(*surface))) for surface in surfaces]
        proofs = certify_all(raw, [_coupled(chains[i]) for i in batch.chains])
        for lane, (i, expiries) in enumerate(zip(batch.chains, batch.expiries, strict=True)):
            state = _state(fitted.moved[lane], fitted.settled[lane], surfaces[lane])
            found[i] = CertifiedFit(
                expiries,
                surfaces[lane],
                fitted.covariance[:, :, : len(expiries), lane],
                fitted.lean[: len(expiries), lane],
                _states(chains[i], expiries, state),
                int(fitted.steps[lane]),
                0.0,
                proofs[lane],
            )
    return [found.get(i) or _nothing(slices) for i, slices in enumerate(chains)]


def _fit_batch(
    chains: Sequence[Slices],
    warm: Sequence[Floats | None],
    settings: JointSettings,
    batch: SurfaceBatch,
) -> dict[int, CertifiedFit]:
    with jax.enable_x64(True):
        anchor = anchor_of(settings.loss, settings.coupling, batch.quotes)
        start, level = _starts(batch, warm, np.asarray(anchor.coordinates), settings)
        joint = fit_joint(
            settings.loss, settings.penalty, settings.schedule, batch.quotes, anchor, start, level
        )
        spread = uncertainty(batch.quotes, anchor, joint.coordinates)
        parameters, covariance, lean, settled, moved, steps = (
            np.asarray(part)
            for part in (
                joint.parameters, spread.covariance, spread.lean,
                joint.settled, joint.moved, joint.steps,
            )
        )  # fmt: skip
    surfaces = [parameters[:, : len(e), lane] for lane, e in enumerate(batch.expiries)]
    coupled = [_coupled(chains[i]) for i in batch.chains]
    proofs = certify_all(surfaces, coupled)
    failing = [lane for lane, proof in enumerate(proofs) if not proof.arbitrage_free]
    repaired = _repair(settings, batch, surfaces, coupled, failing) if failing else {}
    results = {}
    for lane, (i, expiries) in enumerate(zip(batch.chains, batch.expiries, strict=True)):
        done = repaired.get(lane) or Blended(surfaces[lane], 0.0, proofs[lane])
        state = _state(moved[lane] or warm[i] is not None, settled[lane], done.parameters)
        n = len(expiries)
        results[i] = CertifiedFit(
            expiries,
            done.parameters,
            covariance[:, :, :n, lane],
            lean[:n, lane],
            _states(chains[i], expiries, state),
            int(steps[lane]),
            done.amount,
            done.certificate,
        )
    return results


class _EssviFits(NamedTuple):
    """An `EssviSurface` as numpy arrays."""

    parameters: Floats
    covariance: Floats
    lean: Floats
    steps: Ints
    settled: Bools
    moved: Bools


def _essvi(loss: LossName, batch: SurfaceBatch, coupled: bool) -> _EssviFits:
    """Surfaces (…, N, lanes); of expiries that are not linked, each is a surface of its own."""
    quotes = batch.quotes
    with jax.enable_x64(True):
        if coupled:
            return _EssviFits(*map(np.asarray, fit_essvi(loss, SCHEDULE, quotes)))
        shape = quotes.years.shape
        apart: list[Any] = [
            np.asarray(c).reshape(*c.shape[:-2], 1, shape[0] * shape[1]) for c in quotes
        ]
        fitted = fit_essvi(loss, SCHEDULE, SurfaceQuotes(*apart))
    parameters, covariance, lean = (
        np.asarray(part).reshape(*part.shape[:-2], *shape) for part in fitted[:3]
    )
    steps, settled, moved = (np.asarray(part).reshape(shape) for part in fitted[3:])
    return _EssviFits(
        parameters,
        covariance,
        lean,
        steps.max(axis=0),
        np.all(settled, axis=0),
        np.any(moved, axis=0),
    )


def _repair(
    settings: JointSettings,
    batch: SurfaceBatch,
    surfaces: Sequence[Floats],
    coupled: Sequence[bool],
    failing: Sequence[int],
) -> dict[int, Blended]:
    """Blends of the failing lanes toward the eSSVI surface of the same quotes."""
    fitted = _essvi(settings.loss, batch, coupled[0]).parameters
    repaired = {}
    for lane in failing:
        count = surfaces[lane].shape[1]
        anchor = np.stack(as_svi(EssviSlices(*fitted[:, :count, lane])))
        repaired[lane] = blend(surfaces[lane], anchor, coupled[lane])
    return repaired


def _starts(
    batch: SurfaceBatch,
    warm: Sequence[Floats | None],
    anchor: Floats,
    settings: JointSettings,
) -> tuple[Floats, Ints]:
    """Coordinates to start from, and the level: the last one where all of a surface is known."""
    start = anchor.copy()
    level = np.zeros(anchor.shape[-1], np.int64)
    for lane, (i, expiries) in enumerate(zip(batch.chains, batch.expiries, strict=True)):
        known = warm[i]
        if known is None:
            continue
        with np.errstate(all="ignore"):
            coordinates = svi.to_chart(known[:, expiries])
        good = np.isfinite(coordinates).all(axis=0)
        start[:, : len(expiries), lane][:, good] = coordinates[:, good]
        if good.all():
            level[lane] = len(settings.penalty.weights) - 1
    return start, level


def _coupled(slices: Slices) -> bool:
    return slices.calendar == ExpiryCalendar.SAME_ASSET


def _state(moved: bool, settled: bool, parameters: Floats) -> FitState:
    if not np.isfinite(parameters).all():
        return FitState.NON_FINITE
    if not moved:
        return FitState.NO_STEP_ACCEPTED
    return FitState.CONVERGED if settled else FitState.STEP_LIMIT


def _states(slices: Slices, expiries: Ints, fitted: FitState) -> tuple[FitState, ...]:
    """``fitted`` for the fitted expiries, and why the others were not."""
    states = np.full(len(slices.expiry), FitState.TOO_FEW_QUOTES, np.int64)
    states[(slices.forward_source == 0) | ~np.isfinite(slices.forward)] = FitState.NO_FORWARD
    states[slices.years <= 0.0] = FitState.EXPIRED
    states[expiries] = fitted
    return tuple(FitState(int(state)) for state in states)


def _nothing(slices: Slices) -> CertifiedFit:
    """What a chain without a single expiry that can be fitted comes to."""
    none = np.zeros(0, np.int64)
    states = _states(slices, none, FitState.TOO_FEW_QUOTES)
    empty = np.zeros((5, 0))
    return CertifiedFit(
        none, empty, np.zeros((5, 5, 0)), np.zeros(0), states, 0, 0.0, Certificate.not_checked()
    )
