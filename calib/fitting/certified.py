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
    chosen_expiries,
    surface_batches,
)
from calib.fitting.surface_prior import anchor_of, remembered
from calib.fitting.surface_quotes import SurfaceQuotes
from calib.market.slices import Slices
from calib.models import svi
from calib.states import FitState
from calib.surface.surface import Surface

_PENALTY = Penalty(tuple(float(x) for x in np.geomspace(3.0, 3e3, 6)))

_SCHEDULE = Schedule(cost=1e-4, max_steps=120)


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
    chosen = chosen_expiries(chains, settings.min_quotes, weights)
    last = list(previous) if settings.memory and len(previous) else [None] * len(chains)
    # All are begun before the first is waited for: jax computes while the next is made ready.
    begun = [
        _begun(chains, last, settings, batch) for batch in surface_batches(chains, chosen, weights)
    ]
    fitted = [_fitted(each) for each in begun]
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
    chosen = chosen_expiries(chains, settings.min_quotes, weights)
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
    """A batch after its joint fit, lanes as last axes; ``parameters`` (5, N, B)."""

    batch: SurfaceBatch
    prior: Prior
    parameters: Floats
    covariance: Floats
    own: Floats
    memory: Floats
    steps: Ints
    settled: Bools
    moved: Bools

    @property
    def surfaces(self) -> tuple[Floats, ...]:
        """Parameters (5, n) of each lane."""
        return tuple(
            self.parameters[:, : len(own), lane] for lane, own in enumerate(self.batch.expiries)
        )


class _Begun(NamedTuple):
    """A batch whose fit is being computed."""

    batch: SurfaceBatch
    prior: Prior
    joint: Joint


def _begun(
    chains: Sequence[Slices],
    previous: Sequence[Surface | None],
    settings: JointSettings,
    batch: SurfaceBatch,
) -> _Begun:
    with jax.enable_x64(True):
        prior = svi_prior(chains, previous, settings, batch)
        joint = fit_joint(
            JOINT_SVI,
            settings.loss,
            settings.penalty,
            settings.schedule,
            batch.quotes,
            prior,
        )
    return _Begun(batch, prior, joint)


def _fitted(begun: _Begun) -> _Fitted:
    """The batch when its fit has ended."""
    batch, prior, joint = begun
    parameters, covariance, own, memory, steps, settled, moved = map(np.asarray, joint)
    # The last surface may be the optimum already; but where it had no cost nothing was settled.
    moved = moved | (settled & np.asarray(prior.last).any(axis=(0, 1)))
    return _Fitted(batch, prior, parameters, covariance, own, memory, steps, settled, moved)


def _concluded(
    chains: Sequence[Slices],
    settings: JointSettings,
    fitted: _Fitted,
    proofs: Sequence[Certificate],
) -> dict[int, CertifiedFit]:
    """Fits by chain; what failed its proof is blended until it passes, and fitted on from there."""
    batch = fitted.batch
    coupled = is_coupled(chains[batch.chains[0]])
    ends = {
        lane: _End(fitted, Blended(surface, 0.0, proof))
        for lane, (surface, proof) in enumerate(zip(fitted.surfaces, proofs, strict=True))
    }
    failing = [lane for lane, proof in enumerate(proofs) if not proof.arbitrage_free]
    if failing:
        ends |= _mended(settings, fitted, failing, coupled=coupled)
    results = {}
    for lane, (i, expiries) in enumerate(zip(batch.chains, batch.expiries, strict=True)):
        source, done = ends[lane]
        state = state_of(source.moved[lane], source.settled[lane], done.parameters)
        n = len(expiries)
        results[i] = CertifiedFit(
            expiries,
            done.parameters,
            source.covariance[:, :, :n, lane],
            source.own[:n, lane],
            source.memory[:n, lane],
            np.asarray(source.prior.anchor)[:, :n, lane],
            states_of(chains[i], expiries, state),
            int(source.steps[lane]),
            done.amount,
            done.certificate,
        )
    return results


class _End(NamedTuple):
    """A surface with the fit that its numbers come from."""

    source: _Fitted
    done: Blended


def _mended(
    settings: JointSettings, fitted: _Fitted, failing: Sequence[int], *, coupled: bool
) -> Mapping[int, _End]:
    """The lanes that failed their proof: blended, and fitted on from there where that proves."""
    blends = _blends(settings, fitted, failing, coupled=coupled)
    ends = {lane: _End(fitted, blended) for lane, blended in blends.items()}
    starts = {lane: blended.parameters for lane, blended in blends.items() if blended.amount < 1.0}
    if not starts:
        return ends
    again = _fitted_on(settings, fitted, starts)
    proofs = certify_all([again.surfaces[lane] for lane in starts], [coupled] * len(starts))
    for lane, proof in zip(starts, proofs, strict=True):
        if proof.arbitrage_free and again.moved[lane]:
            ends[lane] = _End(again, Blended(again.surfaces[lane], 0.0, proof))
    return ends


def _fitted_on(settings: JointSettings, fitted: _Fitted, starts: Mapping[int, Floats]) -> _Fitted:
    """A batch fitted on, lanes with ``starts`` (5, n) from those."""
    batch, prior = fitted.batch, fitted.prior
    with np.errstate(all="ignore"):
        q = svi.to_chart(fitted.parameters)
    for lane, parameters in starts.items():
        q[:, : parameters.shape[1], lane] = svi.to_chart(parameters)
    at = (q - np.asarray(prior.coordinates)) / np.asarray(prior.spread)
    at = np.where(np.isfinite(at), at, 0.0)
    with jax.enable_x64(True):
        joint = fit_joint(
            JOINT_SVI,
            settings.loss,
            settings.penalty,
            settings.schedule,
            batch.quotes,
            prior,
            at,
        )
    parameters, covariance, own, memory, steps, settled, moved = map(np.asarray, joint)
    steps = fitted.steps + steps
    return _Fitted(batch, prior, parameters, covariance, own, memory, steps, settled, moved)


def svi_prior(
    chains: Sequence[Slices],
    previous: Sequence[Surface | None],
    settings: JointSettings,
    batch: SurfaceBatch,
) -> Prior:
    """What the surfaces of a batch are taken to be before their quotes are seen."""
    quotes = batch.quotes
    memory = settings.memory
    if memory is None or not any(previous[i] is not None for i in batch.chains):
        return anchor_of(settings.loss, settings.coupling, quotes)
    lanes = [
        _padded(remember(previous[i], chains[i], expiries, memory), quotes.years.shape[0])
        for i, expiries in zip(batch.chains, batch.expiries, strict=True)
    ]
    stacked: list[Any] = [beside(parts) for parts in zip(*lanes, strict=True)]
    last = Remembered(*stacked)
    fresh: Any = last.anchor  # where all are known no other is wanted
    if not last.known.all():
        fresh = anchor_of(settings.loss, settings.coupling, quotes).anchor
    prior: Prior = remembered(last, settings.coupling, quotes, fresh)
    return prior


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


def _blends(
    settings: JointSettings, fitted: _Fitted, failing: Sequence[int], *, coupled: bool
) -> Mapping[int, Blended]:
    """Blends of the failing lanes toward the eSSVI surface of the same quotes."""
    if coupled:
        # What the rough anchor was found with is compiled already: no live fit waits for this one.
        with jax.enable_x64(True):
            calm = np.asarray(essvi_parameters(settings.loss, SCHEDULE, fitted.batch.quotes))
    else:
        calm = _essvi(settings.loss, fitted.batch, coupled=False).parameters

    def certify(surface: Floats) -> Certificate:
        return certify_all([surface], [coupled])[0]

    blends = {}
    for lane in failing:
        surface = fitted.surfaces[lane]
        anchor = np.stack(as_svi(EssviSlices(*calm[:, : surface.shape[1], lane])))
        blends[lane] = blend(surface, anchor, certify, svi.to_chart, svi.from_chart)
    return blends


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
    none, size = np.zeros(0, np.int64), parameters
    states = states_of(slices, none, FitState.TOO_FEW_QUOTES)
    return CertifiedFit(
        none, np.zeros((size, 0)), np.zeros((size, size, 0)), np.zeros(0), np.zeros(0),
        np.zeros((3, 0)), states, 0, 0.0, Certificate.not_checked(),
    )  # fmt: skip
