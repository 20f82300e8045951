"""`calib report`: one page from a store that a real run has filled, readable without help."""

from __future__ import annotations

import base64
from pathlib import Path
from xml.etree import ElementTree

import pytest

from calib.report.risk_page import SECTIONS
from calib.store import open_store
from tests.cli.backtest_run import CLIMBING, HOURS, Run, command
from tests.cli.samples import CommandLine
from tests.report.test_page import Reader

PICTURES = 6


@pytest.fixture(scope="module")
def stored(climbing: Run) -> Reader:
    assert climbing.ended.code == 0
    page = climbing.folder / "report.html"
    ended = command("report", "--store", climbing.store, "--out", page)
    assert ended.code == 0
    assert ended.err == ""
    return Reader(page.read_text("utf-8"))


@pytest.fixture(scope="module")
def direct(climbing: Run) -> Reader:
    return Reader(climbing.page.read_text("utf-8"))


def test_nothing_is_loaded_from_elsewhere(stored: Reader) -> None:
    links = [value for _, attrs in stored.tags for k, value in attrs.items() if k in _LOADING]
    assert links
    assert all(value and value.startswith(("data:", "#")) for value in links)
    assert not {tag for tag, _ in stored.tags} & {"script", "link", "iframe", "object", "embed"}


_LOADING = ("src", "href", "srcset", "poster", "action", "background")


def test_places_that_are_linked_are_there(stored: Reader) -> None:
    ids = {attrs["id"] for _, attrs in stored.tags if "id" in attrs}
    linked = {str(attrs["href"])[1:] for tag, attrs in stored.tags if tag == "a"}
    assert len(linked) == 1 + 1 + len(SECTIONS)
    assert linked <= ids


def test_every_section_says_what_it_shows_and_what_would_be_bad(stored: Reader) -> None:
    for section in SECTIONS:
        assert f"{section.shows} Bad: {section.bad}" in stored.text
        assert section.nothing not in stored.text  # the run left something to show in each


def test_every_picture_is_drawn(stored: Reader) -> None:
    pictures = [attrs for tag, attrs in stored.tags if tag == "img"]
    assert len(pictures) == PICTURES
    for attrs in pictures:
        assert attrs["alt"]
        head, _, data = str(attrs["src"]).partition(",")
        assert head == "data:image/svg+xml;base64"
        root = ElementTree.fromstring(base64.b64decode(data))
        paths = [one for one in root.iter() if one.tag.endswith(("path", "use", "image"))]
        assert len(paths) > 50


def test_names_are_text_never_markup(stored: Reader) -> None:
    assert f"{CLIMBING} SVI" in stored.text
    assert "b" not in {tag for tag, _ in stored.tags}


def test_the_headline_is_the_stored_state(stored: Reader, climbing: Run) -> None:
    (level,) = [
        str(attrs["class"]).split()[-1]
        for tag, attrs in stored.tags
        if tag == "span" and "level" in str(attrs.get("class")).split()
    ]
    assert level == "WIDENED"
    with open_store(str(climbing.store)) as store:
        metrics = store.metrics(CLIMBING)
    last = metrics[metrics["quote_time"] == metrics["quote_time"].max()]
    assert set(last["trust_level"].dropna()) == {"WIDENED"}
    assert "Of 2 expiries, 2 WIDENED." in stored.text
    assert f"All {HOURS} chains gave a surface." in stored.text


def test_the_page_of_a_backtest_is_that_of_its_store(direct: Reader, stored: Reader) -> None:
    assert direct.rows == stored.rows
    assert len(direct.rows) > 25


def test_bounds_choose_what_is_told(climbing: Run, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    ended = command(
        "report", "--store", climbing.store, "--out", page, "--end", "2026-03-02T11:00:00Z"
    )
    assert ended.code == 0
    reader = Reader(page.read_text("utf-8"))
    assert "All 3 chains gave a surface." in reader.text
    assert "No comparison of models is stored" in reader.text


def test_a_store_without_what_was_asked_is_bad_input(
    calib_command: CommandLine, climbing: Run, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    for asked in (("--underlying", "XXX"), ("--start", "2030-01-01")):
        ended = calib_command("report", "--store", climbing.store, "--out", page, *asked)
        assert ended.code == 2
        assert "holds nothing that was asked for" in ended.err
    assert not page.exists()
