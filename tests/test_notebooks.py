"""The notebooks run from the first cell to the last and show what they say."""

import os
from pathlib import Path
from typing import Any

import jupytext
import nbclient
import pytest

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def executed(name: str) -> list[Any]:
    """The code cells of a notebook after it ran in a kernel of its own."""
    notebook = jupytext.read(NOTEBOOKS / name)
    client = nbclient.NotebookClient(
        notebook, timeout=280, resources={"metadata": {"path": str(NOTEBOOKS)}}
    )
    return [cell for cell in client.execute().cells if cell.cell_type == "code"]


def text_of(cells: list[Any]) -> str:
    outputs = [output for cell in cells for output in cell.outputs]
    return "\n".join(o.get("text") or o.get("data", {}).get("text/plain", "") for o in outputs)


def pictures_of(cells: list[Any]) -> int:
    return sum("image/png" in o.get("data", {}) for cell in cells for o in cell.outputs)


def warnings_of(cells: list[Any]) -> list[str]:
    return [o["text"] for cell in cells for o in cell.outputs if o.get("name") == "stderr"]


@pytest.mark.timeout(300)
def test_fit_one_smile_on_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CALIB_QUOTES_DIR", raising=False)
    cells = executed("1_fit_one_smile.py")
    text = text_of(cells)
    assert "2,592 rows of BTC, ETH, SPX" in text
    assert "288 quotes of BTC at 2026-01-05T09:30:00" in text
    assert "CONVERGED" in text
    assert "in_spread_share" in text
    assert "IN_THE_MONEY    144" in text
    assert pictures_of(cells) == 5
    assert warnings_of(cells) == []


@pytest.mark.real_data
@pytest.mark.timeout(300)
@pytest.mark.skipif("CALIB_QUOTES_DIR" not in os.environ, reason="CALIB_QUOTES_DIR is not set")
def test_fit_one_smile_on_a_real_table() -> None:
    cells = executed("1_fit_one_smile.py")
    assert pictures_of(cells) == 5
    assert warnings_of(cells) == []


def test_notebooks_use_the_public_names_only() -> None:
    for path in NOTEBOOKS.glob("*.py"):
        text = path.read_text("utf-8")
        assert "import calib\n" in text, path
        assert "from calib" not in text, path
        assert "import calib." not in text, path
