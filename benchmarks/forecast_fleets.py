"""Cost of forecasting many fleets at once: learn one observation each and forecast 8 horizons x 7 quantiles; refit all tides.

Run `python benchmarks/forecast_fleets.py [FLEETS ...]`; it prints a table and asserts nothing. Pin it to one core for the bar.
"""

import resource
import sys
import time

import numpy as np

from controlplane.contracts.fleet import ForecastSettings
from forecasters.api import Array, Batch
from forecasters.combine import Combination
from forecasters.harmonic import refit
from forecasters.zone import Zone

HORIZONS = np.array([60.0, 600.0, 1800.0, 3600.0, 21600.0, 43200.0, 86400.0, 172800.0])
QUANTILES = np.array([0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99])
WARM_OBSERVATIONS, MEASURED = 24, 6
STEP_SECONDS = 600.0
HISTORY_DAYS = 28
SLOTS_PER_DAY = 48


def demand_at(time_unix: float, fleets: int, noise: np.random.Generator) -> Array:
    """Return a daily shape with a phase and a size of each fleet's own."""
    number = np.arange(fleets)
    day = np.sin(2 * np.pi * time_unix / 86400.0 + 0.001 * number)
    return np.asarray((1.0 + number % 100) * np.exp(0.6 * day + 0.15 * noise.standard_normal(fleets)), dtype=np.float64)


def one_size(fleets: int) -> tuple[float, float]:
    """Return seconds per learn + forecast of all fleets (mean of several), and seconds of a refit of all tides."""
    noise = np.random.default_rng(7)
    method = Combination(ForecastSettings(), HORIZONS, QUANTILES)
    state = method.start(fleets)
    spent = []
    for number in range(WARM_OBSERVATIONS + MEASURED):
        now = 1.7e9 + STEP_SECONDS * number
        batch = Batch(np.full(fleets, now), demand_at(now, fleets, noise))
        began = time.process_time()
        state = method.learn(state, batch)
        method.forecast(state, now)
        spent.append(time.process_time() - began)
    slots = np.arange(HISTORY_DAYS * SLOTS_PER_DAY)
    times = np.asarray(1.7e9 + slots * (86400.0 / SLOTS_PER_DAY), dtype=np.float64)
    history = np.exp(0.6 * np.sin(2 * np.pi * times / 86400.0))[None, :] * (1.0 + np.arange(fleets) % 100)[:, None]
    began = time.process_time()
    refit(times, history, Zone("UTC"))
    return float(np.mean(spent[WARM_OBSERVATIONS:])), time.process_time() - began


def main() -> None:
    """Print the table."""
    sizes = [int(text) for text in sys.argv[1:]] or [100, 1_000, 10_000]
    print("| fleets | learn + forecast, s | per fleet, µs | refit of all tides, s | peak memory, MiB |")
    print("|---:|---:|---:|---:|---:|")
    for fleets in sizes:
        both, refitted = one_size(fleets)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
        print(f"| {fleets} | {both:.3f} | {both / fleets * 1e6:.1f} | {refitted:.2f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    main()
