"""Capacity that is reserved or booked: reservations that follow their instances, blocks within a money limit, and the IAM policy."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from moto.ec2.models import ec2_backends

from actuators.api import Actuator, Applied, Failed, Intent
from actuators.aws_actuator import aws_actuator
from actuators.aws_api import AwsApi
from actuators.aws_blocks import BlockSupplier
from actuators.ledger import Ledger
from actuators.readiness import ReadinessProbe
from controlplane.contracts.errors import InsufficientCapacity, NotAsked
from controlplane.sim.drill import DrillLedger
from tests.contract.actuator_rigs import LAG_SECONDS, offer_with
from tests.contract.aws_rig import AwsRig, options_with
from tests.contract.aws_world import ACCOUNT, INSTANCE_TYPE, REGION, AwsWorld

FLEET = "r1"
DAY_SECONDS = 86400.0
POLICY = Path(__file__).parents[2] / "deploy" / "aws" / "iam-policy.json"


def reserved_rig() -> AwsRig:
    rig = AwsRig(offer_with())
    rig.options = {"purchase": "capacityReservation", "availability_zone": "us-east-1a", "readiness": {}}
    return rig


def sizes(world: AwsWorld) -> list[tuple[str, int]]:
    return [(one["State"], one["TotalInstanceCount"]) for one in world.reserved.values()]


async def test_a_reservation_is_made_grows_shrinks_and_is_cancelled_with_its_instances() -> None:
    rig = reserved_rig()
    for target, wanted in ((3, ("active", 3)), (5, ("active", 5)), (2, ("active", 2)), (0, ("cancelled", 2))):
        for _ in range(3):
            await rig.actuator().apply(FLEET, rig.offer, target)
            rig.advance(LAG_SECONDS + 1)
        assert len(rig.world.instances()) == target
        assert sizes(rig.world) == [wanted]
        status = await rig.actuator().observe(FLEET, rig.offer)
        assert (status.ready, status.pending) == (target, 0)


async def test_a_reserved_place_that_nothing_could_be_launched_into_is_given_back() -> None:
    rig = reserved_rig()
    rig.world.stock = 0
    result = await rig.actuator().apply(FLEET, rig.offer, 2)
    assert isinstance(result, Failed)
    assert sizes(rig.world) == [("active", 2)]
    assert (await rig.actuator().observe(FLEET, rig.offer)).failed_replicas == 2, "each place is paid"
    await rig.actuator().apply(FLEET, rig.offer, 0)
    assert sizes(rig.world) == [("cancelled", 2)]


async def test_a_place_that_is_empty_for_a_moment_is_not_charged_for_the_time_that_its_instance_was_in_it() -> None:
    rig, ledgers = reserved_rig(), DrillLedger()
    rig.options["ledger"] = ledgers
    await rig.actuator().apply(FLEET, rig.offer, 3)
    for _ in range(10):
        rig.advance(3600.0)
        await rig.actuator().observe(FLEET, rig.offer)
    await rig.actuator().apply(FLEET, rig.offer, 2)
    rig.advance(LAG_SECONDS + 1)
    status = await rig.actuator().observe(FLEET, rig.offer)
    assert (status.ready, status.failed_replicas) == (2, 1)
    usd = Ledger.load(ledgers.texts[FLEET, rig.offer.name]).usd
    assert usd == pytest.approx(3 * 10 * 60.0, rel=0.01)


@pytest.mark.parametrize("lost", ["CreateCapacityReservation", "ModifyCapacityReservation", "CreateFleet"])
async def test_a_reply_that_is_lost_reserves_nothing_twice(lost: str) -> None:
    rig = reserved_rig()
    await rig.actuator().apply(FLEET, rig.offer, 1 if lost == "ModifyCapacityReservation" else 0)
    rig.advance(LAG_SECONDS + 1)
    rig.world.lost_replies = {lost}
    assert isinstance(await rig.actuator().apply(FLEET, rig.offer, 3), Failed)
    rig.world.lost_replies = set()
    for _ in range(4):
        await rig.actuator().apply(FLEET, rig.offer, 3)
        rig.advance(LAG_SECONDS + 1)
    active = [size for state, size in sizes(rig.world) if state == "active"]
    assert (len(rig.world.instances()), active) == (3, [3])


def block_rig(**block: Any) -> AwsRig:
    rig = AwsRig(offer_with())
    limits = {"duration_seconds": DAY_SECONDS, "starts_within_seconds": 7 * DAY_SECONDS, "max_usd": 5000.0, "confirm": False, **block}
    rig.options = {"purchase": "capacityBlock", "capacity_block": limits, "readiness": {}}
    begins = rig.world.wall.now_unix + 2 * DAY_SECONDS
    for count in (1, 2):
        for rank, usd in enumerate((2000.0, 1500.0)):
            offering = {
                "CapacityBlockOfferingId": f"cb-{count}-{rank}",
                "InstanceType": INSTANCE_TYPE,
                "AvailabilityZone": "us-east-1a",
                "InstanceCount": count,
                "StartDate": datetime.fromtimestamp(begins, UTC),
                "EndDate": datetime.fromtimestamp(begins + DAY_SECONDS, UTC),
                "CapacityBlockDurationHours": 24,
                "UpfrontFee": str(usd * count),
                "CurrencyCode": "USD",
            }
            rig.world.blocks.append(offering)
    return rig


async def test_the_cheapest_block_is_bought_and_filled_once_it_begins() -> None:
    rig = block_rig()
    result = await rig.actuator().apply(FLEET, rig.offer, 2)
    assert isinstance(result, Applied)
    assert result.change == 2
    for _ in range(3):
        await rig.actuator().apply(FLEET, rig.offer, 2)
    assert rig.world.calls.count("PurchaseCapacityBlock") == 1
    status = await rig.actuator().observe(FLEET, rig.offer)
    assert (status.ready, status.pending) == (0, 2)
    assert rig.world.instances() == []
    rig.advance(2 * DAY_SECONDS + 60.0)
    for _ in range(3):
        await rig.actuator().apply(FLEET, rig.offer, 2)
    assert len(rig.world.instances()) == 2
    rig.advance(LAG_SECONDS + 1)
    status = await rig.actuator().observe(FLEET, rig.offer)
    assert (status.ready, status.pending) == (2, 0)
    await rig.actuator().apply(FLEET, rig.offer, 0)
    assert len(rig.world.instances()) == 2, "a block is paid: nothing of it is given back"


async def begun(rig: AwsRig) -> Actuator:
    """Buy a block of two machines and wait until it has begun."""
    actuator = rig.actuator()
    await actuator.apply(FLEET, rig.offer, 2)
    rig.advance(2 * DAY_SECONDS + 60.0)
    return actuator


async def test_a_slot_is_filled_again_and_again_although_what_ended_in_it_is_listed_for_an_hour_only() -> None:
    rig = block_rig()
    actuator = await begun(rig)
    for _ in range(4):
        await actuator.apply(FLEET, rig.offer, 2)
        assert len(rig.world.instances()) == 2
        rig.advance(LAG_SECONDS + 1)
        forget_what_ended()
        rig.world.client("ec2").terminate_instances(InstanceIds=[rig.world.instances()[0].id])


def forget_what_ended() -> None:
    for reservation in ec2_backends[ACCOUNT][REGION].reservations.values():
        reservation.instances = [one for one in reservation.instances if one.state == "running"]


class OneSlotFails(AwsApi):
    """Nothing can be launched into the first slot of a block."""

    def _call(self, service: str, operation: str, parameters: Any) -> dict[str, Any]:
        if operation == "run_instances" and ".0." in parameters["ClientToken"]:
            raise InsufficientCapacity("the slot's host is not well")
        return super()._call(service, operation, parameters)


async def test_a_slot_that_cannot_be_filled_does_not_keep_the_others() -> None:
    rig = block_rig()
    await begun(rig)
    api = OneSlotFails(REGION, rig.world.url, rig.world.session())
    actuator = aws_actuator(options_with(rig.world, **rig.options), rig.store, api=api, clock=rig.world.wall)
    result = await actuator.apply(FLEET, rig.offer, 2)
    assert isinstance(result, Failed)
    assert "the slot's host is not well" in result.error
    assert len(rig.world.instances()) == 1


async def test_blocks_never_cost_more_than_their_limit_together() -> None:
    rig = block_rig(max_usd=4000.0)
    await rig.actuator().apply(FLEET, rig.offer, 2)
    result = await rig.actuator().apply(FLEET, rig.offer, 4)
    assert isinstance(result, Failed)
    assert "the limit is 4000.00" in result.error
    assert rig.world.calls.count("PurchaseCapacityBlock") == 1


async def test_in_confirmation_mode_a_block_is_priced_and_not_bought() -> None:
    rig = block_rig(confirm=True)
    result = await rig.actuator().apply(FLEET, rig.offer, 2)
    assert isinstance(result, Failed)
    assert "3000.00 USD and awaits confirmation" in result.error
    assert "cb-2-1" in result.error
    assert "PurchaseCapacityBlock" not in rig.world.calls


@pytest.mark.parametrize("state", ["delayed", "unavailable", "a state that is new"])
async def test_a_block_counts_against_its_limit_whatever_becomes_of_it_while_it_is_paid(state: str) -> None:
    rig = block_rig(max_usd=4000.0)
    await rig.actuator().apply(FLEET, rig.offer, 2)
    next(iter(rig.world.reserved.values()))["State"] = state
    rig.advance(400.0)
    await rig.actuator().apply(FLEET, rig.offer, 2)
    await rig.actuator().apply(FLEET, rig.offer, 4)
    assert rig.world.calls.count("PurchaseCapacityBlock") == 1


@pytest.mark.parametrize("state", ["expired", "cancelled", "failed", "payment-failed", "unsupported"])
async def test_a_block_that_has_ended_leaves_its_money_to_the_next(state: str) -> None:
    rig = block_rig(max_usd=4000.0)
    await rig.actuator().apply(FLEET, rig.offer, 2)
    next(iter(rig.world.reserved.values()))["State"] = state
    rig.advance(400.0)
    await rig.actuator().apply(FLEET, rig.offer, 2)
    await rig.actuator().apply(FLEET, rig.offer, 2)
    assert rig.world.calls.count("PurchaseCapacityBlock") == 2


async def test_a_block_of_unknown_outcome_is_observed_and_never_asked_for_again() -> None:
    rig = block_rig()
    rig.world.lost_replies = {"PurchaseCapacityBlock"}
    await rig.actuator().apply(FLEET, rig.offer, 1)
    rig.world.lost_replies = set()
    for _ in range(8):
        rig.advance(100.0)
        await rig.actuator().apply(FLEET, rig.offer, 1)
    assert len(rig.world.reserved) == 1


@pytest.mark.parametrize("question", ["DescribeCapacityBlockOfferings", "DescribeCapacityReservations"])
async def test_a_block_whose_price_or_limit_cannot_be_read_is_not_waited_for(question: str) -> None:
    rig = block_rig()
    block = BlockSupplier(rig.world.api, options_with(rig.world, **rig.options), ReadinessProbe(None, 0.0), rig.world.wall)
    rig.world.refusals[question] = ("InternalError", 500)
    with pytest.raises(NotAsked):
        await block.buy(Intent(FLEET, rig.offer.name, 1, 1, "open"), rig.offer)
    assert rig.world.reserved == {}


async def test_a_block_is_quoted_by_the_hour_with_its_start_as_the_lead_time() -> None:
    rig = block_rig()
    block = BlockSupplier(rig.world.api, options_with(rig.world, **rig.options), ReadinessProbe(None, 0.0), rig.world.wall)
    quote = await block.quote(rig.offer)
    assert quote is not None
    assert quote.usd_per_replica_hour == pytest.approx(1500.0 / 24)
    assert quote.lead_time_seconds == pytest.approx(2 * DAY_SECONDS)


# What a call needs beside its own permission: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html
ALONG_WITH = {"ec2:CreateTags": "tags given at creation", "iam:PassRole": "the launch template's instance profile"}
SERVICES = {"ReceiveMessage": "sqs", "DeleteMessage": "sqs", "GetServiceQuota": "servicequotas"}


async def every_call() -> set[str]:
    """Return every operation that buying, watching, quoting and giving back makes, on all purchase options."""
    called: set[str] = set()
    for rig in (AwsRig(offer_with()), reserved_rig(), block_rig(), spot := AwsRig(offer_with())):
        if rig is spot:
            queue = rig.world.client("sqs").create_queue(QueueName="tidegate-notices")["QueueUrl"]
            rig.options = {"purchase": "spot", "notices_queue": queue, "readiness": {}}
        AwsWorld.__post_init__(rig.world)
        if rig is spot:
            queue = rig.world.client("sqs").create_queue(QueueName="tidegate-notices")["QueueUrl"]
        rig.world.calls.clear()
        await rig.actuator().quote(rig.offer)
        await rig.actuator().apply(FLEET, rig.offer, 2)
        rig.advance(2 * DAY_SECONDS + 60.0)
        await rig.actuator().observe(FLEET, rig.offer)
        if rig is spot:
            before = len(rig.world.calls)
            doomed = rig.world.instances()[0].id
            body = {"detail-type": "EC2 Spot Instance Interruption Warning", "detail": {"instance-id": doomed}}
            rig.world.client("sqs").send_message(QueueUrl=queue, MessageBody=json.dumps(body))
            rig.world.client("ec2").terminate_instances(InstanceIds=[doomed])
            del rig.world.calls[before:]
        for target in (3, 1, 0, 0, 0):
            await rig.actuator().apply(FLEET, rig.offer, target)
            rig.advance(LAG_SECONDS + 1)
        called |= {f"{SERVICES.get(call, 'ec2')}:{call}" for call in rig.world.calls}
    return called


async def test_the_iam_policy_allows_every_call_we_make_and_nothing_else() -> None:
    statements = json.loads(POLICY.read_text())["Statement"]
    allowed = {action for one in statements for action in ([one["Action"]] if isinstance(one["Action"], str) else one["Action"])}
    assert not any("*" in action for action in allowed)
    assert await every_call() == allowed - ALONG_WITH.keys()


def test_what_changes_anything_is_allowed_only_with_our_tag() -> None:
    for statement in json.loads(POLICY.read_text())["Statement"]:
        actions = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        if any(action.startswith(("ec2:Terminate", "ec2:Modify", "ec2:Cancel")) for action in actions):
            assert statement["Condition"] == {"Null": {"aws:ResourceTag/tidegate.dev/fleet": "false"}}
        if any("instance/*" in resource for resource in statement["Resource"]) and "ec2:RunInstances" in actions:
            assert statement["Condition"] == {"Null": {"aws:RequestTag/tidegate.dev/fleet": "false"}}
