"""A simulated fleet on a virtual clock: a workload, a gateway, and pools of replicas that lead times, failures and prices act on.

Owns the order of things within a fine step and what a frame reports; it must not decide anything, nor read a clock: randomness is a
generator that is passed in. `controlplane.sim.run` drives it with a scaler.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from controlplane.contracts.fleet import Fleet, Tier
from controlplane.contracts.frame import DecisionLine, Frame
from controlplane.contracts.units import from_unix
from controlplane.sim.pools import Market, Pool
from controlplane.sim.router import route
from controlplane.sim.scaler import fill_offers, naive_spill
from controlplane.sim.workload import Workload

DEFAULT_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class WorldSettings:
    """What the policy does not say about the world. `shed`: work that cannot be served in time is lost instead of waiting on.

    `decision_seconds` None: the fleet's tick. `patience_seconds` None: the SLO's TTFT, 10 s where it states none.
    `initial` None: the replicas that carry the first minute's mean. `outages` are (from, to) unix seconds without a demand figure.
    """

    decision_seconds: float | None = None
    shed: bool = False
    patience_seconds: float | None = None
    markets: Mapping[str, Market] = field(default_factory=dict)
    initial: Mapping[str, int] | None = None
    outages: tuple[tuple[float, float], ...] = ()


@dataclass(slots=True)
class Interval:
    """What came of the work of one decision interval, in units of work; `backlog` is at its end."""

    seconds: float = 0.0
    offered: float = 0.0
    on_time: float = 0.0
    late: float = 0.0
    spilled: float = 0.0
    backlog: float = 0.0
    known: bool = True


class World:
    """One fleet, served step by step. `advance` serves one decision interval, `frame` reports it, `apply` takes the answer."""

    def __init__(self, fleet: Fleet, workload: Workload, settings: WorldSettings, rng: np.random.Generator) -> None:
        self.fleet = fleet
        self.workload = workload
        self.settings = settings
        self.now_unix = workload.start_unix
        self.spilled_usd = 0.0
        self.last = Interval()
        streams = rng.spawn(len(fleet.offers))
        self.pools = [
            Pool(offer, settings.markets.get(offer.name, Market()), own) for offer, own in zip(fleet.offers, streams, strict=True)
        ]
        self._offered: list[float] = workload.offered_per_second.tolist()
        self._known: list[bool] = workload.known.tolist()
        self._step = 0
        self._interruptible = any(pool.market.interrupts for pool in self.pools)
        seconds = settings.decision_seconds or fleet.tick_seconds
        self._steps_per_interval = max(1, round(seconds / workload.step_seconds))
        self._patience = settings.patience_seconds or fleet.slo.ttft_seconds or DEFAULT_PATIENCE_SECONDS
        self._backlog = 0.0
        self._spill_per_second = naive_spill(fleet)  # until the first decision the gateway is on its own
        first = float(np.mean(self._offered[: max(1, round(60.0 / workload.step_seconds))]))
        initial = settings.initial if settings.initial is not None else fill_offers(fleet, first)
        for pool in self.pools:
            pool.warm(initial.get(pool.offer.name, 0), self.now_unix)

    @property
    def over(self) -> bool:
        """Whether all work has been offered."""
        return self._step >= self.workload.steps

    def apply(self, decision: DecisionLine) -> None:
        """Buy and give back until every offer named holds its target, and let the gateway spill up to the allowance."""
        for pool in self.pools:
            target = decision.targets.get(pool.offer.name)
            if target is not None:
                pool.aim(target, self.now_unix)
        self._spill_per_second = decision.spill_per_second if self.fleet.spill is not None else 0.0

    def advance(self) -> Interval:
        """Serve one decision interval (the last one may be shorter) and return what came of it."""
        step_seconds = self.workload.step_seconds
        end = min(self._step + self._steps_per_interval, self.workload.steps)
        offered_sum = on_time = late = spilled = 0.0
        backlog, patience, allowance, shed = self._backlog, self._patience, self._spill_per_second, self.settings.shed
        capacity, next_event = 0.0, float("-inf")
        for offered in self._offered[self._step : end]:
            if self.now_unix + 1e-9 >= next_event or self._interruptible:
                capacity, next_event = self._boot(step_seconds)
            offered_sum += offered * step_seconds
            if backlog <= 0.0 and offered <= capacity:
                on_time += offered * step_seconds
            else:
                served = route(backlog, offered, capacity, patience, allowance, step_seconds, shed)
                on_time += served[0]
                late += served[1]
                spilled += served[2]
                backlog = served[3]
            self.now_unix += step_seconds
        for pool in self.pools:
            pool.settle(self.now_unix)
        known = any(self._known[self._step : end]) and not self._blind()
        seconds = (end - self._step) * step_seconds
        self._step, self._backlog = end, backlog
        if self.fleet.spill is not None:
            self.spilled_usd += spilled * self.fleet.spill.usd_per_unit
        self.last = Interval(seconds, offered_sum, on_time, late, spilled, backlog, known)
        return self.last

    def _boot(self, seconds: float) -> tuple[float, float]:
        """Let every pool come to the present; return what is ready to carry and when the next replica boots."""
        capacity, next_event = 0.0, float("inf")
        for pool in self.pools:
            pool.boot(self.now_unix)
            if pool.market.interrupts:
                pool.interrupt(self.now_unix, seconds)
            capacity += len(pool.ready) * pool.offer.capacity_per_second
            next_event = min(next_event, pool.next_event_unix)
        return capacity, next_event

    def frame(self) -> Frame:
        """Return what a scaler may know at the end of the interval just served."""
        last = self.last
        rate = 1.0 / last.seconds if last.seconds else 0.0
        ready = {pool.offer.name: len(pool.ready) for pool in self.pools}
        pending = {pool.offer.name: len(pool.pending) for pool in self.pools if pool.pending}
        prices = {pool.offer.name: pool.price(self.now_unix) for pool in self.pools if pool.market.usd_per_replica_hour}
        return Frame(
            fleet=self.fleet.name,
            time=from_unix(self.now_unix),
            demand=last.offered * rate if last.known else None,
            backlog=last.backlog if last.known else None,
            ready=ready,
            pending=pending,
            unavailable=tuple(pool.offer.name for pool in self.pools if pool.refused),
            prices=prices,
            served=last.on_time * rate if last.known else None,
            late=last.late * rate if last.known else None,
            spilled=last.spilled * rate if last.known else None,
        )

    def capacity_per_second(self, tier: Tier) -> float:
        """Return what the ready replicas of a tier carry."""
        return math.fsum(len(pool.ready) * pool.offer.capacity_per_second for pool in self.pools if pool.offer.tier is tier)

    def paid_usd(self, tier: Tier) -> float:
        """Return what a tier has cost so far."""
        if tier is Tier.SPILL:
            return self.spilled_usd
        return math.fsum(pool.paid_usd for pool in self.pools if pool.offer.tier is tier)

    def _blind(self) -> bool:
        return any(since < self.now_unix <= until for since, until in self.settings.outages)
