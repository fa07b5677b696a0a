"""Capacity Blocks for ML: GPUs booked ahead for a stretch of days and paid at once, for an announced launch.

Owns the search, the money limit, the confirmation and the launch of instances once a block begins. A block cannot be given back, and
the call that buys one takes no idempotency token: its tags are looked for instead, and an unknown outcome is never asked for again.
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeCapacityBlockOfferings.html, API_PurchaseCapacityBlock.html
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from actuators.api import Intent, Result, failed
from actuators.aws import GONE, TAG_FLEET, TAG_INTENT, TAG_OFFER, TAG_SLOT, ours, tag, tags_of
from actuators.aws_api import AwsApi
from actuators.aws_quotes import LINUX, QUOTE_LIFE_SECONDS
from actuators.holdings import Holding, HoldingState, Listing, Owned, before_asking
from actuators.lots import Rented, holdings_of, machine_of, machines_in, replicas_of
from actuators.purchasing import PurchasingActuator
from actuators.readiness import Machine, ReadinessProbe
from controlplane.contracts.errors import AccessRefused, InsufficientCapacity, QuotaExceeded, SupplierError
from controlplane.contracts.events import Quote
from controlplane.contracts.fleet import Offer
from controlplane.contracts.units import SECONDS_PER_HOUR, from_unix

TAG_USD = "tidegate.dev/usd"
SEARCH_SECONDS = 600.0
# States in which nothing of a block is paid or to come. Whatever else it says of itself, its money is spent.
ENDED = ("expired", "cancelled", "failed", "payment-failed", "unsupported")


class BlockSupplier:
    """One region's capacity blocks of one instance type. A slot of a block is a machine: pending until its instance serves."""

    remembers_tokens = False

    def __init__(self, api: AwsApi, options: Mapping[str, Any], probe: ReadinessProbe, clock: Callable[[], float] = time.time) -> None:
        """Keep the offer's options; nothing is asked yet."""
        self._api, self._options, self._probe, self._clock = api, options, probe, clock
        self._block: Mapping[str, Any] = options["capacity_block"]
        self._quote: tuple[float, Quote | None] | None = None

    async def offerings(self, machines: int) -> list[Any]:
        """Return what AWS would sell now, the cheapest first, and of these the soonest."""
        now = self._clock()
        found = await self._api.pages(
            "ec2",
            "describe_capacity_block_offerings",
            "CapacityBlockOfferings",
            InstanceType=self._options["instance_types"][0],
            InstanceCount=machines,
            CapacityDurationHours=round(float(self._block["duration_seconds"]) / SECONDS_PER_HOUR),
            StartDateRange=from_unix(now),
            EndDateRange=from_unix(now + float(self._block["starts_within_seconds"]) + float(self._block["duration_seconds"])),
        )
        return sorted(found, key=lambda offering: (float(offering["UpfrontFee"]), offering["StartDate"]))

    async def buy(self, intent: Intent, offer: Offer) -> tuple[str, ...]:
        """Buy the cheapest block of that many machines, within the money limit and only where no confirmation is asked for."""
        machines = machines_in(intent.count, offer)
        with before_asking():
            found = await self.offerings(machines)
        if not found:
            raise InsufficientCapacity(f"no capacity block of {machines} × {self._options['instance_types'][0]} is on offer")
        if self._block.get("confirm", True):
            cheapest = found[0]["CapacityBlockOfferingId"]
            raise AccessRefused(
                f"a capacity block of {machines} costs {float(found[0]['UpfrontFee']):.2f} USD and awaits confirmation: "
                f"tidegate capacity-block POLICY --offer {offer.name} --buy {cheapest} --max-usd …"
            )
        return await self.purchase(found[0], intent.fleet, offer, intent.token, float(self._block["max_usd"]))

    async def purchase(self, offering: Mapping[str, Any], fleet: str, offer: Offer, token: str, max_usd: float) -> tuple[str, ...]:
        """Buy one offering; QuotaExceeded where the blocks held and this one cost more than `max_usd` together."""
        usd = float(offering["UpfrontFee"])
        with before_asking():
            held = await self._reservations(fleet, offer.name)
        spent = sum(float(tag(reservation, TAG_USD) or 0.0) for reservation in held)
        if usd + spent > max_usd:
            raise QuotaExceeded(f"the block costs {usd:.2f} USD, {spent:.2f} are spent on blocks held, and the limit is {max_usd:.2f}")
        tags = [*tags_of(fleet, offer.name, token), {"Key": TAG_USD, "Value": f"{usd:.2f}"}]
        answer = await self._api.call(
            "ec2",
            "purchase_capacity_block",
            CapacityBlockOfferingId=offering["CapacityBlockOfferingId"],
            InstancePlatform=LINUX,
            TagSpecifications=[{"ResourceType": "capacity-reservation", "Tags": tags}],
        )
        slots = _slots(answer["CapacityReservation"])
        return tuple(replica for slot in slots for replica in replicas_of(slot, offer))

    async def listing(self, fleet: str, offer: Offer) -> Listing:
        """Return the slots of every block that is held."""
        reservations = await self._reservations(fleet, offer.name)
        instances = {tag(one, TAG_SLOT): one for one in await self._instances(fleet, offer.name) if one["State"]["Name"] == "running"}
        now = self._clock()
        machines = [Machine(slot, str(one.get("PrivateIpAddress", "")), one["LaunchTime"].timestamp()) for slot, one in instances.items()]
        readiness = await self._probe.ask(machines, now)
        holdings: list[Holding] = []
        for reservation in reservations:
            hours = (reservation["EndDate"] - reservation["StartDate"]).total_seconds() / SECONDS_PER_HOUR
            usd = float(tag(reservation, TAG_USD) or 0.0) / hours / int(reservation["TotalInstanceCount"])
            made, until = reservation["CreateDate"].timestamp(), reservation["EndDate"].timestamp()
            for slot in _slots(reservation):
                answer = readiness.get(slot)
                state = HoldingState.PENDING if answer is None else answer.state
                since = None if answer is None else answer.since_unix
                holdings += holdings_of(Rented(slot, tag(reservation, TAG_INTENT), state, made, since, until, usd), offer)
        return Listing(now, tuple(holdings))

    async def owned(self) -> tuple[Owned, ...]:
        """Return nothing: a block cannot be given back, and what runs in it ends with it."""
        return ()

    async def tend(self, fleet: str, offer: Offer) -> None:
        """Launch an instance into each slot of a block that has begun; a slot that cannot be filled does not keep the others.

        The token names the slot and the last instance in it, as no count of those before lasts: EC2 lists what has ended for an hour.
        Raises the first error.
        """
        first: SupplierError | None = None
        instances = await self._instances(fleet, offer.name)
        for reservation in await self._reservations(fleet, offer.name):
            for slot in _slots(reservation) if reservation["State"] == "active" else ():
                of_slot = [one for one in instances if tag(one, TAG_SLOT) == slot]
                if any(one["State"]["Name"] not in GONE for one in of_slot):
                    continue
                last = max(of_slot, key=lambda one: (one["LaunchTime"], one["InstanceId"]), default=None)
                try:
                    await self._launch(reservation, slot, "" if last is None else last["InstanceId"])
                except SupplierError as error:
                    first = first or error
        if first is not None:
            raise first

    async def _launch(self, reservation: Mapping[str, Any], slot: str, last: str) -> None:
        name = {"LaunchTemplateName": self._options["launch_template"], "Version": self._options["launch_template_version"]}
        tags = tags_of(tag(reservation, TAG_FLEET), tag(reservation, TAG_OFFER), tag(reservation, TAG_INTENT))
        await self._api.call(
            "ec2",
            "run_instances",
            ClientToken=f"{slot}.{last}",
            MinCount=1,
            MaxCount=1,
            InstanceType=self._options["instance_types"][0],
            LaunchTemplate=name,
            InstanceMarketOptions={"MarketType": "capacity-block"},
            CapacityReservationSpecification={"CapacityReservationTarget": {"CapacityReservationId": reservation["CapacityReservationId"]}},
            TagSpecifications=[{"ResourceType": "instance", "Tags": [*tags, {"Key": TAG_SLOT, "Value": slot}]}],
        )

    async def release(self, fleet: str, offer: Offer, replica: str) -> None:
        """Terminate the instance in a slot, so that another is launched into it; the block itself is paid and stays."""
        slot = machine_of(replica)
        found = [one["InstanceId"] for one in await self._instances(fleet, offer.name) if tag(one, TAG_SLOT) == slot]
        if found:
            await self._api.call("ec2", "terminate_instances", InstanceIds=found)

    async def quote(self, offer: Offer) -> Quote | None:
        """Return the price and start of the cheapest block of one machine."""
        now = self._clock()
        if self._quote is None or not 0.0 <= now - self._quote[0] <= SEARCH_SECONDS:
            found = await self.offerings(1)
            self._quote = (now, self._quote_of(found[0], offer, now) if found else None)
        return self._quote[1]

    def _quote_of(self, offering: Mapping[str, Any], offer: Offer, now: float) -> Quote:
        machine_hours = float(offering["CapacityBlockDurationHours"]) * int(offering["InstanceCount"])
        return Quote(
            time=from_unix(now),
            offer=offer.name,
            usd_per_replica_hour=float(offering["UpfrontFee"]) / machine_hours / offer.replicas_per_lot,
            lead_time_seconds=max(0.0, offering["StartDate"].timestamp() - now),
            expires=from_unix(now + SEARCH_SECONDS + QUOTE_LIFE_SECONDS),
        )

    async def _reservations(self, fleet: str, offer: str) -> list[Any]:
        found = await self._api.pages("ec2", "describe_capacity_reservations", "CapacityReservations", Filters=ours(fleet, offer))
        return [reservation for reservation in found if reservation["State"] not in ENDED]

    async def _instances(self, fleet: str, offer: str) -> list[Any]:
        reservations = await self._api.pages("ec2", "describe_instances", "Reservations", Filters=ours(fleet, offer))
        return [instance for reservation in reservations for instance in reservation["Instances"] if tag(instance, TAG_SLOT)]

    async def close(self) -> None:
        """Let go of connections."""
        await self._probe.close()
        await self._api.close()


class BlockActuator(PurchasingActuator):
    """Purchases as any, and instances in the blocks that have begun."""

    def __init__(self, supplier: BlockSupplier, *arguments: Any, **settings: Any) -> None:
        """Act on a supplier of blocks."""
        super().__init__(supplier, *arguments, **settings)
        self._blocks = supplier

    async def apply(self, fleet: str, offer: Offer, target: int) -> Result:
        """Fill the blocks that have begun, then make the slots be the target."""
        try:
            await self._blocks.tend(fleet, offer)
        except SupplierError as error:
            return failed(error)
        return await super().apply(fleet, offer, target)


def _slots(reservation: Mapping[str, Any]) -> tuple[str, ...]:
    name = reservation["CapacityReservationId"]
    return tuple(f"{name}.{index}" for index in range(int(reservation["TotalInstanceCount"])))
