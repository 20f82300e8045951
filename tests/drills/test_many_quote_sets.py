"""A hundred thousand random quote sets a model: how often fits end how, and how fast."""

from __future__ import annotations

from collections import Counter
from time import perf_counter

import numpy as np
import pytest

from calib.states import ModelName
from tests.fitting.random_markets import SANE
from tests.fitting.verdicts import MODELS, verdicts


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
    print(f"\n{model.name}: {count} quote sets in {seconds:.0f} s, {count / seconds:.0f} a second")
    for (kind, found), number in sorted(tally.items()):
        print(f"  {kind.lower()} {found}: {number} ({200 * number / count:.2f} % of its kind)")
    if amounts:
        quarters = np.quantile(amounts, [0.5, 0.95, 1.0])
        print("  blends, median / 95 % / most: " + " / ".join(f"{x:.3f}" for x in quarters))
    assert not refused, refused[:10]
