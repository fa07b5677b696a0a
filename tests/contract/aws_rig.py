"""The rig of the aws actuator: an EC2 API over HTTP, on a clock moved by hand."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actuators.api import Actuator
from actuators.aws import TAG_INTENT, AwsSupplier
from actuators.aws_actuator import aws_actuator
from actuators.aws_notices import Notices
from actuators.lots import machines_in
from actuators.readiness import ReadinessProbe
from controlplane.contracts.fleet import Offer
from tests.contract.aws_world import INSTANCE_TYPE, REGION, TEMPLATE, VCPUS, AwsWorld
from tests.fakes import MemoryIntentStore

LEAD_SECONDS = 480.0
LAG_SECONDS = 60.0
WITHIN_SECONDS = LEAD_SECONDS + 20.0


def options_with(world: AwsWorld, **options: Any) -> dict[str, Any]:
    plain = {
        "region": REGION,
        "instance_types": [INSTANCE_TYPE],
        "purchase": "onDemand",
        "launch_template": TEMPLATE,
        "launch_template_version": "$Default",
        "subnet_ids": [],
        "readiness": {"url": f"{world.url}/ready/{{id}}", "within_seconds": WITHIN_SECONDS},
    }
    return {**plain, **options}


def tags_in(instance: Any) -> dict[str, str]:
    """Return the tags that moto holds for an instance."""
    return {tag["key"]: tag["value"] for tag in instance.get_tags()}


@dataclass
class AwsRig:
    """One fleet's offer on one region."""

    offer: Offer
    store: MemoryIntentStore = field(default_factory=MemoryIntentStore)
    world: AwsWorld = field(default_factory=lambda: AwsWorld(lag_seconds=LAG_SECONDS, lead_seconds=LEAD_SECONDS))
    options: dict[str, Any] = field(default_factory=dict)

    def actuator(self) -> Actuator:
        options = options_with(self.world, **self.options)
        return aws_actuator(options, self.store, api=self.world.api, clock=self.world.wall)

    def advance(self, seconds: float) -> None:
        self.world.wall.advance(seconds)

    def limit_stock(self, replicas: int) -> None:
        self.world.stock = machines_in(replicas, self.offer)
        self.world.quota = self.world.stock * VCPUS

    def cut(self, is_cut: bool) -> None:
        self.world.is_down = is_cut

    def lose_purchase_replies(self, is_lost: bool) -> None:
        self.world.lost_replies = {"CreateFleet"} if is_lost else set()

    def refuse_purchases(self, is_refused: bool) -> None:
        self.world.refusals = {"CreateFleet": ("RequestLimitExceeded", 503)} if is_refused else {}

    def held(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for instance in self.world.instances():
            state = self.world.state_of(instance)
            counts[state] = counts.get(state, 0) + self.offer.replicas_per_lot
        return counts

    def purchases(self) -> int:
        return len(self.world.fleets)

    def calls(self) -> int:
        return len(self.world.calls)

    def check(self) -> None:
        """No intent was ever sold more machines than it asked for, those that have ended since included."""
        sold = Counter(tags_in(instance).get(TAG_INTENT) for instance in self.world.ever())
        for intent in self.store.history:
            assert sold[intent.token] <= machines_in(intent.count, self.offer)


def aws_rig(folder: Path, offer: Offer, *, start_failure_share: float = 0.0) -> AwsRig:
    rig = AwsRig(offer)
    rig.world.starts = start_failure_share == 0.0
    return rig


def supplier(world: AwsWorld, notices: Notices | None = None, **options: object) -> AwsSupplier:
    return AwsSupplier(world.api, options_with(world, **options), ReadinessProbe(None, 0.0), notices, world.wall)
