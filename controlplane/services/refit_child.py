"""The process that fits a tide: history as JSON on its input, what was found as JSON on its output, then it is gone.

Owns nothing but that exchange: `forecasters.structural` fits. `refitter` starts it, so that seconds of fitting never hold up a
forecast; it yields to everything else on the machine, and ends by itself if its parent does.
"""

import json
import os
import sys
import warnings

MEEK = 10
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> None:
    """Read, fit, write."""
    os.nice(MEEK)
    for name in THREADS:
        os.environ[name] = "1"
    # That a candidate did not converge is seen in its error.
    warnings.simplefilter("ignore")
    asked = json.load(sys.stdin)

    import numpy as np

    from forecasters.structural import fit_structural
    from forecasters.zone import Zone

    ends, mean = np.array(asked["ends_unix"]), np.array(asked["demand_per_second"], dtype=np.float64)
    found = fit_structural(ends, mean, Zone(asked["time_zone"]), asked["season_seconds"])
    errors = {name: error for name, error in found.errors.items() if np.isfinite(error)}
    json.dump({"chosen": found.chosen, "errors": errors, "coefficients": found.theta.tolist()}, sys.stdout)


if __name__ == "__main__":
    main()
