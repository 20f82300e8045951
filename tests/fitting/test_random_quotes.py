"""Random quotes, hostile ones among them: certified and clean, or refused by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from time import perf_counter

import numpy as np
import pytest

from calib.arbitrage.certificate import CertificateScope
from calib.fitting.fit import fit_stream
from calib.fitting.fit_value import Fit
from calib.fitting.settings import FitSettings
from calib.states import FitState, ModelName
from tests.arbitrage.dense import essvi_as_raw, glance, look
from tests.fitting.random_markets import SANE, random_chains

MODELS = (ModelName.SVI, ModelName.ESSVI)
NAMED = {
    FitState.TOO_FEW_QUOTES,
    FitState.UNCERTIFIED,
    FitState.NO_STEP_ACCEPTED,
    FitState.NON_FINITE,
}


def verdict(fit: Fit, *, closely: bool = False) -> str:
    """ "certified", "blended", or the name it was refused by; what is neither is an error."""
    surface = fit.surface
    where = f"{surface.underlying} {surface.model.name}"
    if not surface.expiries:
        assert set(fit.states) <= NAMED, (where, fit.states)
        failed = surface.certificate.scope == CertificateScope.FAILED
        assert failed or surface.certificate.scope == CertificateScope.NOT_CHECKED, where
        assert failed or FitState.UNCERTIFIED not in fit.states, where
        assert bool(surface.certificate.detail) == failed, where
        return max(fit.states).name
    assert surface.certificate.scope == CertificateScope.WHOLE_LINE, where
    assert surface.certificate.arbitrage_free, where
    parameters = np.array([one.parameters for one in surface.expiries])
    if surface.model is ModelName.ESSVI:
        parameters = essvi_as_raw(parameters)
    assert glance(parameters) > 0.0, where
    if closely:
        assert min(look(parameters, steps=8)) > 0.0, where
    fitted = np.isin(fit.slices.slice_index, np.flatnonzero([s.usable for s in fit.states]))
    assert np.isfinite(fit.model_vol[fitted]).all(), where
    return "blended" if surface.blend > 0.0 else "certified"


def verdicts(
    model: ModelName, seed: int, count: int, *, every: int
) -> Iterator[tuple[str, str, float]]:
    """Of each of so many chains: its name, the verdict and the blend; every so many-th closely."""
    number = 0
    for fits in fit_stream(random_chains(seed, count), FitSettings(model=model), group=64):
        for fit in fits:
            found = verdict(fit, closely=number % every == 0)
            number += 1
            yield fit.surface.underlying, found, fit.surface.blend
    assert number == count


@pytest.mark.parametrize("model", MODELS)
def test_random_quotes_are_certified_or_refused_by_name(model: ModelName) -> None:
    for name, found, _ in verdicts(model, 1, 200, every=20):
        assert not name.startswith(SANE) or found in ("certified", "blended"), (name, found)


@pytest.mark.drill
@pytest.mark.parametrize("model", MODELS)
def test_a_hundred_thousand_random_quote_sets(model: ModelName) -> None:
    count, seed = 100_000, 20_260
    started = perf_counter()
    tally: Counter[tuple[str, str]] = Counter()
    amounts, refused = [], []
    for name, found, amount in verdicts(model, seed, count, every=100):
        kind = name.rstrip("0123456789")
        tally[kind, found] += 1
        if amount > 0.0:
            amounts.append(amount)
        if kind == SANE and found not in ("certified", "blended"):
            refused.append(name)
    seconds = perf_counter() - started
    print(f"\n{model.name}: {count} quote sets in {seconds:.0f} s, {count / seconds:.0f} a second")  # noqa: T201 - a drill prints its rates
    for (kind, found), number in sorted(tally.items()):
        print(f"  {kind.lower()} {found}: {number} ({200 * number / count:.2f} % of its kind)")  # noqa: T201 - a drill prints its rates
    if amounts:
        quarters = np.quantile(amounts, [0.5, 0.95, 1.0])
        print("  blends, median / 95 % / most: " + " / ".join(f"{x:.3f}" for x in quarters))  # noqa: T201 - a drill prints its rates
    assert not refused, refused[:10]
