"""The quotes and the surface that pictures are drawn of."""

import pytest

from calib.report.smiles import QuotedSurface
from tests.report.samples import quoted_of, surface_of


@pytest.fixture(scope="session")
def quoted() -> QuotedSurface:
    return quoted_of(surface_of())
