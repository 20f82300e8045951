"""The notebooks run from the first cell to the last and show what they say."""

import os
import re
from pathlib import Path
from typing import Any

import jupytext
import nbclient
import pytest

import calib

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


@pytest.fixture
def _on_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CALIB_QUOTES_DIR", raising=False)


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("_on_the_sample")
def test_a_surface() -> None:
    cells = executed("2_a_surface.py")
    text = text_of(cells)
    assert "WHOLE_LINE" in text
    assert "w of an expiry is at least 36.8% above that of the one before" in text
    assert "risk_reversal_25_error" in text
    thin = re.search(r"at the money +([\d.]+) +([\d.]+)", text)
    assert thin is not None
    assert 2.0 * float(thin[1]) < float(thin[2])  # fewer quotes, larger errors
    assert pictures_of(cells) == 9
    assert warnings_of(cells) == []


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("_on_the_sample")
def test_models_compared() -> None:
    cells = executed("3_models_compared.py")
    text = text_of(cells)
    assert re.search(r"scope of the proof +WHOLE_LINE +WHOLE_LINE +QUOTED_RANGE", text)
    assert "in standard errors" in text
    rms = re.search(r"rms of model − mid, bp +([\d.]+) +([\d.]+) +([\d.]+)", text)
    assert rms is not None
    svi, essvi, sabr = map(float, rms.groups())
    assert svi < min(essvi, sabr)
    assert pictures_of(cells) == 5
    assert warnings_of(cells) == []


@pytest.mark.timeout(300)
def test_a_live_session() -> None:
    cells = executed("4_a_live_session.py")
    text = text_of(cells)
    assert "listening on 127.0.0.1:" in text
    assert "5,120 rows accepted, 0 rejected" in text
    assert re.search(r"LIVE +NORMAL", text)
    assert re.search(r"LIVE +HELD", text)  # the vols of one underlying have jumped
    assert "the server ended with 0" in text
    assert pictures_of(cells) == 3
    assert warnings_of(cells) == []


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("_on_the_sample")
def test_a_month_of_history() -> None:
    cells = executed("5_a_month_of_history.py")
    text = text_of(cells)
    assert re.search(r"BTC +31 +0 +31 +31 +0", text)
    assert "31 surfaces, all free of arbitrage: True" in text
    assert "level jumped" in text
    assert "vol-jump" in text
    assert pictures_of(cells) == 4
    assert warnings_of(cells) == []


@pytest.mark.timeout(300)
def test_your_own_data() -> None:
    cells = executed("6_your_own_data.py")
    text = text_of(cells)
    for reason in ("CROSSED", "BAD_PRICE", "DUPLICATE", "BAD_EXPIRY", "BAD_RIGHT"):
        assert re.search(rf"\b{reason}\b", text), reason
    assert "column 'unit' is missing" in text
    assert "column 'strike', row 0: 'about 5000' is not a number" in text
    assert pictures_of(cells) == 1
    assert warnings_of(cells) == []


def test_a_csv_file_is_fitted_in_five_lines_of_code() -> None:
    text = (NOTEBOOKS / "6_your_own_data.py").read_text("utf-8")
    section = text.partition("# ## Five lines\n")[2]
    cell = section.partition("# %%\n")[2].partition("\n# %%")[0]
    assert len(cell.strip().splitlines()) <= 5
    assert "pd.read_csv" in cell
    assert "calib.plot.smiles(fit)" in cell


@pytest.mark.real_data
@pytest.mark.timeout(300)
@pytest.mark.skipif("CALIB_QUOTES_DIR" not in os.environ, reason="CALIB_QUOTES_DIR is not set")
@pytest.mark.parametrize(
    ("name", "pictures"),
    [
        ("1_fit_one_smile.py", 5),
        pytest.param("2_a_surface.py", 9, marks=pytest.mark.drill),
        pytest.param("3_models_compared.py", 5, marks=pytest.mark.drill),
    ],
)
def test_notebooks_on_a_real_table(name: str, pictures: int) -> None:
    cells = executed(name)
    assert pictures_of(cells) == pictures
    assert warnings_of(cells) == []


@pytest.mark.drill
@pytest.mark.real_data
@pytest.mark.timeout(600)
@pytest.mark.skipif("CALIB_QUOTES_DIR" not in os.environ, reason="CALIB_QUOTES_DIR is not set")
def test_a_month_of_history_on_a_real_month() -> None:
    cells = executed("5_a_month_of_history.py")
    assert pictures_of(cells) == 4
    assert warnings_of(cells) == []


def test_notebooks_use_the_public_names_only() -> None:
    found = sorted(NOTEBOOKS.glob("*.py"))
    assert len(found) == 6
    for path in found:
        text = path.read_text("utf-8")
        assert "import calib\n" in text, path
        assert "from calib" not in text, path
        assert "import calib." not in text, path
        for name in re.findall(r"\bcalib\.([A-Za-z_]+)\b", "".join(code_of(text))):
            assert name in {*calib.__all__, "db"}, (path, name)


def code_of(text: str) -> list[str]:
    """The lines of a notebook that are no comments."""
    return [line + "\n" for line in text.splitlines() if not line.startswith("#")]
