"""The contract of a forecaster: learn a batch, forecast quantiles by horizon, snapshot to bytes and back.

Owns the shapes that every method obeys; tests/contract/test_forecasters.py runs on each entry of `forecasters.registry`.
It must not know how any method works. To add one, write a `point.PointMethod` and a line in the registry: the rest is shared.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Batch:
    """One observation for each of n fleets: `time_unix` f64[n], seconds; `demand_per_second` f64[n], NaN = missing."""

    time_unix: Array
    demand_per_second: Array


@dataclass(frozen=True, slots=True)
class Quantiles:
    """f64[fleet, horizon, quantile], finite, non-negative, rising with the quantile: `peak` is the maximum up to the horizon."""

    demand: Array
    peak: Array


class Forecaster[S](Protocol):
    """A method with quantiles. `S` is its state: plain arrays with the fleet on the first axis.

    `learn` takes the state over and may reuse its memory: the caller must not use the state it passed in again.
    `forecast` changes nothing. Both are deterministic. A method that knows nothing yet still answers, with wide quantiles.
    """

    name: ClassVar[str]

    def start(self, fleets: int) -> S:
        """Return the state that has seen nothing."""
        ...

    def learn(self, state: S, batch: Batch) -> S:
        """Take in one observation per fleet; a NaN, a repeated or an older time changes nothing for that fleet."""
        ...

    def forecast(self, state: S, now_unix: float, horizons_seconds: Array, quantiles: Array) -> Quantiles:
        """Return demand at `now_unix` + each horizon, given only what was learnt."""
        ...

    def dump(self, state: S) -> bytes:
        """Return a versioned snapshot; `load` of it forecasts as if nothing had happened."""
        ...

    def load(self, snapshot: bytes) -> S:
        """Return the state of a snapshot; SnapshotError for another version or anything else."""
        ...
