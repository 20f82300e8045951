"""What a raw SVI slice does along a cell: values at three points, and how fast they may change."""

from __future__ import annotations

from typing import NamedTuple

from calib.arbitrage.cells import Cells, Points, at
from calib.models.arrays import Array, Parameters, namespace


class Course(NamedTuple):
    """A slice at the start, the middle and the end of cells, and bounds of derivatives along them.

    In the terms of `calib.arbitrage.cells`, derivatives being by the coordinate that moves.
    """

    start: Points
    middle: Points
    end: Points
    third: Array
    """Of |W‴|."""
    fourth: Array
    """Of |W⁗|."""
    slope_second: Array
    """Of |p″|."""
    slope_third: Array
    """Of |p‴|."""
    curvature_third: Array
    """Of |q‴|, q = w″."""

    @property
    def points(self) -> tuple[Points, Points, Points]:
        """All three."""
        return self.start, self.middle, self.end


def along(parameters: Parameters, cells: Cells) -> Course:
    """The course of slices (a, b, ρ, m, σ) along cells that broadcast with them.

    With v′ = 0 in the centre and 1 in a wing, |R′| ≤ c (|d|/R ≤ 1 and √(m² + σ²)) and R″ = σ²/R³,

        W″ = bσ²/R³,  |p′| = vW″,  |p″| ≤ bσ²(v′ + 3vc/R)/R³,  |W‴| ≤ 3bσ²c/R⁴,
        |W⁗| ≤ bσ²(3σ²/R³ + 12c²/R)/R⁴,  |p‴| ≤ 6bσ²v′c/R⁴ + v·(the same).

    In the centre |W⁗| = |p‴| = 3bσ²|4d² − σ²|/R⁷ and |q‴| = 15bσ²|d(3σ² − 4d²)|/R⁹; in a wing
    q = v²|p′|, |q‴| ≤ v²|p⁗| + 6v|p‴| + 6|p″| and |p⁗| ≤ 3|W⁗| + vbσ²c(45σ²/R³ + 60c²/R)/R⁵.
    """
    _, b, _, m, sigma = parameters
    xp = namespace(b)
    _, u, v, u_end, v_end, wing = cells
    start = at(parameters, u, v)
    middle = at(parameters, 0.5 * (u + u_end), 0.5 * (v + v_end))
    end = at(parameters, u_end, v_end)

    near, far = abs(start.distance), abs(end.distance)
    d_min = xp.where(start.distance * end.distance < 0.0, 0.0, xp.minimum(near, far))
    d_max = xp.maximum(near, far)
    v_min, v_max = xp.minimum(v, v_end), xp.maximum(v, v_end)
    sigma2 = sigma * sigma
    r = 1.0 / xp.sqrt(d_min * d_min + sigma2 * (v_min * v_min))
    r2 = r * r
    r4 = r2 * r2
    steep = r * xp.where(wing, xp.sqrt(m * m + sigma2), xp.minimum(d_max * r, 1.0))
    second = b * sigma2 * (r2 * r)
    bent = 4.0 * (d_max * d_max)
    narrow, steep2 = sigma2 * r4, steep * steep
    fourth = second * xp.where(
        wing, 3.0 * narrow + 12.0 * steep2, 3.0 * (xp.maximum(bent, sigma2) * r4)
    )
    in_wing = 1.0 * wing
    slope_second = second * (in_wing + 3.0 * (v_max * steep))
    slope_third = (6.0 * in_wing) * (second * steep) + v_max * fourth
    slope_fourth = 3.0 * fourth + v_max * (second * steep) * (45.0 * narrow + 60.0 * steep2)
    return Course(
        start,
        middle,
        end,
        third=3.0 * (second * steep),
        fourth=fourth,
        slope_second=slope_second,
        slope_third=slope_third,
        curvature_third=xp.where(
            wing,
            v_max * (v_max * slope_fourth + 6.0 * slope_third) + 6.0 * slope_second,
            15.0 * (second * d_max) * (xp.maximum(bent, 3.0 * sigma2) * (r4 * r2)),
        ),
    )
