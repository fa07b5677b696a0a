"""EC2 instances by instant fleets, on demand or spot: several types and subnets in one call, one instance per lot of replicas.

Owns what is asked of EC2 and how its listing reads; it must not remember what was bought: the tags on the instances say whose they are.
`purchasing` acts on it, `aws_api` speaks to AWS, `aws_quotes` knows prices and quotas, `aws_notices` interruptions.
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateFleet.html
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from actuators.api import Intent
from actuators.aws_api import AwsApi, NotThere, most_telling
from actuators.aws_notices import Notices
from actuators.aws_quotes import AwsQuotes
from actuators.holdings import RESERVATION, SLOT, Holding, HoldingState, Listing, Owned
from actuators.lots import Rented, holdings_of, machine_of, machines_in, replicas_of
from actuators.readiness import Machine, ReadinessProbe
from controlplane.contracts.errors import SupplierError
from controlplane.contracts.events import Quote
from controlplane.contracts.fleet import Offer

log = structlog.get_logger(__name__)

TAG_FLEET, TAG_OFFER, TAG_INTENT = "tidegate.dev/fleet", "tidegate.dev/offer", "tidegate.dev/intent"
# On an instance in a capacity block: which place of the block it fills.
TAG_SLOT = "tidegate.dev/slot"
RESERVATION_PREFIX = "cr-"
NOTICES_SECONDS = 5.0
GONE = ("shutting-down", "terminated")
STOPPED = ("stopping", "stopped")


def tags_of(fleet: str, offer: str, token: str) -> list[dict[str, str]]:
    """Return the tags that say whose an instance is, and of which purchase."""
    values = {TAG_FLEET: fleet, TAG_OFFER: offer, TAG_INTENT: token, "Name": f"tidegate-{fleet}-{offer}"}
    return [{"Key": key, "Value": value} for key, value in values.items()]


def ours(fleet: str, offer: str) -> list[dict[str, Any]]:
    """Return the filters that find what is tagged as ours."""
    return [{"Name": f"tag:{TAG_FLEET}", "Values": [fleet]}, {"Name": f"tag:{TAG_OFFER}", "Values": [offer]}]


def tag(resource: Mapping[str, Any], key: str) -> str:
    """Return the value of a tag, "" where there is none."""
    return next((str(entry["Value"]) for entry in resource.get("Tags", ()) if entry["Key"] == key), "")


class AwsSupplier:
    """One region's instances of one purchase option, `onDemand` or `spot`. `clock` is unix seconds, EC2's own to within its error."""

    remembers_tokens = True

    def __init__(
        self,
        api: AwsApi,
        options: Mapping[str, Any],
        probe: ReadinessProbe,
        notices: Notices | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Keep the offer's options; nothing is asked yet."""
        self._api, self._options, self._probe, self._notices, self._clock = api, options, probe, notices, clock
        self._quotes = AwsQuotes(api, options, clock)
        self._leaving: Mapping[str, float] = {}

    async def listing(self, fleet: str, offer: Offer) -> Listing:
        """Return every instance tagged as ours, those that ended within the last hour included."""
        instances = await self._instances(ours(fleet, offer.name))
        now = self._clock()
        await self._hear(instances, now)
        running = [_machine(instance) for instance in instances if instance["State"]["Name"] == "running"]
        readiness = await self._probe.ask(running, now)
        overdue = self._probe.overdue((one["InstanceId"] for one in instances if one["State"]["Name"] == "pending"), now)
        holdings: list[Holding] = []
        for instance in instances:
            answer = readiness.get(instance["InstanceId"])
            state = answer.state if answer is not None else _state(instance)
            if instance["InstanceId"] in overdue:
                state = HoldingState.FAILED
            if state in (HoldingState.READY, HoldingState.PENDING) and instance["InstanceId"] in self._leaving:
                # One whose time is over is given back as what failed is: nobody else ends it after a mere recommendation.
                state = HoldingState.DRAINING if now < self._leaving[instance["InstanceId"]] else HoldingState.FAILED
            requested = instance["LaunchTime"].timestamp()
            since = answer.since_unix if answer is not None else None
            holdings += holdings_of(Rented(instance["InstanceId"], tag(instance, TAG_INTENT), state, requested, since), offer)
        return Listing(now, tuple(holdings))

    async def _hear(self, instances: Sequence[Mapping[str, Any]], now: float) -> None:
        """Read the notices. Where the queue does not answer soon, those heard before count: a notice is a help, a listing goes without."""
        if self._notices is None:
            return
        try:
            async with asyncio.timeout(NOTICES_SECONDS):
                await self._notices.hear(instances, now)
        except (SupplierError, TimeoutError) as error:
            log.warning("not all notices are heard", region=self._options["region"], reason=str(error) or type(error).__name__)
        self._leaving = self._notices.leaving(instances)

    async def _instances(self, filters: Sequence[Mapping[str, Any]]) -> list[Any]:
        reservations = await self._api.pages("ec2", "describe_instances", "Reservations", Filters=list(filters))
        return [instance for reservation in reservations for instance in reservation["Instances"]]

    async def buy(self, intent: Intent, offer: Offer) -> tuple[str, ...]:
        """Launch an instant fleet; what it could not place is a refusal only where it placed nothing at all."""
        answer = await self._api.call("ec2", "create_fleet", **self._fleet_request(intent, offer))
        launched = [machine for group in answer.get("Instances", ()) for machine in group["InstanceIds"]]
        if not launched:
            raise most_telling(answer.get("Errors", ()))
        return tuple(replica for machine in launched for replica in replicas_of(machine, offer))

    def _fleet_request(self, intent: Intent, offer: Offer) -> dict[str, Any]:
        """Return the request; of one intent it is always the same, or EC2 would not take its token again."""
        spot = self._options["purchase"] == "spot"
        template = {"LaunchTemplateName": self._options["launch_template"], "Version": self._options["launch_template_version"]}
        tags = tags_of(intent.fleet, intent.offer, intent.token)
        strategy: dict[str, Any] = {"OnDemandOptions": {"AllocationStrategy": "prioritized"}}
        if spot:
            behaviour = {"AllocationStrategy": "price-capacity-optimized", "InstanceInterruptionBehavior": "terminate"}
            strategy = {"SpotOptions": behaviour}
        return {
            "Type": "instant",
            "ClientToken": intent.token,
            "LaunchTemplateConfigs": [{"LaunchTemplateSpecification": template, "Overrides": self._overrides(offer, spot)}],
            "TargetCapacitySpecification": {
                "TotalTargetCapacity": machines_in(intent.count, offer),
                "DefaultTargetCapacityType": "spot" if spot else "on-demand",
            },
            "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in ("instance", "fleet")],
            **strategy,
        }

    def _overrides(self, offer: Offer, spot: bool) -> list[dict[str, Any]]:
        """Return every type in every subnet; spot is never paid above the policy's ceiling."""
        ceiling = offer.ceiling_usd_per_replica_hour
        limit = {"MaxPrice": f"{ceiling * offer.replicas_per_lot:.6f}"} if spot and ceiling is not None else {}
        places: list[dict[str, Any]] = [{"SubnetId": subnet} for subnet in self._options.get("subnet_ids", ())] or [{}]
        overrides = []
        for rank, kind in enumerate(self._options["instance_types"]):
            order = {} if spot else {"Priority": float(rank)}
            overrides += [{"InstanceType": kind, **place, **limit, **order} for place in places]
        return overrides

    async def release(self, fleet: str, offer: Offer, replica: str) -> None:
        """Terminate the replica's instance, or cancel a reservation that is owned; what is gone already is fine."""
        del fleet, offer
        name = machine_of(replica)
        with contextlib.suppress(NotThere):
            if name.startswith(RESERVATION_PREFIX):
                await self._api.call("ec2", "cancel_capacity_reservation", CapacityReservationId=name)
            else:
                await self._api.call("ec2", "terminate_instances", InstanceIds=[name])

    async def owned(self) -> tuple[Owned, ...]:
        """Return every instance and every capacity reservation of the region that carries our tags and has not ended.

        A capacity block is a reservation too, but paid already and not to be given back, so it is left out.
        """
        ours_all = {"Name": "tag-key", "Values": [TAG_FLEET]}
        instances = await self._instances(
            [ours_all, {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}]
        )
        filters = [ours_all, {"Name": "state", "Values": ["active", "pending"]}]
        reservations = await self._api.pages("ec2", "describe_capacity_reservations", "CapacityReservations", Filters=filters)
        found = [(one, one["InstanceId"], one["LaunchTime"], SLOT if tag(one, TAG_SLOT) else "") for one in instances]
        found += [
            (one, one["CapacityReservationId"], one["CreateDate"], RESERVATION)
            for one in reservations
            if one.get("ReservationType") != "capacity-block"
        ]
        return tuple(Owned(tag(one, TAG_FLEET), tag(one, TAG_OFFER), name, since.timestamp(), form) for one, name, since, form in found)

    async def quote(self, offer: Offer) -> Quote | None:
        """Return the spot price, and how many more replicas the account's quota allows."""
        return await self._quotes.quote(offer)

    async def close(self) -> None:
        """Let go of connections."""
        await self._probe.close()
        await self._api.close()


def _state(instance: Mapping[str, Any]) -> HoldingState:
    """Return what an instance's own state comes to; a stopped one serves nothing and still costs its disks, so it is given back."""
    name = instance["State"]["Name"]
    if name in GONE:
        return HoldingState.GONE
    return HoldingState.FAILED if name in STOPPED else HoldingState.PENDING


def _machine(instance: Mapping[str, Any]) -> Machine:
    address = instance.get("PrivateIpAddress") or instance.get("PublicIpAddress") or ""
    return Machine(instance["InstanceId"], str(address), instance["LaunchTime"].timestamp())
