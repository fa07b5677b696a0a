"""How long one decision takes: one fleet with three offers, and one tick of many fleets with six offers each.

Run `python benchmarks/decide_speed.py [FLEETS]`; it prints microseconds per decision and seconds per tick. It asserts nothing.
"""

import sys
from dataclasses import replace
from time import process_time

import numpy as np

from controlplane.contracts.fleet import Fleet, Offer, Slo, Spill, Tier, Unit
from policies.decide import decide, start_memory
from policies.view import OfferView, Outlook, View

HORIZONS = np.array([60, 120, 300, 480, 600, 900, 1200, 1800, 2700, 3600, 5400, 7200, 10800, 14400, 21600, 43200, 86400, 172800.0])
QUANTILES = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.995, 0.999])


def fleet_of(name: str, burst_offers: int) -> Fleet:
    """Return a fleet with one floor, `burst_offers` rented offers of rising price, and spill at three times the cheapest."""
    floor = Offer("reserved", Tier.FLOOR, 10.0, 4, 8, 20.0, 180.0)
    burst = [Offer(f"burst-{i}", Tier.BURST, 10.0, 0, 40, 36.0 + 4 * i, 480.0, 600.0) for i in range(burst_offers)]
    return Fleet(name, Slo(0.995), Unit.REQUESTS, (floor, *burst), Spill("hosted", 3 * 36.0 / 36000.0))


def outlook_of(level: float) -> Outlook:
    """Return a forecast whose spread grows with the horizon."""
    spread = 0.05 + 0.1 * np.sqrt(HORIZONS / 3600.0)
    demand = level * np.exp(spread[:, None] * (QUANTILES[None, :] - 0.5) * 4.0)
    return Outlook(HORIZONS, QUANTILES, demand, np.maximum.accumulate(demand, axis=0))


def run(fleets: int, burst_offers: int, ticks: int) -> float:
    """Return the seconds that one decision takes, over `ticks` ticks of wandering demand for each fleet."""
    rng = np.random.default_rng(7)
    outlooks = [outlook_of(float(level)) for level in 150.0 * np.exp(0.1 * rng.standard_normal(ticks))]
    seconds = 0.0
    for number in range(fleets):
        fleet = fleet_of(f"f{number}", burst_offers)
        held = {offer.name: (8 if offer.tier is Tier.FLOOR else 3) for offer in fleet.offers}
        memory = start_memory(0.0)
        for tick, outlook in enumerate(outlooks):
            offers = tuple(
                OfferView(offer, ready=held[offer.name], usd_per_replica_hour=offer.usd_per_replica_hour) for offer in fleet.offers
            )
            view = View(15.0 * (tick + 1), fleet, offers, outlook, demand_per_second=150.0, demand_age_seconds=0.0)
            view = replace(view, late_share=0.001, spilled_per_second=0.0)
            begun = process_time()
            verdict, memory = decide(view, memory)
            seconds += process_time() - begun
            held = dict(verdict.targets)
    return seconds / (fleets * ticks)


def main() -> None:
    """Print both figures."""
    fleets = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    run(1, 2, 200)
    print(f"one fleet, 3 offers: {run(1, 2, 2000) * 1e6:.0f} us per decision")
    each = run(200, 5, 5)
    print(f"one tick of {fleets} fleets x 6 offers: {each * fleets:.2f} s ({each * 1e6:.0f} us per decision)")


if __name__ == "__main__":
    main()
