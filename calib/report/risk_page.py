"""The model-risk report: one HTML page that a risk manager reads without help.

Every section says in a sentence what it shows and what would be bad. Nothing is loaded from
anywhere, so the page can be mailed and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from calib.report import plot, risk_plots, tables
from calib.report.definitions import DEFINITIONS
from calib.report.document import document, facts, picture, table
from calib.report.headline import headline
from calib.report.page import MOST_DRAWN_AS_VECTORS
from calib.report.summaries import column

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from calib.report.history import History
    from calib.report.text_table import TextTable

MOST_ALARMS = 25


@dataclass(frozen=True)
class Section:
    """A part of the page: what it ``shows``, what would be ``bad``, and its content as HTML, which
    is empty where there is nothing; then ``nothing`` says so."""

    title: str
    shows: str
    bad: str
    content: Callable[[History], str]
    nothing: str


def risk_html(title: str, histories: Sequence[History], introduction: str = "") -> str:
    """The page as text; ``introduction`` is plain text under the title."""
    names = [f"{one.underlying} {one.model.name}" for one in histories]
    contents = [(f"u{i}", name) for i, name in enumerate(names)]
    return document(
        title,
        introduction or _INTRODUCTION,
        [*contents, ("definitions", "Definitions")],
        "".join(_underlying(f"u{i}", one) for i, one in enumerate(histories)) + _definitions(),
    )


_INTRODUCTION = (
    "How far the surfaces of each underlying could be trusted: what holds now, how the quotes were "
    "met, how the next quotes were foreseen, what signalled, and what models leave open. Times are "
    "UTC; errors are basis points of implied vol unless said otherwise."
)


def _underlying(name: str, history: History) -> str:
    head = headline(history)
    parts = "".join(_section(f"{name}-{i}", each, history) for i, each in enumerate(SECTIONS))
    links = " ".join(
        f'<a href="#{name}-{i}">{escape(each.title)}</a>' for i, each in enumerate(SECTIONS)
    )
    verdict = "".join(f"<br>{escape(sentence)}" for sentence in head.verdict[1:])
    return (
        f'<section id="{name}"><h2>{escape(history.underlying)} {history.model.name}</h2>'
        f'<p class="verdict"><span class="level {head.level}">{head.level}</span> '
        f"{escape(head.verdict[0])}{verdict}</p>"
        f"{facts(head.facts)}<nav>{links}</nav>{parts}</section>"
    )


def _section(name: str, section: Section, history: History) -> str:
    content = section.content(history)
    if not content:
        content = f'<p class="note">{escape(section.nothing)}</p>'
    return (
        f'<h3 id="{name}">{escape(section.title)}</h3>'
        f'<p class="says">{escape(section.shows)} '
        f'<span class="bad">Bad: {escape(section.bad)}</span></p>{content}'
    )


def _definitions() -> str:
    terms = "".join(
        f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in DEFINITIONS.items()
    )
    return f'<section id="definitions"><h2>Definitions</h2><dl class="terms">{terms}</dl></section>'


def _tabled(make: Callable[[History], TextTable]) -> Callable[[History], str]:
    def content(history: History) -> str:
        shown = make(history)
        return table(shown) if shown.rows else ""

    return content


def _smiles(history: History) -> str:
    quoted = None if history.last is None else history.last.quoted
    if quoted is None:
        return ""
    vector = len(quoted.reason) <= MOST_DRAWN_AS_VECTORS
    return (
        f"<figure>{picture(plot.smiles(quoted), 'Smiles against quotes', vector=vector)}</figure>"
    )


def _drawn(figure: Figure, alt: str) -> str:
    return f"<figure>{picture(figure, alt)}</figure>"


def _course(history: History) -> str:
    if not len(history.expiries):
        return ""
    return _drawn(risk_plots.market_course(history), "Forward and vols at the money over time")


def _residuals(history: History) -> str:
    if column(history.expiries, "bias_ATM").isna().all():
        return ""
    return _drawn(risk_plots.residual_map(history), "Residuals by tenor and delta")


def _charts(history: History) -> str:
    if not len(history.charts):
        return ""
    found = _drawn(risk_plots.control_charts(history), "Control charts")
    found += table(tables.week_table(history))
    return found + _tabled(lambda one: tables.alarm_table(one, MOST_ALARMS))(history)


def _breakers(history: History) -> str:
    if not len(history.surfaces):
        return ""
    found = _drawn(risk_plots.breaker_timeline(history), "Breaker levels over time")
    return found + table(tables.trip_table(history))


def _models(history: History) -> str:
    if len(risk_plots.models_compared(history.comparisons)) < 2:
        return ""
    return _drawn(risk_plots.disagreement_map(history), "Range of vols between models")


def _out_of_sample(history: History) -> str:
    shown = tables.error_table(history)
    if not shown.rows:
        return ""
    return table(shown) + table(tables.coverage_table(history))


SECTIONS = (
    Section(
        "State by expiry",
        "How far each expiry of the last chain may be trusted, and why not further.",
        "any level but NORMAL, a multiplier above 1, or a share inside bid–ask far below the "
        "others'.",
        _tabled(tables.expiry_table),
        "No metrics by expiry are stored.",
    ),
    Section(
        "Smiles against bid and ask",
        "The last surface through the quotes that it was fitted to: sticks run from bid to ask, "
        "the band is one standard error.",
        "a line that passes the sticks on one side along several strikes, or a band that is wide "
        "where there are quotes.",
        _smiles,
        "The quotes of the last surface were not kept, so there is nothing to draw it against.",
    ),
    Section(
        "The market, and how it was met",
        "What the forward and the vols at the money did, and the share of quotes that each "
        "chain's fit lay inside of, with the alarms.",
        "alarms where nothing moved (a false alarm, or bad data), moves without any, and a share "
        "that falls and stays low: the fit no longer follows the quotes.",
        _course,
        "No metrics by expiry are stored.",
    ),
    Section(
        "Residuals by delta and tenor",
        "Where on the surface the model lies above (red) or below (blue) the mids on average, in "
        "half-spreads.",
        "a cell beyond ±1: the model is outside bid–ask there on average; or a pattern that lasts, "
        "which noise does not make: the shape is wrong.",
        _residuals,
        "No residuals are stored.",
    ),
    Section(
        "Errors and coverage out of sample",
        "How well quotes were met by the fit that saw them and by the surface before, which did "
        "not; and how often the next quotes lay within the error bars.",
        "one-step errors that far exceed in-sample ones in long tenors; coverage with the market's "
        "move well below 68.3 % and 95.5 %, or a standard deviation above 1: the error bars are "
        "too small. Bars alone take the market to stand still and have to fall short.",
        _out_of_sample,
        "No forecasts are stored.",
    ),
    Section(
        "Control charts and alarms",
        "Whether level or skew keeps coming in on one side of what was foreseen, by tenor, and "
        "what the market did when a chart signalled.",
        "more alarms in quiet weeks than by design, or one tenor signalling alone again and again.",
        _charts,
        "No charts are stored.",
    ),
    Section(
        "Circuit breakers",
        "When each expiry was quoted with wider error bars, held or halted, and what tripped it.",
        "red at the right edge, which is now, or an expiry that never comes back.",
        _breakers,
        "No breaker states are stored.",
    ),
    Section(
        "Where models disagree",
        "How far SVI, eSSVI and SABR lie apart on the same quotes, in vol and against what the "
        "quotes leave open.",
        "more than 5 on the right where you hold a position: the choice of model, not the market, "
        "makes the price.",
        _models,
        "No comparison of models is stored; with quotes kept, `calib report --compare` makes one.",
    ),
    Section(
        "Prudent valuation",
        "How far each vol must be stressed for 90 % confidence: for market price and fit "
        "(price ±) and for the choice of model (model ±), bp of vol; the lines are not to be "
        "mixed.",
        "either line beyond your reserves, or a model line larger than the price line near the "
        "money.",
        _tabled(tables.prudence_table),
        "No comparison of models is stored; with quotes kept, `calib report --compare` makes one.",
    ),
    Section(
        "Sources of error",
        "What explains trouble, by rules of one number against one limit, with the strongest "
        "evidence of each.",
        "numerics or shape high in the list: those are ours to mend; data and regime are the "
        "market's.",
        _tabled(tables.cause_table),
        "Nothing was found.",
    ),
)
"""In the order of the page."""
