"""Machines that hold a whole lot: how one rented machine is `replicas_per_lot` replicas, and back.

Owns the naming of a machine's replicas; suppliers that rent machine by machine share it. It must not talk to anyone.
"""

from dataclasses import dataclass

from actuators.holdings import Holding, HoldingState
from controlplane.contracts.fleet import Offer


@dataclass(frozen=True, slots=True)
class Rented:
    """One machine as a supplier lists it. `usd_per_hour` is the machine's, None: not told."""

    id: str
    token: str
    state: HoldingState
    requested_unix: float
    ready_unix: float | None = None
    held_until_unix: float = 0.0
    usd_per_hour: float | None = None


def machines_in(count: int, offer: Offer) -> int:
    """Return how many machines `count` replicas are; a count that is not whole lots is rounded down."""
    return count // offer.replicas_per_lot


def replicas_of(machine: str, offer: Offer) -> tuple[str, ...]:
    """Return the ids of a machine's replicas: its own where it is one replica, `i-0abc/0`, `i-0abc/1`, … where it is several."""
    lot = offer.replicas_per_lot
    return (machine,) if lot == 1 else tuple(f"{machine}/{index}" for index in range(lot))


def machine_of(replica: str) -> str:
    """Return the machine that a replica is on."""
    return replica.partition("/")[0]


def holdings_of(machine: Rented, offer: Offer) -> tuple[Holding, ...]:
    """Return a machine as the holdings of its lot, its price shared among them."""
    return tuple(
        Holding(
            id=replica,
            lot=machine.id,
            token=machine.token,
            state=machine.state,
            requested_unix=machine.requested_unix,
            ready_unix=machine.ready_unix if machine.state is HoldingState.READY else None,
            held_until_unix=machine.held_until_unix,
            usd_per_hour=(machine.usd_per_hour or 0.0) / offer.replicas_per_lot,
        )
        for replica in replicas_of(machine.id, offer)
    )
