"""What it costs to be wrong about an offer, and what learning it saves: lead times and capacities that the policy states wrongly.

Run `python benchmarks/learnt_offers.py [TRACE [DAYS]]`; it prints a row for each policy and asserts nothing. The world keeps its own lead
time (30 min) and capacity throughout; only what the policy says of them changes.
"""

import sys
from dataclasses import replace

from controlplane.config import environment_variables
from controlplane.contracts.fleet import Fleet, Offer, Tier
from controlplane.sim.bench_cases import Built, Case, build
from controlplane.sim.pipeline_scaler import PipelineScaler
from controlplane.sim.run import run
from controlplane.traces.library import data_folders

LEAD_SECONDS, PRIOR_SECONDS = 1800.0, 600.0


def told(fleet: Fleet, lead_seconds: float = LEAD_SECONDS, learns: bool = False, times: float = 1.0, corrects: bool = False) -> Fleet:
    """Return the fleet as a policy describes it that states these lead times and capacities."""

    def as_told(offer: Offer) -> Offer:
        offer = replace(offer, capacity_per_second=times * offer.capacity_per_second)
        return replace(offer, lead_time_seconds=lead_seconds, learns_lead_time=learns) if offer.tier is Tier.BURST else offer

    return replace(fleet, offers=tuple(as_told(offer) for offer in fleet.offers), corrects_capacity=corrects)


def row(name: str, built: Built, fleet: Fleet) -> str:
    """Run one policy and return its line."""
    done = run(name, PipelineScaler(fleet), built.fleet, built.workload, built.settings, seed=built.case.seed)
    spilled = done.spilled / done.offered
    figures = f"{done.cost_usd:10,.0f} USD  within SLO {done.attainment:7.2%}  spilled {spilled:6.2%}"
    return f"{name:34} {figures}  changes/day {done.scale_events_per_day:4.0f}"


def main() -> None:
    """Print both tiers' rows."""
    trace = sys.argv[1] if len(sys.argv) > 1 else "azure_llm_2024_code_week_10min"
    days = float(sys.argv[2]) if len(sys.argv) > 2 else 7.0
    for spill in (True, False):
        case = Case(trace, LEAD_SECONDS, spill=spill, attainment=0.99, max_days=days)
        built = build(case, data_folders(environment_variables()))
        print(f"{case.name}, {days:g} days")
        policies = {
            "all as it is": told(built.fleet),
            "lead time stated as 10 min": told(built.fleet, PRIOR_SECONDS),
            "leadTime: auto": told(built.fleet, PRIOR_SECONDS, learns=True),
            "capacity stated 1.3 times": told(built.fleet, times=1.3),
            "the same with correctCapacity": told(built.fleet, times=1.3, corrects=True),
            "capacity stated 0.8 times": told(built.fleet, times=0.8),
            "the same with correctCapacity ": told(built.fleet, times=0.8, corrects=True),
            "all as it is, with correctCapacity": told(built.fleet, corrects=True),
        }
        for name, fleet in policies.items():
            print("  " + row(name, built, fleet), flush=True)


if __name__ == "__main__":
    main()
