"""Pictures of smiles and surfaces as matplotlib figures; vols in percent, log-moneyness ln(K/F).

A function takes a :class:`calib.Fit` (or any value with ``surface``, ``slices`` and ``reason``)
where it shows quotes, and a bare :class:`calib.Surface` where it shows none, and returns a new
figure: ``figure.savefig("smile.svg")`` writes it, PNG or SVG by its name, and a notebook shows it.
After ``%matplotlib widget`` (ipympl) it can be turned and enlarged there. Open figures are not
counted and need not be closed.
"""

from calib.report.density_plot import density
from calib.report.history_plot import history
from calib.report.leverage_plot import leverage
from calib.report.residual_plots import residual_map, residuals
from calib.report.smile_plots import smile, smiles
from calib.report.surface_plots import contour, surface, total_variance

__all__ = [
    "contour",
    "density",
    "history",
    "leverage",
    "residual_map",
    "residuals",
    "smile",
    "smiles",
    "surface",
    "total_variance",
]
