"""Holds: of an expiry that is HELD alone, the last good smile stands in the new surface.

The other expiries are as newly fitted, so that the held smile has to be proved beside them. Where
it stands in the way of a proof it is drawn toward the newest fit, by the least that lets it pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from calib.arbitrage.certificate import Certificate
from calib.arbitrage.essvi import EssviSlices, as_svi
from calib.arbitrage.sabr import certify_sabr_surfaces
from calib.conventions import ExpiryCalendar, Floats, micros_of
from calib.errors import InvalidSurface
from calib.states import ModelName
from calib.surface.hold import Hold
from calib.surface.instants import elapsed_years
from calib.surface.surface import ExpirySlice, Surface
from calib.surface.transport import at_time


@dataclass(frozen=True)
class GoodSmile:
    """A smile as it was published while its expiry was not held, without marks, and the ``hold``
    that says where it is from."""

    smile: ExpirySlice
    hold: Hold

    @classmethod
    def of(cls, surface: Surface, smile: ExpirySlice, key: tuple[str, int]) -> GoodSmile:
        """A smile of a surface that was published under this epoch and revision."""
        time, share = surface.quote_time, 1.0
        if smile.hold is not None:  # held there already
            time, share = smile.hold.quote_time, smile.hold.share
        return cls(replace(smile, hold=None), Hold(time, *key, share))


def apply_holds(surface: Surface, good: Sequence[GoodSmile]) -> Surface:
    """The certified surface with these smiles in place of its own.

    Their vols are held as time passes (`calib.surface.transport.at_time`), and everything else of
    them as it was, forwards included: levels do not move what is held. Where that has no proof the
    held smiles are drawn on a straight line of parameters toward the newest fit, all by one share,
    which their holds name; a smile that the newest fit does not have then stands no more. Their
    covariances stay. Where nothing of them can stand, the surface itself is given back.
    """
    smiles = [_now(surface, one) for one in good if one.smile.expiry > surface.quote_time]
    own = {micros_of(one.expiry) for one in surface.expiries}
    here = [one for one in smiles if micros_of(one.expiry) in own]
    for chosen in (smiles, here):
        proved = _proved(surface, _with(surface, chosen)) if chosen else None
        if proved is not None:
            return proved
    return _drawn(surface, _with(surface, here)) if here else surface


def _now(surface: Surface, good: GoodSmile) -> ExpirySlice:
    """The smile as of the surface's quote time."""
    moment = good.smile.expiry
    own = next((one for one in surface.expiries if one.expiry == moment), None)
    years = elapsed_years(surface.quote_time, moment)
    time = _variance_time(surface, years) if own is None else own.variance_time
    return replace(at_time(surface.model, good.smile, years, time), hold=good.hold)


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


def _proved(surface: Surface, expiries: tuple[ExpirySlice, ...]) -> Surface | None:
    """The surface with these expiries, None where it has no proof."""
    certificate = _certificate(surface, expiries, _parameters(expiries))
    if not certificate.arbitrage_free:
        return None
    try:
        return replace(surface, expiries=expiries, certificate=certificate)
    except InvalidSurface:  # no variance time passes between two expiries
        return None


def _drawn(surface: Surface, held: tuple[ExpirySlice, ...]) -> Surface:
    """The surface with as much of the held smiles as has a proof; both have the same expiries."""
    from calib.fitting.blend import blend  # compiles on first use

    done = blend(
        _parameters(held),
        _parameters(surface.expiries),
        lambda tried: _certificate(surface, held, tried),
        np.asarray,
        np.asarray,
    )
    if done.amount == 1.0:
        return surface
    drawn = (
        _partly(one, column, 1.0 - done.amount) if one.hold else one
        for one, column in zip(held, done.parameters.T.tolist(), strict=True)
    )
    return replace(surface, expiries=tuple(drawn), certificate=done.certificate)


def _partly(one: ExpirySlice, parameters: Sequence[float], share: float) -> ExpirySlice:
    assert one.hold is not None
    hold = replace(one.hold, share=one.hold.share * share)
    return replace(one, parameters=tuple(parameters), hold=hold)


def _parameters(expiries: Sequence[ExpirySlice]) -> Floats:
    return np.array([one.parameters for one in expiries], np.float64).T


def _certificate(
    surface: Surface, expiries: Sequence[ExpirySlice], parameters: Floats
) -> Certificate:
    """What is proved of the surface with these expiries and parameters (P, n)."""
    coupled = surface.calendar is ExpiryCalendar.SAME_ASSET
    if surface.model is ModelName.SABR:
        years, low, high = np.array(
            [(e.years, e.log_moneyness_min, e.log_moneyness_max) for e in expiries]
        ).T
        return certify_sabr_surfaces(parameters, years, low, high, [len(expiries)], coupled)[0]
    from calib.fitting.blend import certify_all  # compiles on first use

    if surface.model is ModelName.ESSVI:
        parameters = np.stack(as_svi(EssviSlices(*parameters)))
    return certify_all([parameters], [coupled])[0]
