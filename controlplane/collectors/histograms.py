"""Quantiles of histograms that several replicas counted, whatever their buckets.

Owns the merging of bucket counts and the interpolation, which is Prometheus's own: linear inside a bucket, and at most the largest
finite bound. Pure functions of plain dicts.
"""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np


class Latency(NamedTuple):
    """What a histogram says of a latency: its p95, and the share of its observations within a bound; None: not known."""

    seconds_p95: float | None = None
    attained_share: float | None = None


NOT_TIMED = Latency()


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


def share_within(histogram: Mapping[float, float], bound: float) -> float | None:
    """Return the share of the observations up to `bound`; None where there is none. Beyond the largest finite bound all are above.

    Bounds 1, 2 and inf with 50, 90 and 100 observations: 0.7 of them are within 1.5, and 0.9 within 10.
    """
    finite = [each for each in sorted(histogram) if math.isfinite(each)]
    total = max(histogram.values(), default=0.0)
    if not finite or total <= 0.0:
        return None
    counts = np.maximum.accumulate([histogram[each] for each in finite])
    return min(float(np.interp(bound, [0.0, *finite], [0.0, *counts])) / total, 1.0)


def latency_of(histogram: Mapping[float, float], bound_seconds: float | None) -> Latency:
    """Return the p95, and the share within the policy's bound where it states one."""
    return Latency(quantile(histogram, 0.95), share_within(histogram, bound_seconds) if bound_seconds is not None else None)
