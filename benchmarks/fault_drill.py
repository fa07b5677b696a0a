"""Play the fault drill over many seeds and print what came of them: rules broken, work lost, money.

Usage: python benchmarks/fault_drill.py [--seeds N] [--first N] [--workers N] [--record FILE]. Every tenth seed is also played without its
faults. With a record, JSON lines, seeds that are in it already are not played again: a long drill goes on where it was cut off.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterable
from dataclasses import asdict
from multiprocessing import Pool
from pathlib import Path

from controlplane.sim.drill import USD_PER_HOUR, DrillResult, drill, is_forgetful

DEFAULT_SEEDS = 100
CALM_EVERY = 10


def play(seed: int) -> tuple[DrillResult, DrillResult | None]:
    """Return one seed's result with its faults, and every tenth's without them."""
    return drill(seed), drill(seed, faults=False) if seed % CALM_EVERY == 0 else None


def recorded(path: Path | None) -> dict[int, tuple[DrillResult, DrillResult | None]]:
    """Return what was played before, by seed; a last line that was torn is left out."""
    if path is None or not path.exists():
        return {}
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    return {one["seed"]: (DrillResult(**one), None if calm is None else DrillResult(**calm)) for one, calm in found}


def played(seeds: Iterable[int], workers: int, path: Path | None) -> list[tuple[DrillResult, DrillResult | None]]:
    """Return the results of these seeds in order, each written to the record as soon as it is there."""
    wanted = list(seeds)
    known = recorded(path)
    with Pool(workers) as pool:
        for one, calm in pool.imap(play, [seed for seed in wanted if seed not in known]):
            known[one.seed] = (one, calm)
            if path is not None:
                with path.open("a", encoding="utf-8") as record:
                    record.write(json.dumps([asdict(one), None if calm is None else asdict(calm)]) + "\n")
    return [known[seed] for seed in wanted]


def tell(results: list[tuple[DrillResult, DrillResult | None]]) -> None:
    """Print what came of them."""
    faulty = [one for one, _ in results]
    broken = [one for one in faulty if one.broken]
    lost = sorted(one.lost_share for one in faulty)
    print(f"{len(faulty)} seeds, in {sum(is_forgetful(one.seed) for one in faulty)} no token is remembered; rules broken in {len(broken)}")
    for one in broken[:10]:
        print(f"  seed {one.seed}: {'; '.join(one.broken[:3])}")
    print(f"most rented at once: {max(one.most_usd_per_hour for one in faulty):.2f} of {USD_PER_HOUR:.2f} USD/h allowed")
    print(f"with the spill permitted beside it: at most {max(one.most_with_spill_usd_per_hour for one in faulty):.2f} USD/h")
    print(f"orphans after the heal: {sum(one.orphans for one in faulty)}; restarts {sum(one.restarts for one in faulty)}")
    print(f"purchases: {sum(one.purchases for one in faulty)}; billed {sum(one.billed_usd for one in faulty):.0f} USD")
    quantiles = ", ".join(f"p{round(q * 100)} {lost[min(int(q * len(lost)), len(lost) - 1)]:.2%}" for q in (0.5, 0.9, 0.99))
    overall = sum(one.late for one in faulty) / sum(one.offered for one in faulty)
    calm_runs = [one for _, one in results if one is not None]
    calm = sum(one.late for one in calm_runs) / sum(one.offered for one in calm_runs) if calm_runs else 0.0
    print(f"work outside the SLO: {overall:.2%} overall ({quantiles} of seeds); without faults {calm:.2%}")
    booked = [one.ledger_usd / one.billed_usd for one in faulty if one.billed_usd > 0]
    print(f"ledger over billed: median {statistics.median(booked):.3f}, least {min(booked):.3f}, most {max(booked):.3f}")
    ratios = [one.metered_usd / one.billed_usd for one in faulty if one.billed_usd > 0]
    print(f"metered by the planner over billed: median {statistics.median(ratios):.3f}, least {min(ratios):.3f}, most {max(ratios):.3f}")


def main() -> None:
    """Play and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=DEFAULT_SEEDS)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    started = time.monotonic()
    results = played(range(options.first, options.first + options.seeds), options.workers, options.record)
    print(f"{time.monotonic() - started:.0f} s")
    tell(results)


if __name__ == "__main__":
    main()
