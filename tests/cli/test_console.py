"""Tables fit the terminal: what matters least goes first, and nothing is cut in the middle."""

from io import StringIO

import pytest
from rich.console import Console

from calib.cli.console import Column, print_table

COLUMNS = (
    Column("name", left=True),
    Column("detail", rank=2),
    Column("value"),
    Column("x", rank=1),
)
ROWS = [["alpha", "d" * 20, "1.25", "yes"], ["b", "", "-3", "no"]]


def printed(width: int) -> str:
    console = Console(file=StringIO(), width=width)
    print_table(console, COLUMNS, ROWS)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("width", "names"), [(80, "name detail value x"), (40, "name value x"), (20, "name value")]
)
def test_columns_leave_by_rank(width: int, names: str) -> None:
    text = printed(width)
    assert text.split("\n")[1].split() == names.split()
    assert "…" not in text
    assert "alpha" in text
    assert "1.25" in text


def test_markup_in_cells_is_text() -> None:
    console = Console(file=StringIO(), width=80)
    print_table(console, (Column("name"),), [["[red]x[/red]"]])
    assert isinstance(console.file, StringIO)
    assert "[red]x[/red]" in console.file.getvalue()
