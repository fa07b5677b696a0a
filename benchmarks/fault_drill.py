"""Play the fault drill over many seeds and print what came of them: rules broken, work lost, money.

Usage: python benchmarks/fault_drill.py [--seeds N] [--first N] [--workers N]. Every tenth seed is also played without its faults.
"""

import argparse
import statistics
import time
from multiprocessing import Pool

from controlplane.sim.drill import USD_PER_HOUR, DrillResult, drill

DEFAULT_SEEDS = 100


def play(seed: int) -> tuple[DrillResult, DrillResult | None]:
    """Return one seed's result with its faults, and every tenth's without them."""
    return drill(seed), drill(seed, faults=False) if seed % 10 == 0 else None


def main() -> None:
    """Play and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=DEFAULT_SEEDS)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    started = time.monotonic()
    with Pool(options.workers) as pool:
        results = pool.map(play, range(options.first, options.first + options.seeds), chunksize=5)
    faulty = [one for one, _ in results]
    broken = [one for one in faulty if one.broken]
    lost = sorted(one.lost_share for one in faulty)
    print(f"{len(faulty)} seeds in {time.monotonic() - started:.0f} s; rules broken in {len(broken)}")
    for one in broken[:10]:
        print(f"  seed {one.seed}: {'; '.join(one.broken[:3])}")
    print(f"most rented at once: {max(one.most_usd_per_hour for one in faulty):.2f} of {USD_PER_HOUR:.2f} USD/h allowed")
    beside = [one.most_with_spill_usd_per_hour for one in faulty]
    above = sum(usd > USD_PER_HOUR for usd in beside)
    print(f"with the spill allowed beside it: at most {max(beside):.2f} USD/h, above the limit at some tick in {above} seeds")
    print(f"orphans after the heal: {sum(one.orphans for one in faulty)}; restarts {sum(one.restarts for one in faulty)}")
    print(f"purchases: {sum(one.purchases for one in faulty)}; billed {sum(one.billed_usd for one in faulty):.0f} USD")
    quantiles = ", ".join(f"p{round(q * 100)} {lost[min(int(q * len(lost)), len(lost) - 1)]:.2%}" for q in (0.5, 0.9, 0.99))
    overall = sum(one.late for one in faulty) / sum(one.offered for one in faulty)
    calm_runs = [one for _, one in results if one is not None]
    calm = sum(one.late for one in calm_runs) / sum(one.offered for one in calm_runs)
    print(f"work outside the SLO: {overall:.2%} overall ({quantiles} of seeds); without faults {calm:.2%}")
    booked = [one.ledger_usd / one.billed_usd for one in faulty if one.billed_usd > 0]
    print(f"ledger over billed: median {statistics.median(booked):.3f}, least {min(booked):.3f}, most {max(booked):.3f}")
    ratios = [one.metered_usd / one.billed_usd for one in faulty if one.billed_usd > 0]
    print(f"metered by the planner over billed: median {statistics.median(ratios):.2f}, least {min(ratios):.2f}, most {max(ratios):.2f}")


if __name__ == "__main__":
    main()
