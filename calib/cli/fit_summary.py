"""What ``calib fit`` prints: a table per chain, or a line per underlying where chains are many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from calib.cli.console import Column, print_table
from calib.conventions import iso
from calib.quotes.reasons import Reason
from calib.report.smiles import Smile, smiles_of
from calib.report.style import percent_text, price_text, tenor_text
from calib.states import ForwardSource

if TYPE_CHECKING:
    from rich.console import Console

    from calib.fitting.fit_value import Fit
    from calib.surface.surface import SliceDiagnostics

# Up to this many chains are shown expiry by expiry.
MOST_IN_FULL = 4


CHAIN_COLUMNS = (
    Column("expiry (UTC)", left=True),
    Column("tenor", rank=2),
    Column("forward"),
    Column("source", left=True, rank=4),
    Column("ATM vol"),
    Column("rms error"),
    Column("largest", rank=5),
    Column("in spread"),
    Column("used", rank=3),
    Column("unused", rank=6),
    Column("state", left=True, rank=1),
)
UNDERLYING_COLUMNS = (
    Column("underlying", left=True),
    Column("chains"),
    Column("with surface"),
    Column("expiries", rank=2),
    Column("fitted", rank=2),
    Column("in spread, median"),
    Column("worst", rank=1),
    Column("rms error, median", rank=3),
    Column("worst", rank=4),
)
REASON_COLUMNS = (Column("rows"), Column("not used because", left=True))


def print_fits(console: Console, fits: Sequence[Fit]) -> None:
    """Print how the fits went, and why rows were not used."""
    if len(fits) <= MOST_IN_FULL:
        for fit in fits:
            _print_chain(console, fit)
    else:
        _print_underlyings(console, fits)
    _print_reasons(console, fits)


def _print_chain(console: Console, fit: Fit) -> None:
    surface = fit.surface
    certificate = surface.certificate
    proof = "arbitrage-free" if certificate.arbitrage_free else "arbitrage not excluded"
    sources = fit.slices.forward_source
    rows = [
        _expiry_cells(view, shape, int(source))
        for view, shape, source in zip(smiles_of(fit), fit.slice_diagnostics, sources, strict=True)
    ]
    title = (
        f"{surface.underlying}  {iso(surface.quote_time)}  {surface.model.name}  "
        f"{proof} (scope {certificate.scope.name})"
    )
    print_table(console, CHAIN_COLUMNS, rows, title)


def _expiry_cells(view: Smile, shape: SliceDiagnostics, source: int) -> list[str]:
    return [
        iso(view.expiry)[:16].replace("T", " "),
        tenor_text(view.years),
        price_text(view.forward),
        ForwardSource(source).name.lower() if source else "–",
        percent_text(view.atm_vol, 2),
        percent_text(shape.rms_vol_error, 2),
        percent_text(shape.max_abs_residual, 2),
        percent_text(shape.in_spread_share, 1),
        str(shape.quotes_used),
        str(shape.quotes_rejected),
        shape.state.name.lower().replace("_", " "),
    ]


def _print_underlyings(console: Console, fits: Sequence[Fit]) -> None:
    rows = []
    for name in sorted({fit.surface.underlying for fit in fits}):
        own = [fit for fit in fits if fit.surface.underlying == name]
        shares = np.array([in_spread_share(fit) for fit in own])
        errors = np.array([rms_vol_error(fit) for fit in own])
        shares, errors = shares[np.isfinite(shares)], errors[np.isfinite(errors)]
        rows.append(
            [
                name,
                str(len(own)),
                str(sum(bool(fit.surface.expiries) for fit in own)),
                str(sum(len(fit.states) for fit in own)),
                str(sum(len(fit.surface.expiries) for fit in own)),
                percent_text(float(np.median(shares)) if len(shares) else np.nan, 1),
                percent_text(float(shares.min()) if len(shares) else np.nan, 1),
                percent_text(float(np.median(errors)) if len(errors) else np.nan, 2),
                percent_text(float(errors.max()) if len(errors) else np.nan, 2),
            ]
        )
    title = (
        f"{len(fits)} chains, {iso(fits[0].surface.quote_time)} to "
        f"{iso(fits[-1].surface.quote_time)}, {fits[0].surface.model.name}"
    )
    print_table(console, UNDERLYING_COLUMNS, rows, title)


def in_spread_share(fit: Fit) -> float:
    """Share of the chain's two-sided out-of-the-money quotes that the model lies within.

    Every quote that could be inverted at both sides counts, used or not; nan without any.
    """
    bid, ask = fit.slices.bid_vol, fit.slices.ask_vol
    asked = np.isfinite(bid) & np.isfinite(ask)
    if not asked.any():
        return float("nan")
    model = fit.model_vol[asked]
    return float(np.mean((model >= bid[asked]) & (model <= ask[asked])))


def rms_vol_error(fit: Fit) -> float:
    """Root mean square of model minus mid over two-sided quotes used; nan without any."""
    miss = (fit.model_vol - fit.slices.mid_vol)[fit.used]
    miss = miss[np.isfinite(miss)]
    return float(np.sqrt(np.mean(miss**2))) if len(miss) else float("nan")


def _print_reasons(console: Console, fits: Sequence[Fit]) -> None:
    counts: Counter[int] = Counter()
    for fit in fits:
        values, sizes = np.unique(fit.reason, return_counts=True)
        counts.update(dict(zip(values.tolist(), sizes.tolist(), strict=True)))
    total, used = counts.total(), counts.pop(int(Reason.USABLE), 0)
    console.print(f"{total:,} rows, {used:,} used")
    if counts:
        rows_by_reason = [[f"{n:,}", Reason(code).text] for code, n in counts.most_common()]
        print_table(console, REASON_COLUMNS, rows_by_reason)
