"""EC2 instances on an On-Demand Capacity Reservation that grows and shrinks with them: the reserved pool's form in the cloud.

Owns the order: first reserve, then launch into the reservation; first end an instance, then give its place back. A reserved place that
nothing runs in is paid all the same, so it is listed as replicas that failed, and the next `apply` gives it back.
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateCapacityReservation.html
"""

from dataclasses import replace
from hashlib import blake2b
from typing import Any

from actuators.api import Intent
from actuators.aws import RESERVATION_PREFIX, TAG_INTENT, AwsSupplier, ours, tag, tags_of
from actuators.aws_quotes import LINUX
from actuators.holdings import Holding, HoldingState, Listing
from actuators.lots import Rented, holdings_of, machine_of, machines_in
from controlplane.contracts.fleet import Offer

LIVE = ("pending", "running")


class ReservationSupplier(AwsSupplier):
    """One zone's instances of one type, on a reservation of the same size that instances fill by themselves (criteria `open`)."""

    async def listing(self, fleet: str, offer: Offer) -> Listing:
        """Return the instances, and the reserved places without one."""
        # The places first: an instance that starts in between then has its place counted as used, never as empty.
        reservations = await self._reservations(fleet, offer.name)
        listing = await super().listing(fleet, offer)
        live = {holding.lot for holding in listing.holdings if holding.state is not HoldingState.GONE}
        places = sum(int(reservation["TotalInstanceCount"]) for reservation in reservations) - len(live)
        empty: list[Holding] = []
        for reservation in reservations:
            unused = max(0, min(int(reservation["AvailableInstanceCount"]), places))
            places -= unused
            # They go back together, and are paid for as themselves since now: until then an instance was in them, or was about to be.
            rented = Rented(reservation["CapacityReservationId"], "", HoldingState.FAILED, listing.now_unix)
            empty += holdings_of(rented, replace(offer, replicas_per_lot=unused * offer.replicas_per_lot)) if unused else ()
        return Listing(listing.now_unix, (*listing.holdings, *empty))

    async def _reservations(self, fleet: str, offer: str) -> list[Any]:
        filters = [*ours(fleet, offer), {"Name": "state", "Values": ["active", "pending"]}]
        return await self._api.pages("ec2", "describe_capacity_reservations", "CapacityReservations", Filters=filters)

    async def buy(self, intent: Intent, offer: Offer) -> tuple[str, ...]:
        """Reserve what all instances need together, those of this intent included, and launch them into it."""
        instances = await self._instances([*ours(intent.fleet, offer.name), {"Name": "instance-state-name", "Values": list(LIVE)}])
        others = [instance for instance in instances if tag(instance, TAG_INTENT) != intent.token]
        wanted = len(others) + machines_in(intent.count, offer)
        reservations = await self._reservations(intent.fleet, offer.name)
        if not reservations:
            ended = await self._api.pages(
                "ec2", "describe_capacity_reservations", "CapacityReservations", Filters=ours(intent.fleet, offer.name)
            )
            await self._reserve(intent, wanted, len(ended))
        elif (missing := wanted - sum(int(one["TotalInstanceCount"]) for one in reservations)) > 0:
            size = int(reservations[0]["TotalInstanceCount"]) + missing
            await self._resize(reservations[0]["CapacityReservationId"], size)
        return await super().buy(intent, offer)

    async def _reserve(self, intent: Intent, machines: int, ended: int) -> None:
        """Make the reservation. One that was cancelled between two askings for an intent needs another token than the first."""
        await self._api.call(
            "ec2",
            "create_capacity_reservation",
            ClientToken=f"tidegate.{blake2b(f'{intent.token}.{ended}'.encode(), digest_size=16).hexdigest()}",
            InstanceType=self._options["instance_types"][0],
            InstancePlatform=LINUX,
            AvailabilityZone=self._options["availability_zone"],
            InstanceCount=machines,
            InstanceMatchCriteria="open",
            EndDateType="unlimited",
            TagSpecifications=[{"ResourceType": "capacity-reservation", "Tags": tags_of(intent.fleet, intent.offer, intent.token)}],
        )

    async def _resize(self, reservation: str, machines: int) -> None:
        await self._api.call("ec2", "modify_capacity_reservation", CapacityReservationId=reservation, InstanceCount=machines)

    def _fleet_request(self, intent: Intent, offer: Offer) -> dict[str, Any]:
        request = super()._fleet_request(intent, offer)
        options = {"UsageStrategy": "use-capacity-reservations-first"}
        request["OnDemandOptions"] = {**request["OnDemandOptions"], "CapacityReservationOptions": options}
        for override in request["LaunchTemplateConfigs"][0]["Overrides"]:
            override.setdefault("AvailabilityZone", self._options["availability_zone"])
        return request

    async def release(self, fleet: str, offer: Offer, replica: str) -> None:
        """Terminate an instance; or shrink a reservation by its empty places, and cancel one that is empty."""
        name = machine_of(replica)
        if not name.startswith(RESERVATION_PREFIX):
            await super().release(fleet, offer, replica)
            return
        for reservation in await self._reservations(fleet, offer.name):
            if reservation["CapacityReservationId"] == name:
                used = int(reservation["TotalInstanceCount"]) - int(reservation["AvailableInstanceCount"])
                if used:
                    await self._resize(name, used)
                else:
                    await self._api.call("ec2", "cancel_capacity_reservation", CapacityReservationId=name)
