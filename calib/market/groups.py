"""Statistics of many groups of rows at once."""

from __future__ import annotations

import numpy as np

from calib.conventions import Floats, Ints


def group_quantiles(values: Floats, group: Ints, groups: int, *shares: float) -> tuple[Floats, ...]:
    """For each share an array (groups,) of that quantile of each group's values, nan without any.

    Between two values it is interpolated linearly; ``group`` holds a number from 0 to ``groups``-1
    for each value.
    """
    order = np.lexsort((values, group))
    ordered = values[order]
    count = np.bincount(group, minlength=groups)
    some = count > 0
    first = (np.cumsum(count) - count)[some]
    last = first + count[some] - 1
    results = []
    for share in shares:
        place = first + share * (last - first)
        below = np.floor(place).astype(np.int64)
        above = np.minimum(below + 1, last)
        result = np.full(groups, np.nan)
        result[some] = ordered[below] + (place - below) * (ordered[above] - ordered[below])
        results.append(result)
    return tuple(results)
