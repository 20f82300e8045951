"""Where a figure is drawn: on Agg, or live in a notebook that has asked for it."""

from __future__ import annotations

import sys
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDGET = ("widget", "ipympl", "module://ipympl.backend_nbagg")


def put_on_canvas(figure: Figure) -> None:
    """Give a figure its canvas: ipympl's after ``%matplotlib widget``, else Agg's.

    matplotlib's list of open figures does not learn of it, so that nothing has to be closed.
    """
    from matplotlib import get_backend
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    live: Any = sys.modules.get("ipympl.backend_nbagg")
    shown: Any = figure
    if live is None or get_backend() not in _WIDGET:
        FigureCanvasAgg(figure)
        # For notebooks that have not said `%matplotlib inline`.
        shown._repr_png_ = partial(_png, figure)
        return
    canvas = live.Canvas(figure)
    live.FigureManager(canvas, 0)  # the toolbar
    shown._repr_mimebundle_ = canvas._repr_mimebundle_


def _png(figure: Figure) -> bytes:
    written = BytesIO()
    figure.savefig(written, format="png")
    return written.getvalue()
