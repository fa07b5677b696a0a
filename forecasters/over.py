"""What lies over the tide: the multiples of a launch wave, as the pool takes them out before it learns and puts them back after.

Owns how near a forecast inside a wave stays to what came last. It must not know how a wave is found; `watch` does.
"""

from dataclasses import dataclass

import numpy as np

from forecasters.api import Array

CALM_MULTIPLE, CALM_SPREAD = 1.15, 0.15
NEAR_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Over:
    """What lies over the tide: multiples now f64[n] and at each horizon f64[n, H], and the log spread f64[n, H, Q] of the latter."""

    now: Array
    ahead: Array
    spread: Array

    def nearness(self, horizons_seconds: Array) -> Array:
        """Return how far a forecast made inside a wave goes by what came last, which holds its height: f64[n, H], 1/e after an hour."""
        out: Array = np.exp(horizons_seconds / -NEAR_SECONDS) * (self.now[:, None] > CALM_MULTIPLE)
        return out
