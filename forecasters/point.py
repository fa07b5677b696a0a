"""What a method must do to be given quantiles and a place in the combination: say one number per fleet and horizon.

Owns the inner contract of a point method. Errors, quantiles, weights and snapshots are added around it, the same for all.
Go on to `persistence` for the smallest one, and to `quantified` for what is put around it.
"""

from typing import ClassVar, Protocol

from forecasters.api import Array
from forecasters.intake import Index, Intake, Seen


class PointMethod[S](Protocol):
    """A point method over a state `S`: a dataclass of arrays with the fleet on the first axis, changed in place by `learn`."""

    name: ClassVar[str]
    context_size: ClassVar[int]
    is_coarse: ClassVar[bool]

    def start(self, fleets: int) -> S:
        """Return the state that has seen nothing."""
        ...

    def learn(self, state: S, intake: Intake, seen: Seen) -> None:
        """Take in the admitted observations."""
        ...

    def centre(self, state: S, intake: Intake, fleet: Index | slice, now_unix: Array, horizons_seconds: Array) -> Array:
        """Return demand f64[k, H] at `now_unix` f64[k] + each horizon for the fleets picked: finite and non-negative,
        or NaN where nothing is known, so that the recent level answers instead.
        """
        ...

    def context(self, state: S, intake: Intake, fleet: Index | slice, now_unix: Array, horizons_seconds: Array) -> Array:
        """Return `context_size` more logs of demand f64[k, H or 1, C] for the blend to weigh; NaN where not known."""
        ...
