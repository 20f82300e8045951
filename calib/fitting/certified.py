"""Certified surfaces from chains: joint fits in batches, proofs, the least blend where needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np

from calib.arbitrage.certificate import Certificate
from calib.arbitrage.essvi import EssviSlices, as_svi
from calib.conventions import Bools, ExpiryCalendar, Floats, Ints
from calib.fitting.blend import Blended, blend, certify_all
from calib.fitting.descent import Schedule
from calib.fitting.essvi_surface import SCHEDULE, essvi_parameters, fit_essvi
from calib.fitting.joint import JOINT_SVI, Joint, Penalty, Prior, fit_joint
from calib.fitting.memory import Memory, Remembered, remember
from calib.fitting.smile import LossName
from calib.fitting.surface_batches import (
    SurfaceBatch,
    beside,
    fitted_expiries,
    surface_batches,
)
from calib.fitting.surface_prior import anchor_of, remembered
from calib.fitting.surface_quotes import SurfaceQuotes
from calib.market.slices import Slices
from calib.models import svi
from calib.states import FitState
from calib.surface.surface import Surface

_PENALTY = Penalty(tuple(float(x) for x in np.geomspace(3.0, 3e3, 6)))

_SCHEDULE = Schedule(cost=1e-5, max_steps=150)


_NEAR, _FEW = 2.0, 0.1
"""A start is near its quotes if it misses at most so large a share by more than so many
half-spreads."""


@dataclass(frozen=True)
class JointSettings:
    """How surfaces are fitted.

    ``min_quotes``: two-sided quotes that an expiry needs to be fitted; one is enough where others
    lend it a shape. ``coupling``: precision of the difference between neighbouring expiries'
    deviations from the prior, in prior spreads. ``memory``: how the last surface counts; None:
    not at all.
    """

    loss: LossName = LossName.DEAD_ZONE
    min_quotes: int = 1
    coupling: float = 4.0
    memory: Memory | None = field(default_factory=Memory)
    penalty: Penalty = _PENALTY
    schedule: Schedule = _SCHEDULE


@dataclass(frozen=True)
class CertifiedFit:
    """One surface, with its proof.

    ``expiries``: numbers, in the chain, of the n that were fitted; ``parameters`` (P, n) and their
    ``covariance`` (P, P, n) under the stated noise, of raw SVI (P = 5) or eSSVI (3);
    ``quote_share`` and ``memory_share`` (n,): what a smile's own quotes, and the last surface,
    decide of it; ``anchor`` (3, n): the eSSVI smiles that they are drawn to, or (3, 0).
    ``states``: of all expiries of the chain. ``blend``: how far the fit was drawn toward its eSSVI
    anchor, 0 to 1.
    """

    expiries: Ints
    parameters: Floats
    covariance: Floats
    quote_share: Floats
    memory_share: Floats
    anchor: Floats
    states: tuple[FitState, ...]
    steps: int
    blend: float
    certificate: Certificate


def fit_svi_surfaces(
    chains: Sequence[Slices],
    previous: Sequence[Surface | None] = (),
    settings: JointSettings = JointSettings(),
    weights: Sequence[Floats | None] = (),
) -> list[CertifiedFit]:
    """SVI over all expiries of each chain, free of arbitrage on the whole line or said not to be.

    ``previous``: for each chain the surface to start from and to remember, or None; empty for none
    at all. ``weights``: see `calib.fitting.surface_batches.surface_batches`.
    """
    chosen = [fitted_expiries(slices, settings.min_quotes) for slices in chains]
    last = list(previous) if settings.memory and len(previous) else [None] * len(chains)
    # All are begun before the first is waited for: jax computes while the next is made ready.
    begun = [
        _begun(chains, last, settings, batch) for batch in surface_batches(chains, chosen, weights)
    ]
    fitted = [_ended(chains, last, settings, each) for each in begun]
    # One proof for the surfaces of all batches: its cost is nearly all in the number of its calls.
    numbers = [i for each in fitted for i in each.batch.chains]
    proofs = certify_all(
        [surface for each in fitted for surface in each.surfaces],
        [is_coupled(chains[i]) for i in numbers],
    )
    of_chain = dict(zip(numbers, proofs, strict=True))
    found: dict[int, CertifiedFit] = {}
    for each in fitted:
        found |= _concluded(chains, settings, each, [of_chain[i] for i in each.batch.chains])
    return [found.get(i) or nothing(slices, 5) for i, slices in enumerate(chains)]


def fit_essvi_surfaces(
    chains: Sequence[Slices],
    settings: JointSettings = JointSettings(),
    weights: Sequence[Floats | None] = (),
) -> list[CertifiedFit]:
    """eSSVI over all expiries of each chain, free of arbitrage by construction, and proved so."""
    chosen = [fitted_expiries(slices, settings.min_quotes) for slices in chains]
    found: dict[int, CertifiedFit] = {}
    for batch in surface_batches(chains, chosen, weights):
        fitted = _essvi(settings.loss, batch, is_coupled(chains[batch.chains[0]]))
        surfaces = [
            fitted.parameters[:, : len(expiries), lane]
            for lane, expiries in enumerate(batch.expiries)
        ]
        raw = [np.stack(as_svi(EssviSlices(*surface))) for surface in surfaces]
        proofs = certify_all(raw, [is_coupled(chains[i]) for i in batch.chains])
        for lane, (i, expiries) in enumerate(zip(batch.chains, batch.expiries, strict=True)):
            n = len(expiries)
            state = state_of(fitted.moved[lane], fitted.settled[lane], surfaces[lane])
            own = 1.0 - fitted.lean[:n, lane]
            found[i] = CertifiedFit(
                expiries,
                surfaces[lane],
                fitted.covariance[:, :, :n, lane],
                own,
                np.zeros_like(own),
                np.zeros((3, 0)),
                states_of(chains[i], expiries, state),
                int(fitted.steps[lane]),
                0.0,
                proofs[lane],
            )
    return [found.get(i) or nothing(slices, 3) for i, slices in enumerate(chains)]


class _Fitted(NamedTuple):
    """A batch after its joint fit, lanes as last axes; ``surfaces``: parameters (5, n) of each."""

    batch: SurfaceBatch
    surfaces: tuple[Floats, ...]
    covariance: Floats
    own: Floats
    memory: Floats
    anchor: Floats
    steps: Ints
    settled: Bools
    moved: Bools


class _Begun(NamedTuple):
    """A batch whose fit is being computed."""

    batch: SurfaceBatch
    prior: Prior
    level: Ints
    joint: Joint


def _begun(
    chains: Sequence[Slices],
    previous: Sequence[Surface | None],
    settings: JointSettings,
    batch: SurfaceBatch,
    *,
    patient: bool = False,
) -> _Begun:
    """``patient``: from the first level, wherever the start lies."""
    with jax.enable_x64(True):
        prior, start, level = svi_prior(chains, previous, settings, batch)
        level = np.zeros_like(level) if patient else level
        joint = fit_joint(
            JOINT_SVI,
            settings.loss,
            settings.penalty,
            settings.schedule,
            batch.quotes,
            prior,
            start,
            level,
        )
    return _Begun(batch, prior, level, joint)


def _ended(
    chains: Sequence[Slices],
    previous: Sequence[Surface | None],
    settings: JointSettings,
    begun: _Begun,
) -> _Fitted:
    """The batch when its fit has ended, once more from the first level where the last alone did
    not bring it to an end."""
    fitted = _fitted(begun)
    if fitted.settled.all() or not (begun.level > 0).any():
        return fitted
    again = _fitted(_begun(chains, previous, settings, begun.batch, patient=True))
    return again._replace(steps=fitted.steps + again.steps)


def _fitted(begun: _Begun) -> _Fitted:
    """The batch when its fit has ended."""
    batch, prior, level, joint = begun
    parameters, covariance, own, memory, steps, settled, moved = map(np.asarray, joint)
    anchor = np.asarray(prior.anchor)
    surfaces = tuple(parameters[:, : len(e), lane] for lane, e in enumerate(batch.expiries))
    # A warm start may be the optimum already.
    moved = moved | (level > 0)
    return _Fitted(batch, surfaces, covariance, own, memory, anchor, steps, settled, moved)


def _concluded(
    chains: Sequence[Slices],
    settings: JointSettings,
    fitted: _Fitted,
    proofs: Sequence[Certificate],
) -> dict[int, CertifiedFit]:
    """Fits by chain, what failed its proof blended until it passes."""
    batch, surfaces = fitted.batch, fitted.surfaces
    coupled = [is_coupled(chains[i]) for i in batch.chains]
    failing = [lane for lane, proof in enumerate(proofs) if not proof.arbitrage_free]
    repaired = _repair(settings, batch, surfaces, coupled, failing) if failing else {}
    results = {}
    for lane, (i, expiries) in enumerate(zip(batch.chains, batch.expiries, strict=True)):
        done = repaired.get(lane) or Blended(surfaces[lane], 0.0, proofs[lane])
        state = state_of(fitted.moved[lane], fitted.settled[lane], done.parameters)
        n = len(expiries)
        results[i] = CertifiedFit(
            expiries,
            done.parameters,
            fitted.covariance[:, :, :n, lane],
            fitted.own[:n, lane],
            fitted.memory[:n, lane],
            fitted.anchor[:, :n, lane],
            states_of(chains[i], expiries, state),
            int(fitted.steps[lane]),
            done.amount,
            done.certificate,
        )
    return results


def svi_prior(
    chains: Sequence[Slices],
    previous: Sequence[Surface | None],
    settings: JointSettings,
    batch: SurfaceBatch,
) -> tuple[Prior, Any, Ints]:
    """The prior, the start in spreads from its anchor, and the level to start from: the last one
    where all of a surface was known before and is near its quotes still. From afar a robust loss
    and conditions at their full weight lead into the next best valley."""
    quotes = batch.quotes
    level = np.zeros(quotes.years.shape[1], np.int64)
    memory = settings.memory
    if memory is None or not any(previous[i] is not None for i in batch.chains):
        prior = anchor_of(settings.loss, settings.coupling, quotes)
        return prior, prior.last, level
    lanes = [
        _padded(remember(previous[i], chains[i], expiries, memory), quotes.years.shape[0])
        for i, expiries in zip(batch.chains, batch.expiries, strict=True)
    ]
    lanes += [lanes[0]] * (len(level) - len(lanes))
    stacked: list[Any] = [beside(parts) for parts in zip(*lanes, strict=True)]
    last = Remembered(*stacked)
    near = last.known.all(axis=0) & _is_near(last.parameters, quotes)
    level[near] = len(settings.penalty.weights) - 1
    fresh: Any = last.anchor  # where all are known no other is wanted
    if not last.known.all():
        fresh = anchor_of(settings.loss, settings.coupling, quotes).anchor
    prior = remembered(last, settings.coupling, quotes, fresh)
    return prior, prior.last, level


def _is_near(parameters: Floats, quotes: SurfaceQuotes) -> Bools:
    """Whether smiles (5, N, B) miss few of the quotes by more than a few half-spreads, (B,)."""
    owner = np.asarray(quotes.owner)
    spread = np.take_along_axis(parameters, np.broadcast_to(owner, (5, *owner.shape)), axis=1)
    years = np.take_along_axis(np.asarray(quotes.years), owner, axis=0)
    with np.errstate(invalid="ignore"):
        gap = np.sqrt(svi.total_variance(spread[:, None], quotes.k) / years) - quotes.target
    noise = np.where(gap > 0.0, quotes.above, quotes.below)
    far = ~(np.abs(gap) < _NEAR * noise) & np.isfinite(noise)
    quoted = np.isfinite(noise)
    missed: Bools = far.sum(axis=(0, 1)) <= _FEW * quoted.sum(axis=(0, 1))
    return missed


def _padded(last: Remembered, length: int) -> Remembered:
    """With the last expiry repeated up to ``length``."""
    place = np.minimum(np.arange(length), len(last.known) - 1)
    repeated: list[Any] = [part[..., place] for part in last]
    return Remembered(*repeated)


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
        alone = [
            fit_essvi(loss, SCHEDULE, _only(quotes, number))
            for number in range(int(quotes.present.sum(axis=0).max()))
        ]
    padding = [alone[-1]] * (quotes.years.shape[0] - len(alone))
    parts: list[Any] = [
        np.concatenate([np.asarray(part) for part in parts], axis=-2)
        for parts in list(zip(*alone, *padding, strict=True))[:3]
    ]
    steps, settled, moved = (np.stack(part) for part in list(zip(*alone, strict=True))[3:])
    return _EssviFits(
        parts[0],
        parts[1],
        parts[2],
        steps.max(axis=0),
        np.atleast_1d(settled.all(axis=0)),
        np.atleast_1d(moved.any(axis=0)),
    )


def _only(quotes: SurfaceQuotes, number: int) -> SurfaceQuotes:
    """One expiry of every lane, as a surface of one: the others' quotes count for nothing."""
    mine: Any = quotes.owner == np.minimum(number, quotes.present.sum(axis=0) - 1)
    one = slice(number, number + 1)
    changed: dict[str, Any] = {
        "above": np.where(mine, quotes.above, np.inf),
        "below": np.where(mine, quotes.below, np.inf),
        "owner": np.zeros_like(quotes.owner),
        "years": quotes.years[one],
        "present": np.ones_like(quotes.present[one]),
        "linked": np.zeros_like(quotes.linked[one]),
    }
    return quotes._replace(**changed)


def _repair(
    settings: JointSettings,
    batch: SurfaceBatch,
    surfaces: Sequence[Floats],
    coupled: Sequence[bool],
    failing: Sequence[int],
) -> Mapping[int, Blended]:
    """Blends of the failing lanes toward the eSSVI surface of the same quotes."""
    if coupled[0]:
        # What the rough anchor was found with is compiled already: no live fit waits for this one.
        with jax.enable_x64(True):
            fitted = np.asarray(essvi_parameters(settings.loss, SCHEDULE, batch.quotes))
    else:
        fitted = _essvi(settings.loss, batch, coupled=False).parameters
    repaired = {}
    for lane in failing:
        count = surfaces[lane].shape[1]
        anchor = np.stack(as_svi(EssviSlices(*fitted[:, :count, lane])))
        link = [coupled[lane]]

        def certify(surface: Floats, link: Sequence[bool] = link) -> Certificate:
            return certify_all([surface], link)[0]

        repaired[lane] = blend(surfaces[lane], anchor, certify, svi.to_chart, svi.from_chart)
    return repaired


def is_coupled(slices: Slices) -> bool:
    """Whether all expiries of a chain are of one asset."""
    return slices.calendar == ExpiryCalendar.SAME_ASSET


def state_of(moved: bool, settled: bool, parameters: Floats) -> FitState:
    """How the fit of a surface ended."""
    if not np.isfinite(parameters).all():
        return FitState.NON_FINITE
    if not moved:
        return FitState.NO_STEP_ACCEPTED
    return FitState.CONVERGED if settled else FitState.STEP_LIMIT


def states_of(slices: Slices, expiries: Ints, fitted: FitState) -> tuple[FitState, ...]:
    """``fitted`` for the fitted expiries, and why the others were not."""
    states = np.full(len(slices.expiry), FitState.TOO_FEW_QUOTES, np.int64)
    states[(slices.forward_source == 0) | ~np.isfinite(slices.forward)] = FitState.NO_FORWARD
    states[slices.years <= 0.0] = FitState.EXPIRED
    states[expiries] = fitted
    return tuple(FitState(int(state)) for state in states)


def nothing(slices: Slices, parameters: int) -> CertifiedFit:
    """What a chain without a single expiry that can be fitted comes to."""
    none = np.zeros(0, np.int64)
    states = states_of(slices, none, FitState.TOO_FEW_QUOTES)
    return CertifiedFit(
        none, np.zeros((5, 0)), np.zeros((5, 5, 0)), np.zeros(0), np.zeros(0), np.zeros((3, 0)),
        states, 0, 0.0, Certificate.not_checked(),
    )  # fmt: skip
