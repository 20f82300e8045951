"""One self-contained HTML page over fitted surfaces: tables, smiles, total variance, the surface.

Pictures are inside the page and nothing is loaded from anywhere, so it can be mailed and kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from string import Template

import numpy as np

from calib.conventions import iso
from calib.quotes.reasons import Reason
from calib.report import plot
from calib.report.document import document, facts, picture, table
from calib.report.smiles import Quoted, Smile, smiles_of
from calib.report.style import date_text, percent_text, price_text, tenor_text
from calib.report.text_table import TextTable

# A chain of more rows is drawn as pixels: as vectors its page would take tens of megabytes.
MOST_DRAWN_AS_VECTORS = 3_000


def page_html(title: str, quoted: Sequence[Quoted], introduction: str = "") -> str:
    """The page as text; ``introduction`` is plain text under the title."""
    contents = [(f"s{i}", _name(each)) for i, each in enumerate(quoted)]
    return document(
        title,
        introduction,
        contents if len(quoted) > 1 else (),
        "".join(_section(i, each) for i, each in enumerate(quoted)),
    )


def _section(index: int, quoted: Quoted) -> str:
    surface, views = quoted.surface, smiles_of(quoted)
    certificate = surface.certificate
    proof = "free of static arbitrage" if certificate.arbitrage_free else "not proved"
    told = {
        "quote time": iso(surface.quote_time),
        "model": surface.model.name,
        "expiries": f"{len(surface.expiries)} fitted of {len(views)}",
        "spot": "–" if surface.spot is None else price_text(surface.spot),
        "calendar": surface.calendar.name.lower().replace("_", " "),
        "arbitrage": f"{proof} (scope: {certificate.scope.name.lower().replace('_', ' ')})",
    }
    if surface.revision:
        told["revision"] = str(surface.revision)
    return _SECTION.substitute(
        id=f"s{index}",
        name=escape(surface.underlying),
        facts=facts(told),
        expiries=table(_expiries(views)),
        unused=_unused(quoted),
        smiles=picture(
            plot.smiles(quoted),
            "Smiles against bid and ask",
            vector=len(quoted.reason) <= MOST_DRAWN_AS_VECTORS,
        ),
        variance=picture(plot.total_variance(surface), "Total variance by expiry"),
        surface=picture(plot.surface(surface), "Implied vol surface", vector=False),
        residuals=picture(plot.residuals(quoted), "Residuals"),
    )


def _expiries(views: Sequence[Smile]) -> TextTable:
    return TextTable(
        ("expiry (UTC)", "tenor", "forward", "source", "ATM vol", "rms error", "largest",
         "in spread", "χ² red.", "quotes", "state"),
        tuple(_row(view) for view in views),
        left=("source", "state"),
    )  # fmt: skip


def _row(view: Smile) -> tuple[str, ...]:
    head = (iso(view.expiry)[:16].replace("T", " "), tenor_text(view.years))
    fitted = view.fitted
    if fitted is None:
        return (*head, price_text(view.forward), *["–"] * 7, "not fitted")
    shape = fitted.diagnostics
    return (
        *head,
        price_text(fitted.forward),
        fitted.forward_source.name.lower(),
        percent_text(view.atm_vol, 2),
        percent_text(shape.rms_vol_error, 2),
        percent_text(shape.max_abs_residual, 2),
        percent_text(shape.in_spread_share, 1),
        f"{shape.chi2_reduced:.2f}" if np.isfinite(shape.chi2_reduced) else "–",
        str(shape.quotes_used),
        shape.state.name.lower().replace("_", " "),
    )


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


_SECTION = Template("""
<section id="$id">
<h2>$name</h2>
$facts
$expiries
<p class="note">Errors are model minus mid, in vol; “in spread” is the share of two-sided
out-of-the-money quotes that the model lies within, used or not. Rows not used: $unused.</p>
<figure>$smiles</figure>
<div class="pair"><figure>$variance</figure><figure>$surface</figure></div>
<figure class="half">$residuals</figure>
</section>
""")
