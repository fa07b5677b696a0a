"""What a simulated world asks of an autoscaler, tidegate and its peers alike: one decision line per frame.

Owns the protocol and the plumbing that a simple scaler needs; it must not know a world. `baselines_hpa` and its siblings implement it;
the pipeline's own adapter lives with the pipeline's callers.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from controlplane.contracts.events import Launch
from controlplane.contracts.fleet import Fleet, Offer, Tier
from controlplane.contracts.frame import DecisionLine, Frame

UNLIMITED_PER_SECOND = 1e12


class Scaler(Protocol):
    """An autoscaler of one fleet. It sees frames and announced launches only, never the world."""

    def decide(self, frame: Frame) -> DecisionLine:
        """Answer one frame with absolute targets and a spill allowance."""
        ...

    def announce(self, launch: Launch) -> None:
        """Take in an announced launch; a scaler that has no use for it does nothing."""
        ...


ScalerFactory = Callable[[Fleet], Scaler]


def answer(frame: Frame, targets: Mapping[str, int], spill_per_second: float, reasons: tuple[str, ...] = ()) -> DecisionLine:
    """Return the decision line for a frame."""
    return DecisionLine(fleet=frame.fleet, time=frame.time, targets=dict(targets), spill_per_second=spill_per_second, reasons=reasons)


def naive_spill(fleet: Fleet) -> float:
    """Return the allowance of a naive router: whatever would miss the SLO is spilled, up to the endpoint's own limit."""
    if fleet.spill is None:
        return 0.0
    return fleet.spill.max_per_second if fleet.spill.max_per_second is not None else UNLIMITED_PER_SECOND


def fill_offers(fleet: Fleet, work_per_second: float) -> dict[str, int]:
    """Return targets whose capacity is at least `work_per_second`: the floor in full, then burst, the cheapest per unit of work first."""
    targets: dict[str, int] = {}
    left = work_per_second
    for offer in fleet.tier(Tier.FLOOR):
        targets[offer.name] = offer.max_replicas
        left -= offer.max_replicas * offer.capacity_per_second
    for offer in sorted(fleet.tier(Tier.BURST), key=usd_per_unit):
        lots = -(-max(0.0, left - 1e-9) // (offer.capacity_per_second * offer.replicas_per_lot))
        count = max(offer.min_replicas, min(offer.max_replicas, int(lots) * offer.replicas_per_lot))
        targets[offer.name] = count
        left -= count * offer.capacity_per_second
    return targets


def usd_per_unit(offer: Offer) -> float:
    """Return what an offer's work costs at full use, USD per (unit per second) and hour; an unknown price is the ceiling, or infinite."""
    usd = offer.usd_per_replica_hour if offer.usd_per_replica_hour is not None else offer.ceiling_usd_per_replica_hour
    return float("inf") if usd is None else usd / offer.capacity_per_second
