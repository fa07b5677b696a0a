"""Quantiles of histograms that several replicas counted, whatever their buckets.

Owns the merging of bucket counts and the interpolation, which is Prometheus's own: linear inside a bucket, and at most the largest
finite bound. Pure functions of plain dicts.
"""

import math
from collections.abc import Iterable, Mapping

import numpy as np


def merged(histograms: Iterable[Mapping[float, float]]) -> dict[float, float]:
    """Return the sum of cumulative bucket counts by upper bound; a layout that lacks a bound is interpolated there.

    Two replicas with bounds (1, inf) and (0.5, 1, inf): the first counts as if half of what is below 1 were below 0.5.
    """
    by_layout: dict[tuple[float, ...], dict[float, float]] = {}
    for histogram in histograms:
        layout = tuple(sorted(histogram))
        total = by_layout.setdefault(layout, dict.fromkeys(layout, 0.0))
        for bound, count in histogram.items():
            total[bound] += count
    if len(by_layout) <= 1:
        return next(iter(by_layout.values()), {})
    bounds = sorted({bound for layout in by_layout for bound in layout})
    sums = dict.fromkeys(bounds, 0.0)
    for layout, total in by_layout.items():
        finite = [bound for bound in layout if math.isfinite(bound)]
        counts = [total[bound] for bound in finite]
        for bound in bounds:
            if not math.isfinite(bound) or not finite:
                sums[bound] += max(total.values(), default=0.0)
            else:
                sums[bound] += float(np.interp(bound, [0.0, *finite], [0.0, *counts]))
    return sums


def quantile(histogram: Mapping[float, float], share: float) -> float | None:
    """Return the value below which `share` of the observations lie; None where there is none.

    Bounds 1 and 2 with 50 and 100 observations: the 0.95 quantile is 1.9.
    """
    bounds = sorted(histogram)
    if not bounds or histogram[bounds[-1]] <= 0.0:
        return None
    rank = share * histogram[bounds[-1]]
    lower, below = 0.0, 0.0
    for bound in bounds:
        count = histogram[bound]
        if count >= rank:
            if not math.isfinite(bound):
                return lower if len(bounds) > 1 else None
            return lower + (bound - lower) * ((rank - below) / (count - below) if count > below else 0.0)
        lower, below = bound, count
    return lower
