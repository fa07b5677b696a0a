"""The Kubernetes Horizontal Pod Autoscaler at a target utilization, and what it costs to own everything or nothing.

Owns the documented algorithm and constants of the HPA (kubernetes.io, "Horizontal Pod Autoscaling") and the plain comparisons; it must
not know a world. `baselines_peers` has the other autoscalers, `controlplane.sim.bench` compares them all.
"""

import math
from collections import deque
from dataclasses import dataclass, field, replace

from controlplane.contracts.events import Launch
from controlplane.contracts.fleet import Fleet, Tier
from controlplane.contracts.frame import DecisionLine, Frame
from controlplane.sim.scaler import ScalerFactory, answer, fill_offers, naive_spill, usd_per_unit
from controlplane.sim.workload import Workload

HPA_SYNC_SECONDS = 15.0
HPA_TOLERANCE = 0.1
HPA_STABILIZATION_SECONDS = 300.0
HPA_STEP_PODS = 4
HPA_STEP_SHARE = 1.0
DEFAULT_TARGET = 0.70
DRAIN_SECONDS = 60.0


class WindowMaximum:
    """The largest value of the last `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._values: deque[tuple[float, float]] = deque()

    def push(self, now_unix: float, value: float) -> float:
        """Add a value and return the window's largest."""
        while self._values and self._values[-1][1] <= value:
            self._values.pop()
        self._values.append((now_unix, value))
        while self._values[0][0] < now_unix - self._seconds:
            self._values.popleft()
        return self._values[0][1]


@dataclass(slots=True)
class Hpa:
    """`ceil(current x metric / target)` on offered work per capacity, counted in replicas of the burst offer.

    Its metric is offered and waiting work, which do not saturate: a stronger choice for it than utilization. Pending replicas count as
    replicas without load, as the HPA counts pods that are not ready. No metric: it stays where it is.
    """

    fleet: Fleet
    target: float = DEFAULT_TARGET
    stabilization_seconds: float = HPA_STABILIZATION_SECONDS
    tolerance: float = HPA_TOLERANCE
    _unit: float = 0.0
    _spill: float = 0.0
    _before_unix: float | None = None
    _window: WindowMaximum = field(default_factory=lambda: WindowMaximum(HPA_STABILIZATION_SECONDS))

    def __post_init__(self) -> None:
        """Count in replicas of the cheapest burst offer, of the floor where nothing is rented."""
        self._unit = replica_capacity(self.fleet)
        self._spill = naive_spill(self.fleet)
        self._window = WindowMaximum(self.stabilization_seconds)

    def decide(self, frame: Frame) -> DecisionLine:
        """Answer one frame, applying as many 15-second syncs as have passed."""
        now = frame.time.timestamp()
        elapsed = HPA_SYNC_SECONDS if self._before_unix is None else now - self._before_unix
        self._before_unix = now
        load = load_of(frame)
        if load is None:
            return answer(frame, {}, self._spill)
        current = held_capacity(self.fleet, frame) / self._unit
        wanted = load / self._unit / self.target
        if current > 0 and abs(wanted / current - 1.0) <= self.tolerance:
            wanted = current
        else:
            wanted = math.ceil(wanted - 1e-9)
        for _ in range(max(1, min(20, round(elapsed / HPA_SYNC_SECONDS)))):
            highest = max(current + HPA_STEP_PODS, current * (1.0 + HPA_STEP_SHARE)) if wanted > current else current
            if wanted <= highest:
                break
            current = highest
        else:
            wanted = min(wanted, current)
        stable = self._window.push(now, wanted)
        return answer(frame, fill_offers(self.fleet, stable * self._unit), self._spill)

    def announce(self, launch: Launch) -> None:
        """Know nothing of launches."""


@dataclass(slots=True)
class Static:
    """Always the same capacity."""

    fleet: Fleet
    work_per_second: float

    def decide(self, frame: Frame) -> DecisionLine:
        """Answer with the fixed targets."""
        return answer(frame, fill_offers(self.fleet, self.work_per_second), naive_spill(self.fleet))

    def announce(self, launch: Launch) -> None:
        """Know nothing of launches."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Something to compare with: a name, the fleet it is given (a tier may be taken away) and how its scaler is made."""

    name: str
    fleet: Fleet
    scaler: ScalerFactory


def hpa(target: float = DEFAULT_TARGET) -> ScalerFactory:
    """Return a factory of HPAs at one target utilization."""
    return lambda fleet: Hpa(fleet, target)


def without_spill(fleet: Fleet) -> Fleet:
    """Return the fleet with nothing to spill to."""
    return replace(fleet, spill=None)


def without_floor(fleet: Fleet) -> Fleet:
    """Return the fleet with nothing reserved: the cheapest burst offer may grow by what the floor carried; no spill."""
    burst = sorted(fleet.tier(Tier.BURST), key=usd_per_unit)
    if not burst:
        return without_spill(fleet)
    floor = sum(offer.capacity_per_second * offer.max_replicas for offer in fleet.tier(Tier.FLOOR))
    more = math.ceil(floor / burst[0].capacity_per_second)
    grown = replace(burst[0], max_replicas=burst[0].max_replicas + more)
    offers = tuple(grown if offer is burst[0] else offer for offer in fleet.tier(Tier.BURST))
    return replace(fleet, offers=offers, spill=None)


def comparisons(fleet: Fleet, workload: Workload, target: float = DEFAULT_TARGET) -> tuple[Comparison, ...]:
    """Return what `tidegate simulate` and the demo compare with.

    The HPA over floor and burst; the same behind a gateway that spills naively, where the fleet has a spill tier; the same HPA renting
    everything; and the capacity of the workload's largest minute, held throughout.
    """
    percent = f"{target:.0%}"
    plain = [Comparison(f"HPA {percent}", without_spill(fleet), hpa(target))]
    if fleet.spill is not None:
        plain.append(Comparison(f"HPA {percent} + naive spill", fleet, hpa(target)))
    peak = peak_minute(workload)
    rented = Comparison(f"all on demand, HPA {percent}", without_floor(fleet), hpa(target))
    static = Comparison("static peak", without_spill(fleet), lambda chosen: Static(chosen, peak))
    return (*plain, rented, static)


def peak_minute(workload: Workload) -> float:
    """Return the largest one-minute mean of offered work per second."""
    width = max(1, round(60.0 / workload.step_seconds))
    offered = workload.offered_per_second
    rows = max(1, len(offered) // width)
    return float(offered[: rows * width].reshape(rows, -1).mean(axis=1).max()) if len(offered) >= width else float(offered.max())


def load_of(frame: Frame) -> float | None:
    """Return the load that a peer sees: offered work and what waits, to be drained within a minute, as requests in flight show both."""
    return None if frame.demand is None else frame.demand + (frame.backlog or 0.0) / DRAIN_SECONDS


def replica_capacity(fleet: Fleet) -> float:
    """Return the capacity that a peer counts as one replica: the cheapest burst offer's, else the floor's."""
    burst = sorted(fleet.tier(Tier.BURST), key=usd_per_unit)
    return (burst or list(fleet.offers))[0].capacity_per_second


def held_capacity(fleet: Fleet, frame: Frame) -> float:
    """Return what ready and pending replicas will carry together."""
    return sum((frame.ready.get(o.name, 0) + frame.pending.get(o.name, 0)) * o.capacity_per_second for o in fleet.offers)
