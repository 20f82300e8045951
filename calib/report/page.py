"""One self-contained HTML page over fitted surfaces: tables, smiles, total variance, the surface.

Pictures are inside the page and nothing is loaded from anywhere, so it can be mailed and kept.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from io import BytesIO
from string import Template
from typing import TYPE_CHECKING

import numpy as np

from calib.conventions import iso
from calib.quotes.reasons import Reason
from calib.report import plot
from calib.report.smiles import Quoted, Smile, smiles_of
from calib.report.style import date_text, percent_text, price_text, tenor_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A chain of more rows is drawn as pixels: as vectors its page would take tens of megabytes.
MOST_DRAWN_AS_VECTORS = 3_000


def page_html(title: str, quoted: Sequence[Quoted], introduction: str = "") -> str:
    """The page as text; ``introduction`` is plain text under the title."""
    contents = "".join(
        f'<a href="#s{i}">{escape(_name(each))}</a>' for i, each in enumerate(quoted)
    )
    return _PAGE.substitute(
        title=escape(title),
        introduction=escape(introduction),
        contents=contents if len(quoted) > 1 else "",
        sections="".join(_section(i, each) for i, each in enumerate(quoted)),
    )


def _section(index: int, quoted: Quoted) -> str:
    surface, views = quoted.surface, smiles_of(quoted)
    certificate = surface.certificate
    proof = "free of static arbitrage" if certificate.arbitrage_free else "not proved"
    facts = {
        "quote time": iso(surface.quote_time),
        "model": surface.model.name,
        "expiries": f"{len(surface.expiries)} fitted of {len(views)}",
        "spot": "–" if surface.spot is None else price_text(surface.spot),
        "calendar": surface.calendar.name.lower().replace("_", " "),
        "arbitrage": f"{proof} (scope: {certificate.scope.name.lower().replace('_', ' ')})",
    }
    if surface.revision:
        facts["revision"] = str(surface.revision)
    return _SECTION.substitute(
        id=f"s{index}",
        name=escape(surface.underlying),
        facts="".join(f"<div><dt>{k}</dt><dd>{escape(v)}</dd></div>" for k, v in facts.items()),
        rows="".join(_row(view) for view in views),
        unused=_unused(quoted),
        smiles=_picture(
            plot.smiles(quoted),
            "Smiles against bid and ask",
            vector=len(quoted.reason) <= MOST_DRAWN_AS_VECTORS,
        ),
        variance=_picture(plot.total_variance(surface), "Total variance by expiry"),
        surface=_picture(plot.surface(surface), "Implied vol surface", vector=False),
        residuals=_picture(plot.residuals(quoted), "Residuals"),
    )


def _row(view: Smile) -> str:
    fitted = view.fitted
    if fitted is None:
        cells = [price_text(view.forward), *["–"] * 7, "not fitted"]
    else:
        shape = fitted.diagnostics
        cells = [
            price_text(fitted.forward),
            fitted.forward_source.name.lower(),
            percent_text(view.atm_vol, 2),
            percent_text(shape.rms_vol_error, 2),
            percent_text(shape.max_abs_residual, 2),
            percent_text(shape.in_spread_share, 1),
            f"{shape.chi2_reduced:.2f}" if np.isfinite(shape.chi2_reduced) else "–",
            str(shape.quotes_used),
            shape.state.name.lower().replace("_", " "),
        ]
    head = f"<td>{iso(view.expiry)[:16].replace('T', ' ')}</td><td>{tenor_text(view.years)}</td>"
    return f"<tr>{head}{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _unused(quoted: Quoted) -> str:
    codes, counts = np.unique(quoted.reason, return_counts=True)
    parts = [
        f"{count} × {Reason(int(code)).text}"
        for code, count in sorted(zip(codes, counts, strict=True), key=lambda pair: -pair[1])
        if code
    ]
    return escape("; ".join(parts)) if parts else "none"


def _name(quoted: Quoted) -> str:
    return f"{quoted.surface.underlying} {date_text(quoted.surface.quote_time)}"


def _picture(figure: Figure, alt: str, *, vector: bool = True) -> str:
    buffer = BytesIO()
    kind = "svg" if vector else "png"
    figure.savefig(buffer, format=kind, dpi=160, metadata={"Date": None} if vector else None)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    mime = "image/svg+xml" if vector else "image/png"
    return f'<img alt="{escape(alt)}" src="data:{mime};base64,{data}">'


_SECTION = Template("""
<section id="$id">
<h2>$name</h2>
<dl>$facts</dl>
<div class="scroll"><table>
<thead><tr><th>expiry (UTC)</th><th>tenor</th><th>forward</th><th>source</th><th>ATM vol</th>
<th>rms error</th><th>largest</th><th>in spread</th><th>χ² red.</th><th>quotes</th>
<th>state</th></tr></thead><tbody>$rows</tbody></table></div>
<p class="note">Errors are model minus mid, in vol; “in spread” is the share of two-sided
out-of-the-money quotes that the model lies within, used or not. Rows not used: $unused.</p>
<figure>$smiles</figure>
<div class="pair"><figure>$variance</figure><figure>$surface</figure></div>
<figure class="half">$residuals</figure>
</section>
""")

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
p { max-width: 90ch; margin: 6px 0; }
nav a { margin-right: 14px; color: #1d5f99; text-decoration: none; }
nav a:hover { text-decoration: underline; }
dl { display: flex; flex-wrap: wrap; gap: 4px 26px; margin: 8px 0 12px; }
dt { font-size: 11px; color: #6a7885; } dd { margin: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 12px 3px 0; text-align: right; white-space: nowrap; }
th { font-weight: 600; font-size: 12px; color: #52606d; border-bottom: 1px solid #b9c3cd; }
td { border-bottom: 1px solid #edf0f3; }
th:first-child, td:first-child, th:nth-child(4), td:nth-child(4), th:last-child, td:last-child
  { text-align: left; }
.note { font-size: 12.5px; color: #52606d; }
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
