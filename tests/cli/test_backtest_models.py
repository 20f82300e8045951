"""Every model can be replayed, kept and told."""

from pathlib import Path

import pytest

from calib.store import open_store
from calib.store.assessments import Subject, of_subject
from tests.cli.samples import CommandLine, quotes, written


@pytest.mark.parametrize("model", ["essvi", "sabr"])
def test_a_model_is_compared_with_the_others(
    calib_command: CommandLine, tmp_path: Path, model: str
) -> None:
    url = tmp_path / "calib.db"
    ended = calib_command(
        "backtest", written(tmp_path, quotes(times=2)), "--model", model, "--store", url
    )
    assert ended.code == 0
    assert f"AAA {model.upper()}: errors" in ended.out
    with open_store(str(url)) as store:
        found = of_subject(store.metrics(), Subject.COMPARISON)
    assert len(found) == 2
    assert {"vol_ATM_svi", "vol_ATM_essvi", "vol_ATM_sabr"} <= set(found.columns)
    assert (found["model"] == model.upper()).all()
