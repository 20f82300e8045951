"""Holds: of an expiry that is HELD alone, the last good smile stands in the new surface.

The other expiries are as newly fitted, so that the held smile has to be proved beside them. Where
it stands in the way of a proof it is drawn toward the newest fit, by the least that lets it pass.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from calib.conventions import Floats, micros_of
from calib.errors import InvalidSurface
from calib.surface.hold import Hold
from calib.surface.instants import elapsed_years
from calib.surface.surface import ExpirySlice, Surface
from calib.surface.transport import at_time

_LEAST_SHARE = 0.25
"""Of a good smile, or what stands is the newest fit, and is called so."""


@dataclass(frozen=True)
class GoodSmile:
    """A smile as it was published while its expiry was not held, without marks, and the ``hold``
    that says where it is from. ``forwards``: those of the same surface, by the microseconds of
    their expiries, that the smile's own is carried along with."""

    smile: ExpirySlice
    hold: Hold
    forwards: Mapping[int, float]


def good_smiles(
    surface: Surface, key: tuple[str, int], without: Collection[int] = ()
) -> dict[int, GoodSmile]:
    """Those of a surface that was published under this epoch and revision, by the microseconds of
    their expiries; what of it is held counts as far as it stands."""
    forwards = {micros_of(e.expiry): e.forward for e in surface.expiries if e.hold is None}
    found = {}
    for one in surface.expiries:
        from_there = Hold(surface.quote_time, *key, 1.0)
        if one.hold is not None:
            from_there = replace(from_there, quote_time=one.hold.quote_time, share=one.hold.share)
        if from_there.share and micros_of(one.expiry) not in without:
            smile = replace(one, hold=None)
            found[micros_of(one.expiry)] = GoodSmile(smile, from_there, forwards)
    return found


def apply_holds(surface: Surface, held: Mapping[int, GoodSmile | None]) -> Surface:
    """The certified surface with the last good smiles of its ``held`` expiries, by their
    microseconds; None where there is none.

    Their vols are held as time passes (`calib.surface.transport.at_time`), and their forwards go
    along with those of the expiries that are not held. Where that has no proof the held smiles are
    drawn toward the newest fit, all by one share, which their holds name: parameters on a straight
    line, forwards on one of logarithms. A smile that the newest fit does not have then stands no
    more. Covariances stay. What stands as newly fitted all the same says so by a share of 0.
    """
    if not held:
        return surface
    smiles = [
        _now(surface, good, held)
        for good in held.values()
        if good is not None and good.smile.expiry > surface.quote_time
    ]
    own = {micros_of(one.expiry) for one in surface.expiries}
    here = [one for one in smiles if micros_of(one.expiry) in own]
    standing = _proved(surface, smiles)
    if standing is None and len(here) < len(smiles):
        standing = _proved(surface, here)
    if standing is None:  # so that some are here
        standing = _drawn(surface, here)
    expiries = (
        replace(one, hold=Hold()) if one.hold is None and micros_of(one.expiry) in held else one
        for one in standing.expiries
    )
    return replace(standing, expiries=tuple(expiries))


def _now(surface: Surface, good: GoodSmile, held: Collection[int]) -> ExpirySlice:
    """The smile as of the surface's quote time and forwards."""
    smile, moment = good.smile, micros_of(good.smile.expiry)
    own = next((one for one in surface.expiries if micros_of(one.expiry) == moment), None)
    years = elapsed_years(surface.quote_time, smile.expiry)
    time = _variance_time(surface, years) if own is None else own.variance_time
    moves = [
        one.forward / good.forwards[micros_of(one.expiry)]
        for one in surface.expiries
        if micros_of(one.expiry) in good.forwards and micros_of(one.expiry) not in held
    ]
    factor = median(moves) if moves else 1.0
    return replace(
        at_time(surface.model, smile, years, time),
        forward=smile.forward * factor,
        forward_error=smile.forward_error * factor,
        hold=good.hold,
    )


def _variance_time(surface: Surface, years: float) -> float:
    """That of an expiry which the surface does not have, by the knots of its clock, which reach
    beyond its own expiries."""
    if not surface.variance_clock:
        return years
    points = [*surface.variance_clock, *((e.years, e.variance_time) for e in surface.expiries)]
    at, time = np.array([(0.0, 0.0), *sorted(points)]).T
    return float(np.interp(years, at, time)) + max(years - float(at[-1]), 0.0)


def _with(surface: Surface, smiles: Sequence[ExpirySlice]) -> tuple[ExpirySlice, ...]:
    """The expiries of the surface with these smiles added, or in place of its own."""
    every = {micros_of(one.expiry): one for one in (*surface.expiries, *smiles)}
    return tuple(every[moment] for moment in sorted(every))


def _proved(surface: Surface, smiles: Sequence[ExpirySlice]) -> Surface | None:
    """The surface with these smiles, None where it has no proof."""
    if not smiles:
        return surface
    from calib.fitting.proof import proof_of  # compiles on first use

    expiries = _with(surface, smiles)
    certificate = proof_of(surface, expiries, _parameters(expiries))
    if not certificate.arbitrage_free:
        return None
    try:
        return replace(surface, expiries=expiries, certificate=certificate)
    except InvalidSurface:  # no variance time passes between two expiries
        return None


def _drawn(surface: Surface, smiles: Sequence[ExpirySlice]) -> Surface:
    """The surface with as much of these smiles, which stand in for its own, as has a proof."""
    from calib.fitting.blend import blend  # compile on first use
    from calib.fitting.proof import proof_of

    wanted = _with(surface, smiles)
    fitted = _parameters(surface.expiries)
    held = np.array([one.hold is not None for one in wanted])

    def only_held(drawn: Floats) -> Floats:
        return np.where(held, drawn, fitted)

    done = blend(
        _parameters(wanted),
        fitted,
        lambda tried: proof_of(surface, wanted, tried),
        np.asarray,
        only_held,
    )
    share = 1.0 - done.amount
    if share * min(one.hold.share for one in smiles if one.hold) < _LEAST_SHARE:
        return surface
    drawn = (
        _partly(one, own, column, share)
        for one, own, column in zip(
            wanted, surface.expiries, done.parameters.T.tolist(), strict=True
        )
    )
    return replace(surface, expiries=tuple(drawn), certificate=done.certificate)


def _partly(
    one: ExpirySlice, own: ExpirySlice, parameters: Sequence[float], share: float
) -> ExpirySlice:
    if one.hold is None:
        return own
    return replace(
        one,
        parameters=tuple(parameters),
        forward=one.forward**share * own.forward ** (1.0 - share),
        hold=replace(one.hold, share=share * one.hold.share),
    )


def _parameters(expiries: Sequence[ExpirySlice]) -> Floats:
    return np.array([one.parameters for one in expiries], np.float64).T
