"""How long the pipeline's forecast takes for one fleet: learn one observation, answer 19 horizons x 14 quantiles.

Run `python benchmarks/forecast_speed.py [OBSERVATIONS]`; it prints microseconds of processor time by step, and asserts nothing.
The lowest and the middle of runs of 24 observations: on a machine that others use, the lowest is nearest to a quiet core.
"""

import sys
import time

import numpy as np

from controlplane.contracts.fleet import ForecastSettings
from controlplane.forecasting import HORIZONS_SECONDS, QUANTILES
from forecasters.api import Batch
from forecasters.combine import Combination

LEAD_SECONDS = 180.0
STEPS_SECONDS = (15.0, 60.0, 600.0)
RUN = 24


def one_step(step_seconds: float, observations: int) -> tuple[float, float]:
    """Return the lowest and the middle mean of a run, microseconds, over the second half of the observations."""
    horizons = np.array(sorted({*map(float, HORIZONS_SECONDS), LEAD_SECONDS}))
    method = Combination(ForecastSettings(), horizons, np.array(QUANTILES))
    state, noise = method.start(1), np.random.default_rng(1)
    spent = []
    for number in range(observations):
        now = 1.7e9 + step_seconds * number
        demand = 60.0 + 40.0 * np.sin(2 * np.pi * now / 86400.0) + 5.0 * noise.standard_normal()
        began = time.process_time()
        state = method.learn(state, Batch(np.array([now]), np.array([demand])))
        method.forecast(state, now)
        spent.append(time.process_time() - began)
    late = np.array(spent[observations // 2 :]) * 1e6
    runs = late[: len(late) // RUN * RUN].reshape(-1, RUN).mean(axis=1)
    return float(runs.min()), float(np.median(runs))


def main() -> None:
    """Print the table."""
    observations = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    print("| step | lowest, µs | middle, µs |")
    print("|---:|---:|---:|")
    for step in STEPS_SECONDS:
        lowest, middle = one_step(step, observations)
        print(f"| {step:g} s | {lowest:.0f} | {middle:.0f} |", flush=True)


if __name__ == "__main__":
    main()
