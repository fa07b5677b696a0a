"""Rigs of the actuators' contract suite: an actuator, and power over the supplier behind it, for each kind in the registry."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import httpx

from actuators.api import Actuator
from actuators.market import MarketActuator, MarketSettings
from actuators.simulated import simulated_actuator, simulated_supplier
from controlplane.contracts.fleet import Offer, Tier
from controlplane.sim.cloud import Cloud, application
from controlplane.sim.cloud_config import CloudConfig, OfferWorld
from controlplane.sim.cloud_ledger import Bought, Configured, LedgerFile
from controlplane.sim.cloud_model import ReplicaState
from controlplane.sim.invariants import bought_twice
from tests.contract.aws_rig import aws_rig
from tests.contract.cloud_rigs import MarketIntentStore, cloud_rig
from tests.fakes import FakeWall, MemoryIntentStore, Wire
from tests.kube.rig import kubernetes_rig

LEAD_SECONDS = 480.0
LAG_SECONDS = 60.0


class Rig(Protocol):
    """An actuator, the offer to act on, and power over the world behind it."""

    offer: Offer
    store: MemoryIntentStore

    def actuator(self) -> Actuator:
        """Return a fresh instance, as after a restart."""
        ...

    def advance(self, seconds: float) -> None:
        """Let the supplier's time pass."""
        ...

    def limit_stock(self, replicas: int) -> None:
        """Say how many replicas the supplier has in all."""
        ...

    def cut(self, is_cut: bool) -> None:
        """Make the supplier unreachable, or reachable."""
        ...

    def lose_purchase_replies(self, is_lost: bool) -> None:
        """Let purchases be made and their replies be lost."""
        ...

    def held(self) -> dict[str, int]:
        """Return what the supplier really holds for the fleet, by state."""
        ...

    def purchases(self) -> int:
        """Return how many purchases the supplier ever recorded."""
        ...

    def calls(self) -> int:
        """Return how many calls reached out so far."""
        ...

    def check(self) -> None:
        """Assert the supplier's own invariants."""
        ...


@runtime_checkable
class Refusing(Protocol):
    """A rig whose supplier can refuse to sell, whatever it sold before."""

    def refuse_purchases(self, is_refused: bool) -> None:
        """Let every purchase be refused, those under a token that it knows too."""
        ...


@dataclass
class SimulatedRig:
    """The simulated cloud in this process, on a clock moved by hand, behind a wire that can be cut."""

    folder: Path
    offer: Offer
    world: OfferWorld
    store: MemoryIntentStore = field(default_factory=MemoryIntentStore)
    wall: FakeWall = field(default_factory=FakeWall)

    def __post_init__(self) -> None:
        config = CloudConfig(offers={self.sold_as: self.world})
        self.cloud = Cloud(LedgerFile(self.folder / "ledger.jsonl"), config, seed=7, speed=1.0, start_unix=None, wall=self.wall)
        self.wire = Wire(httpx.ASGITransport(application(self.cloud)))

    @property
    def sold_as(self) -> str:
        """The offer's name at the cloud."""
        return self.offer.name

    def actuator(self) -> Actuator:
        return simulated_actuator("http://cloud", self.store, transport=self.wire)

    def advance(self, seconds: float) -> None:
        self.wall.advance(seconds)

    def limit_stock(self, replicas: int) -> None:
        self.change_world(stock_replicas=replicas)

    def change_world(self, **changes: float) -> None:
        self.world = self.world.model_copy(update=changes)
        config = CloudConfig(offers={self.sold_as: self.world})
        self.cloud.record(Configured(time_unix=self.cloud.now(), config=config))

    def cut(self, is_cut: bool) -> None:
        self.wire.is_cut = is_cut

    def lose_purchase_replies(self, is_lost: bool) -> None:
        self.wire.lose_replies_to = "POST" if is_lost else ""

    def refuse_purchases(self, is_refused: bool) -> None:
        self.wire.refuses = "POST" if is_refused else ""

    def held(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for replica in self.cloud.market.replicas.values():
            state = replica.state(self.cloud.now())
            if state is not ReplicaState.RELEASED:
                counts[state.value] = counts.get(state.value, 0) + 1
        return counts

    def purchases(self) -> int:
        return sum(isinstance(entry, Bought) for entry in self.cloud.entries)

    def calls(self) -> int:
        return len(self.wire.requests)

    def check(self) -> None:
        assert bought_twice(self.cloud.entries) == ()


RigMaker = Callable[..., Rig]


def offer_with(**changes: object) -> Offer:
    plain = Offer(
        name="rented-h200",
        tier=Tier.BURST,
        capacity_per_second=10.0,
        min_replicas=0,
        max_replicas=40,
        usd_per_replica_hour=60.0,
        lead_time_seconds=LEAD_SECONDS,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


@dataclass
class MarketRig(SimulatedRig):
    """A market of one simulated cloud."""

    def actuator(self) -> Actuator:
        supplier = simulated_supplier("http://cloud", transport=self.wire)
        return MarketActuator({"solo": supplier}, self.store, MarketSettings(banned_for_seconds=0.0), self.wall)

    @property
    def sold_as(self) -> str:
        return f"{self.offer.name}--solo"


def _simulated(folder: Path, offer: Offer, *, start_failure_share: float = 0.0) -> Rig:
    return SimulatedRig(folder, offer, _world(offer, start_failure_share))


def _world(offer: Offer, start_failure_share: float) -> OfferWorld:
    return OfferWorld(
        usd_per_replica_hour=60.0,
        lead_time_seconds=LEAD_SECONDS,
        lead_time_sigma=0.0,
        hold_seconds=offer.hold_seconds,
        replicas_per_lot=offer.replicas_per_lot,
        listing_lag_seconds=LAG_SECONDS,
        start_failure_share=start_failure_share,
    )


def _market(folder: Path, offer: Offer, *, start_failure_share: float = 0.0) -> Rig:
    rig = MarketRig(folder, offer, _world(offer, start_failure_share), MarketIntentStore())
    return rig


def _lambda(folder: Path, offer: Offer, *, start_failure_share: float = 0.0) -> Rig:
    return cloud_rig("lambda", offer, start_failure_share)


def _runpod(folder: Path, offer: Offer, *, start_failure_share: float = 0.0) -> Rig:
    return cloud_rig("runpod", offer, start_failure_share)


RIGS: dict[str, RigMaker] = {"aws": aws_rig, "kubernetes": kubernetes_rig, "market": _market, "simulated": _simulated}
# What a market buys from: no kinds of their own, and held to the same suite.
SUPPLIER_RIGS: dict[str, RigMaker] = {"lambda": _lambda, "runpod": _runpod}
