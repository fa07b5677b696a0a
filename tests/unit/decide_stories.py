"""Builders for stories about decisions: a small fleet, forecasts that say what will be, and a world that does as it is told.

Owns no assertion. One replica carries 10 units of work per second everywhere, so demand divided by ten is replicas.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from controlplane.contracts.fleet import Behavior, Budget, Fleet, Guard, Mode, Offer, Slo, Spill, Tier, Unit
from policies.decide import Verdict, decide, start_memory
from policies.view import Memory, OfferView, Outlook, View

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
HORIZONS = np.array([60, 120, 300, 480, 600, 900, 1200, 1800, 2700, 3600, 5400, 7200, 10800, 14400, 21600, 43200, 86400, 172800.0])
QUANTILES = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.995, 0.999])
CAPACITY = 10.0
BURST_USD = 36.0
SPILL_USD = 3 * BURST_USD / (CAPACITY * HOUR)
START = 20_000 * DAY

RESERVED = Offer("reserved", Tier.FLOOR, CAPACITY, 2, 4, 20.0, 180.0)
BURST = Offer("burst", Tier.BURST, CAPACITY, 0, 40, BURST_USD, 8 * MINUTE, 10 * MINUTE)
DEARER = replace(BURST, name="dearer", usd_per_replica_hour=48.0)
HOSTED = Spill("hosted", SPILL_USD)


def fleet_of(
    *offers: Offer,
    spill: Spill | None = HOSTED,
    attainment: float = 0.995,
    behavior: Behavior | None = None,
    budget: Budget | None = None,
    **guard: Any,
) -> Fleet:
    """Return a fleet of these offers, one floor and one burst by default."""
    return Fleet(
        "r1",
        Slo(attainment),
        Unit.REQUESTS,
        offers or (RESERVED, BURST),
        spill,
        behavior=behavior or Behavior(),
        guard=Guard(mode=Mode.ACT, budget=budget or Budget(), **guard),
    )


def outlook_of(at: Callable[[float], float], now: float = 0.0, spread: float = 0.0) -> Outlook:
    """Return the forecast of a demand known up to a uniform spread: quantile q is at(time) * (1 + spread * (2q - 1))."""
    level = np.array([at(now + horizon) for horizon in HORIZONS])
    demand = level[:, None] * (1.0 + spread * (2.0 * QUANTILES[None, :] - 1.0))
    return Outlook(HORIZONS, QUANTILES, demand, np.maximum.accumulate(demand, axis=0))


def flat(level: float, spread: float = 0.0) -> Outlook:
    """Return the forecast that demand stays what it is."""
    return outlook_of(lambda _: level, spread=spread)


def view_of(
    fleet: Fleet,
    outlook: Outlook | None,
    held: dict[str, int] | None = None,
    *,
    minute: float = 0.0,
    pending: dict[str, int] | None = None,
    prices: dict[str, float | None] | None = None,
    stock: dict[str, int] | None = None,
    unavailable: tuple[str, ...] = (),
    **world: Any,
) -> View:
    """Return the world at a minute of the story; `held` is ready replicas by offer, nothing where left out."""
    offers = tuple(
        OfferView(
            offer,
            (held or {}).get(offer.name, 0),
            (pending or {}).get(offer.name, 0),
            (prices or {}).get(offer.name, offer.usd_per_replica_hour),
            (stock or {}).get(offer.name),
            offer.name in unavailable,
        )
        for offer in fleet.offers
    )
    world = {"demand_age_seconds": 0.0, "demand_per_second": 0.0 if outlook is None else float(outlook.demand[0].mean()), **world}
    return View(START + minute * MINUTE, fleet, offers, outlook, **world)


@dataclass
class Scene:
    """A world that boots what is asked for after its lead time, and lets go what is given back. `demand(minute)` is what comes."""

    fleet: Fleet
    demand: Callable[[float], float]
    spread: float = 0.1
    held: dict[str, int] = field(default_factory=dict)
    booting: dict[str, list[float]] = field(default_factory=dict)
    memory: Memory = field(default_factory=lambda: start_memory(START))
    spilled: float = 0.0

    def at(self, minute: float, **world: Any) -> Verdict:
        """Decide at a minute, and let the world follow."""
        for name, since in self.booting.items():
            lead = self.fleet.offer_by_name[name].lead_time_seconds / MINUTE
            self.held[name] = self.held.get(name, 0) + sum(minute - asked >= lead for asked in since)
            self.booting[name] = [asked for asked in since if minute - asked < lead]
        pending = {name: len(since) for name, since in self.booting.items()}
        outlook = outlook_of(lambda seconds: self.demand(minute + seconds / MINUTE), spread=self.spread)
        seen = {"outlook": outlook, "demand_per_second": self.demand(minute), "minute": minute, "pending": pending, **world}
        verdict, self.memory = decide(view_of(self.fleet, held=dict(self.held), **seen), self.memory)
        for name, target in verdict.targets.items():
            self._aim(name, target, minute)
        return verdict

    def _aim(self, name: str, target: int, minute: float) -> None:
        booting, held = self.booting.setdefault(name, []), self.held.get(name, 0)
        booting.extend([minute] * (target - held - len(booting)))
        del booting[max(target - held, 0) :]
        self.held[name] = min(held, target)

    def run(self, first: float, last: float, every: float = 1.0, **world: Any) -> Iterator[tuple[float, Verdict]]:
        """Decide from the first minute to the last one."""
        minute = first
        while minute <= last:
            yield minute, self.at(minute, **world)
            minute += every
