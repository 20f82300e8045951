"""From the solver's arrays to values: surfaces, and the reasons of rows that no fit used."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calib.conventions import Floats
from calib.fitting.outcome import Outcome
from calib.fitting.universe import Universe
from calib.market.slices import QuoteKind, Slices
from calib.quotes.reasons import Reason
from calib.states import FitState, ForwardSource, ModelName
from calib.surface.surface import ExpirySlice, SliceDiagnostics, Surface
from calib.surface.validation import named_parameters


def quoted_range(universe: Universe) -> tuple[Floats, Floats]:
    """Least and greatest k of the rows that take part, of every slice; infinite without any."""
    rows = np.flatnonzero((universe.kind != QuoteKind.NONE) & (universe.slice_index >= 0))
    place, k = universe.slice_index[rows], universe.k[rows]
    low = np.full(len(universe.years), np.inf)
    high = -low
    np.minimum.at(low, place, k)
    np.maximum.at(high, place, k)
    return low, high


def surface_of(
    slices: Slices,
    model: ModelName,
    number: int,
    first: int,
    outcome: Outcome,
    diagnostics: tuple[SliceDiagnostics, ...],
    ranges: tuple[Floats, Floats],
    input_hash: str = "",
) -> Surface:
    """The surface of chain ``number``, whose slices begin at ``first``: its usable expiries."""
    count = len(slices.expiry)
    span = slice(first, first + count)
    covariance = np.moveaxis(outcome.covariance[..., span], -1, 0)
    columns = zip(
        slices.expiry,
        slices.years.tolist(),
        slices.variance_time.tolist(),
        slices.forward.tolist(),
        slices.discount_factor.tolist(),
        slices.forward_error.tolist(),
        slices.forward_source.tolist(),
        outcome.parameters[:, span].T.tolist(),
        covariance.reshape(count, len(outcome.parameters) ** 2).tolist(),
        _is_covariance(covariance),
        outcome.anchor[:, span].T.tolist(),
        ranges[0][span].tolist(),
        ranges[1][span].tolist(),
        diagnostics,
        strict=True,
    )
    expiries = tuple(
        ExpirySlice(
            expiry=expiry,
            years=years,
            variance_time=variance_time,
            forward=forward,
            discount_factor=discount,
            parameters=named_parameters(model, parameters),
            log_moneyness_min=k_min,
            log_moneyness_max=k_max,
            forward_error=error,
            forward_source=ForwardSource(source),
            covariance=tuple(spread) if known else (),
            anchor=tuple(anchor) if anchor[0] == anchor[0] else (),
            diagnostics=diagnosis,
        )
        for (
            expiry,
            years,
            variance_time,
            forward,
            discount,
            error,
            source,
            parameters,
            spread,
            known,
            anchor,
            k_min,
            k_max,
            diagnosis,
        ) in columns
        if diagnosis.state.usable
    )
    return Surface(
        underlying=slices.chain.underlying,
        quote_time=slices.chain.quote_time,
        model=model,
        calendar=slices.calendar,
        certificate=outcome.certificates[number],
        expiries=expiries,
        spot=slices.spot,
        input_hash=input_hash,
        blend=outcome.blend[number],
        variance_clock=slices.variance_clock,
    )


def _is_covariance(matrices: Floats) -> list[bool]:
    """Whether each of (n, P, P) is one. Of quotes that contradict each other rounding can leave an
    inverse that is none: the error of such a smile is not known."""
    finite = np.isfinite(matrices).all(axis=(1, 2))
    variances = np.einsum("nii->ni", matrices)
    return list((finite & (variances >= 0.0).all(axis=1)).tolist())


def reasons_after_fit(slices: Slices, states: tuple[FitState, ...]) -> NDArray[np.int8]:
    """The rows' reasons, with usable rows of unfitted expiries told why those were not fitted."""
    of_state = np.array([*(_reason_of(state) for state in states), Reason.USABLE], np.int8)
    unfitted = of_state[slices.slice_index]
    keeps = (slices.reason != Reason.USABLE) | (unfitted == Reason.USABLE)
    return np.where(keeps, slices.reason, unfitted)


def _reason_of(state: FitState) -> Reason:
    match state:
        case FitState.CONVERGED | FitState.STEP_LIMIT:
            return Reason.USABLE
        case FitState.TOO_FEW_QUOTES:
            return Reason.TOO_FEW_QUOTES
        case FitState.NO_FORWARD:
            return Reason.NO_FORWARD
        case FitState.EXPIRED:
            return Reason.EXPIRED
        case FitState.NO_STEP_ACCEPTED | FitState.NON_FINITE | FitState.UNCERTIFIED:
            return Reason.FIT_FAILED
