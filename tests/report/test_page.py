"""The page stands alone, names every expiry, and is safe whatever the underlying is called."""

from html.parser import HTMLParser

import numpy as np
import pytest

from calib.report.page import page_html
from calib.report.smiles import QuotedSurface
from tests.report.samples import DAYS, NOW, UNFITTED_DAYS, quoted_of, surface_of


class Reader(HTMLParser):
    """Collects tags with their attributes, and the text of table cells by row."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()


@pytest.fixture(scope="module")
def page(quoted: QuotedSurface) -> Reader:
    return Reader(page_html("Smiles", [quoted], "Two words."))


def test_nothing_is_loaded_from_elsewhere(page: Reader) -> None:
    links = [
        value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href")
    ]
    assert links
    assert all(value and value.startswith(("data:", "#")) for value in links)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe"}


def test_every_expiry_has_a_row_with_its_numbers(page: Reader, quoted: QuotedSurface) -> None:
    _, *rows = page.rows
    assert len(rows) == len(DAYS) + 1
    dates = [str(NOW + np.timedelta64(days, "D"))[:10] for days in sorted((*DAYS, UNFITTED_DAYS))]
    assert [row[0][:10] for row in rows] == dates
    month = rows[1]
    vol = quoted.surface.implied_vol(100.0, NOW + np.timedelta64(30, "D"))
    assert month[4] == f"{100 * vol:.2f}%"
    assert rows[2][-1] == "not fitted"


def test_unused_rows_are_counted_by_reason(page: Reader) -> None:
    assert "4 × the bid stands above the ask" in page.text
    assert "10 × the fit of the expiry failed" in page.text


def test_each_picture_says_what_it_shows(page: Reader) -> None:
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == 4
    assert all(attrs["alt"] for attrs in pictures)


def test_several_surfaces_have_a_table_of_contents_that_leads_to_them() -> None:
    both = [quoted_of(surface_of(name=name)) for name in ("AAA", "BBB")]
    page = Reader(page_html("Smiles", both))
    targets = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    places = ["#" + str(attrs["id"]) for tag, attrs in page.tags if tag == "section"]
    assert targets == places
    assert len(places) == 2


def test_names_are_text_never_markup() -> None:
    html = page_html("<b>title", [quoted_of(surface_of(name="<script>x</script>"))], "<i>")
    assert not {tag for tag, _ in Reader(html).tags} & {"script", "b", "i"}
