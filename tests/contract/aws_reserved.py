"""On-Demand Capacity Reservations and Capacity Blocks for moto's EC2, which has neither.

Shapes: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CapacityReservation.html and API_CapacityBlockOffering.html.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from moto.core.responses import ActionResult
from moto.ec2.responses import EC2Response

if TYPE_CHECKING:
    from tests.contract.aws_world import AwsWorld


def extend(world_now: "Callable[[], AwsWorld]") -> None:
    """Add the calls."""

    def used(world: "AwsWorld", reservation: dict[str, Any]) -> int:
        tags = {entry["Key"]: entry["Value"] for entry in reservation["Tags"]}
        mine = [one for one in world.instances() if one.instance_type == reservation["InstanceType"]]
        key = "tidegate.dev/offer"
        return sum(any(tag["key"] == key and tag["value"] == tags.get(key) for tag in one.get_tags()) for one in mine)

    def shown(world: "AwsWorld", reservation: dict[str, Any]) -> dict[str, Any]:
        state = reservation["State"]
        start = reservation.get("StartDate")
        if state == "scheduled" and start is not None and start.timestamp() <= world.wall.now_unix:
            state = reservation["State"] = "active"
        end = reservation.get("EndDate")
        if state == "active" and end is not None and end.timestamp() <= world.wall.now_unix:
            state = reservation["State"] = "expired"
        free = max(0, reservation["TotalInstanceCount"] - used(world, reservation)) if state == "active" else 0
        return {**reservation, "AvailableInstanceCount": free}

    def tags_in(self: Any) -> list[dict[str, str]]:
        return [tag for spec in self._get_param("TagSpecifications", []) for tag in spec["Tags"]]

    def create_capacity_reservation(self: Any) -> ActionResult:
        world = world_now()
        token = self._get_param("ClientToken")
        with world.lock:
            if token not in world.reserved_by_token:
                name = f"cr-{len(world.reserved):017x}"
                world.reserved_by_token[token] = name
                world.reserved[name] = {
                    "CapacityReservationId": name,
                    "InstanceType": self._get_param("InstanceType"),
                    "InstancePlatform": self._get_param("InstancePlatform"),
                    "AvailabilityZone": self._get_param("AvailabilityZone"),
                    "TotalInstanceCount": int(self._get_param("InstanceCount")),
                    "State": "active",
                    "CreateDate": datetime.fromtimestamp(world.wall.now_unix, UTC),
                    "EndDateType": self._get_param("EndDateType"),
                    "Tags": tags_in(self),
                }
            return ActionResult({"CapacityReservation": shown(world, world.reserved[world.reserved_by_token[token]])})

    def modify_capacity_reservation(self: Any) -> ActionResult:
        reservation = world_now().reserved[self._get_param("CapacityReservationId")]
        reservation["TotalInstanceCount"] = int(self._get_param("InstanceCount"))
        return ActionResult({"Return": True})

    def cancel_capacity_reservation(self: Any) -> ActionResult:
        world_now().reserved[self._get_param("CapacityReservationId")]["State"] = "cancelled"
        return ActionResult({"Return": True})

    def describe_capacity_reservations(self: Any) -> ActionResult:
        world = world_now()
        listed = [shown(world, reservation) for reservation in world.reserved.values()]
        for wanted in self._get_param("Filters", []):
            name, values = wanted["Name"], wanted["Values"]
            if name.startswith("tag:"):
                tagged = {(name.removeprefix("tag:"), value) for value in values}
                listed = [one for one in listed if tagged & {(tag["Key"], tag["Value"]) for tag in one["Tags"]}]
            if name == "tag-key":
                listed = [one for one in listed if {tag["Key"] for tag in one["Tags"]} & set(values)]
            if name == "state":
                listed = [one for one in listed if one["State"] in values]
        return ActionResult({"CapacityReservations": listed})

    def describe_capacity_block_offerings(self: Any) -> ActionResult:
        count, hours = int(self._get_param("InstanceCount")), int(self._get_param("CapacityDurationHours"))
        found = [block for block in world_now().blocks if (block["InstanceCount"], block["CapacityBlockDurationHours"]) == (count, hours)]
        return ActionResult({"CapacityBlockOfferings": found})

    def purchase_capacity_block(self: Any) -> ActionResult:
        world = world_now()
        offering = self._get_param("CapacityBlockOfferingId")
        with world.lock:
            block = next(block for block in world.blocks if block["CapacityBlockOfferingId"] == offering)
            name = f"cr-{len(world.reserved):017x}"
            world.reserved[name] = {
                "CapacityReservationId": name,
                "InstanceType": block["InstanceType"],
                "AvailabilityZone": block["AvailabilityZone"],
                "InstancePlatform": self._get_param("InstancePlatform"),
                "ReservationType": "capacity-block",
                "TotalInstanceCount": block["InstanceCount"],
                "State": "scheduled",
                "CreateDate": datetime.fromtimestamp(world.wall.now_unix, UTC),
                "StartDate": block["StartDate"],
                "EndDate": block["EndDate"],
                "Tags": tags_in(self),
            }
            return ActionResult({"CapacityReservation": shown(world, world.reserved[name])})

    for call in (
        create_capacity_reservation,
        modify_capacity_reservation,
        cancel_capacity_reservation,
        describe_capacity_reservations,
        describe_capacity_block_offerings,
        purchase_capacity_block,
    ):
        setattr(EC2Response, call.__name__, call)
