"""A self-contained HTML document: one style, pictures inside, nothing loaded from anywhere."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from io import BytesIO
from string import Template
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from calib.report.text_table import TextTable


LONGEST_LINE = 60
"""Letters in a cell of a table; longer texts are folded."""


def document(
    title: str, introduction: str, contents: Sequence[tuple[str, str]], sections: str
) -> str:
    """The page; ``contents``: ids and names of its parts; ``sections`` is HTML, all else text."""
    links = "".join(f'<a href="#{escape(i)}">{escape(name)}</a>' for i, name in contents)
    return _PAGE.substitute(
        title=escape(title), introduction=escape(introduction), contents=links, sections=sections
    )


def picture(figure: Figure, alt: str, *, vector: bool = True) -> str:
    """A figure as an image inside the page, as vectors or as pixels."""
    buffer = BytesIO()
    kind = "svg" if vector else "png"
    figure.savefig(buffer, format=kind, dpi=160, metadata={"Date": None} if vector else None)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    mime = "image/svg+xml" if vector else "image/png"
    return f'<img alt="{escape(alt)}" src="data:{mime};base64,{data}">'


def table(shown: TextTable) -> str:
    """A table that scrolls sideways where the window is narrow."""
    places = range(len(shown.headings))
    kinds = ["".join(' class="l"' if shown.is_left(i) else "") for i in places]
    head = "".join(f"<th{kinds[i]}>{escape(shown.headings[i])}</th>" for i in places)
    body = "".join(
        f"<tr>{''.join(f'<td{_kind(kinds[i], row[i])}>{escape(row[i])}</td>' for i in places)}</tr>"
        for row in shown.rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _kind(kind: str, text: str) -> str:
    """A long text may be folded, and is set to the left in any column."""
    return ' class="long"' if len(text) > LONGEST_LINE else kind


def facts(told: dict[str, str]) -> str:
    """Names with their values, side by side."""
    parts = (f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in told.items())
    return f"<dl>{''.join(parts)}</dl>"


_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light; }
body { margin: 0 auto; padding: 28px 24px 60px; max-width: 1240px; background: #fff; color: #1b2733;
  font: 14px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 24px; margin: 0 0 4px; }
h2 { font-size: 19px; margin: 36px 0 8px; padding-top: 14px; border-top: 1px solid #d9dfe6; }
h3 { font-size: 15px; margin: 30px 0 2px; }
p { max-width: 90ch; margin: 6px 0; }
nav a { margin-right: 14px; color: #1d5f99; text-decoration: none; }
nav a:hover { text-decoration: underline; }
dl { display: flex; flex-wrap: wrap; gap: 4px 26px; margin: 8px 0 12px; }
dt { font-size: 11px; color: #6a7885; } dd { margin: 0; }
.scroll { overflow-x: auto; margin: 12px 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 12px 3px 0; text-align: right; white-space: nowrap; vertical-align: top; }
th { font-weight: 600; font-size: 12px; color: #52606d; border-bottom: 1px solid #b9c3cd; }
td { border-bottom: 1px solid #edf0f3; }
th.l, td.l, td.long { text-align: left; } td.long { white-space: normal; }
.note { font-size: 12.5px; color: #52606d; }
.says { color: #3c4a58; } .bad { color: #8a4b00; }
.level { display: inline-block; padding: 1px 9px; border-radius: 4px; color: #fff;
  font-weight: 600; font-size: 13px; }
.NORMAL { background: #2b7f5e; } .WIDENED { background: #b06a00; }
.HELD { background: #c04a1a; } .HALTED { background: #8f1d1d; } .UNKNOWN { background: #6a7885; }
.verdict { font-size: 15px; margin: 10px 0; }
dl.terms { display: block; } dl.terms dt { font-size: 13px; font-weight: 600; color: #1b2733; }
dl.terms dd { margin: 0 0 8px; max-width: 100ch; }
figure { margin: 16px 0; } img { width: 100%; height: auto; display: block; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 20px; align-items: center; }
.half { max-width: 860px; }
@media (max-width: 800px) { .pair { grid-template-columns: 1fr; } }
</style></head><body>
<h1>$title</h1>
<p>$introduction</p>
<nav>$contents</nav>
$sections
</body></html>
""")
