"""Which sample plays which part: from a sample's name and labels to the signals of a preset that it counts for.

Owns the lookup, made once per series and remembered by callers; exact names, exact labels. It must not hold values: `replicas` does.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from controlplane.collectors.presets import GAUGES, HISTOGRAMS, Preset, Signal, spellings

NO_BOUND = math.nan


class Role(NamedTuple):
    """One part a sample plays: alternative `option` of `signal`; `bound` is the upper bound of a histogram's bucket."""

    signal: Signal
    option: int
    bound: float = NO_BOUND

    @property
    def is_gauge(self) -> bool:
        """Whether values are levels, not totals that only grow."""
        return self.signal in GAUGES


class Roles:
    """The roles of a preset's samples that carry `match_labels`; a sample that plays no part has none."""

    def __init__(self, preset: Preset, match_labels: Mapping[str, str] | None = None) -> None:
        self._match = tuple((match_labels or {}).items())
        self._by_name: dict[str, list[tuple[Signal, int, tuple[tuple[str, str], ...]]]] = {}
        for signal, options in preset.signals.items():
            for option, metrics in enumerate(options):
                for metric in metrics:
                    suffix = "_bucket" if signal in HISTOGRAMS else ""
                    for name in spellings(metric.name):
                        self._by_name.setdefault(name + suffix, []).append((signal, option, metric.where))

    @property
    def names(self) -> frozenset[str]:
        """Every sample name that plays a part."""
        return frozenset(self._by_name)

    def of(self, name: str, labels: Mapping[str, str]) -> tuple[Role, ...]:
        """Return what a sample counts for."""
        entries = self._by_name.get(name)
        if entries is None or any(labels.get(label) != value for label, value in self._match):
            return ()
        roles = []
        for signal, option, where in entries:
            if any(labels.get(label) != value for label, value in where):
                continue
            bound = bound_of(labels) if signal in HISTOGRAMS else NO_BOUND
            if bound is not None:
                roles.append(Role(signal, option, bound))
        return tuple(roles)


def bound_of(labels: Mapping[str, str]) -> float | None:
    """Return the upper bound of a histogram's bucket, None where its labels name none."""
    try:
        return float(labels["le"])
    except (KeyError, ValueError):
        return None
