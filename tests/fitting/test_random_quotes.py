"""Random quotes, hostile ones among them: certified and clean, or refused by name."""

from __future__ import annotations

import pytest

from calib.states import ModelName
from tests.fitting.random_markets import SANE
from tests.fitting.verdicts import MODELS, verdicts


@pytest.mark.parametrize("model", MODELS)
def test_random_quotes_are_certified_or_refused_by_name(model: ModelName) -> None:
    for name, found, _ in verdicts(model, 1, 200, every=20):
        assert not name.startswith(SANE) or found in ("certified", "blended"), (name, found)
