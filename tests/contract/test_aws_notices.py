"""What EC2 says by itself: quotas, prices, and notices that an instance is about to go."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from actuators.api import Applied
from actuators.aws import AwsSupplier
from actuators.aws_notices import INTERRUPTION, REBALANCE
from actuators.holdings import Listing
from tests.contract.actuator_rigs import LAG_SECONDS, offer_with
from tests.contract.aws_rig import AwsRig, supplier
from tests.contract.aws_world import VCPUS, AwsWorld

FLEET = "r1"


async def test_the_quota_is_read_before_anything_is_asked_for() -> None:
    rig = AwsRig(offer_with())
    await rig.actuator().apply(FLEET, rig.offer, 2)
    rig.advance(LAG_SECONDS + 1)
    rig.world.quota = 5 * VCPUS + 10
    quote = await supplier(rig.world).quote(rig.offer)
    assert quote is not None
    assert (quote.stock_replicas, quote.usd_per_replica_hour) == (3, None)


async def test_a_quota_that_may_not_be_read_is_left_to_ec2_itself() -> None:
    world = AwsWorld()
    world.refusals["GetServiceQuota"] = ("AccessDeniedException", 400)
    assert await supplier(world).quote(offer_with()) is None


async def test_a_price_that_cannot_be_read_now_is_the_last_one_until_it_expires() -> None:
    world = AwsWorld()
    source = supplier(world, purchase="spot")
    first = await source.quote(offer_with())
    assert first is not None
    world.is_down = True
    world.wall.advance(300.0)
    again = await source.quote(offer_with())
    assert again is not None
    assert (again.usd_per_replica_hour, again.expires) == (first.usd_per_replica_hour, first.expires)
    world.wall.advance(400.0)
    assert await source.quote(offer_with()) is None


async def test_a_clock_that_is_set_back_does_not_make_an_old_price_new() -> None:
    world = AwsWorld()
    source = supplier(world, purchase="spot")
    await source.quote(offer_with())
    world.calls.clear()
    world.wall.advance(-3600.0)
    await source.quote(offer_with())
    assert {"DescribeSpotPriceHistory", "GetServiceQuota"} <= set(world.calls)


async def test_the_spot_price_is_that_of_the_dearest_pool_and_shared_by_a_lot() -> None:
    world = AwsWorld(quota=7 * VCPUS)
    quote = await supplier(world, purchase="spot").quote(offer_with(replicas_per_lot=2))
    assert quote is not None
    assert quote.usd_per_replica_hour == pytest.approx(0.00001 / 2)
    assert quote.stock_replicas == 14
    asked = world.calls.count("DescribeSpotPriceHistory")
    await (source := supplier(world, purchase="spot")).quote(offer_with())
    await source.quote(offer_with())
    assert world.calls.count("DescribeSpotPriceHistory") == asked + 1


def notice(instance: str, kind: str) -> str:
    body = {"source": "aws.ec2", "detail-type": kind, "detail": {"instance-id": instance, "instance-action": "terminate"}}
    return json.dumps(body)


def rig_with_queue() -> tuple[AwsRig, Any, str]:
    """Return AWS with a queue of notices, the queue's client and its address."""
    rig = AwsRig(offer_with())
    sqs = rig.world.client("sqs")
    queue: str = sqs.create_queue(QueueName="tidegate-notices")["QueueUrl"]
    rig.options = {"notices_queue": queue, "readiness": {}}
    return rig, sqs, queue


async def listed(one: AwsSupplier, rig: AwsRig) -> Listing:
    return await one.listing(FLEET, rig.offer)


@pytest.mark.parametrize("kind", [INTERRUPTION, REBALANCE])
async def test_notice_starts_the_replacement_before_the_node_dies(kind: str) -> None:
    rig, sqs, queue = rig_with_queue()
    actuator = rig.actuator()
    await actuator.apply(FLEET, rig.offer, 2)
    rig.advance(LAG_SECONDS + 1)
    doomed = rig.world.instances()[0]
    for body in (notice(doomed.id, kind), "not json", notice("i-00000000000000000", kind)):
        sqs.send_message(QueueUrl=queue, MessageBody=body)
    status = await actuator.observe(FLEET, rig.offer)
    assert (status.ready, status.draining) == (1, 1)
    assert isinstance(await actuator.apply(FLEET, rig.offer, 2), Applied)
    assert len(rig.world.instances()) == 3
    rig.world.client("ec2").terminate_instances(InstanceIds=[doomed.id])
    rig.advance(LAG_SECONDS + 1)
    status = await actuator.observe(FLEET, rig.offer)
    assert (status.ready, status.draining) == (2, 0)
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    kept = int(attributes["ApproximateNumberOfMessages"]) + int(attributes["ApproximateNumberOfMessagesNotVisible"])
    assert kept == 2, "the notice of an instance that has ended is removed, those of others are not"


async def test_a_queue_that_does_not_answer_keeps_nothing_from_being_listed_or_given_back() -> None:
    rig, sqs, queue = rig_with_queue()
    actuator = rig.actuator()
    await actuator.apply(FLEET, rig.offer, 3)
    rig.advance(LAG_SECONDS + 1)
    sqs.send_message(QueueUrl=queue, MessageBody=notice(rig.world.instances()[0].id, INTERRUPTION))
    assert (await actuator.observe(FLEET, rig.offer)).draining == 1
    rig.world.refusals["ReceiveMessage"] = ("AccessDenied", 403)
    status = await actuator.observe(FLEET, rig.offer)
    assert (status.ready, status.draining) == (2, 1), "the notice that was heard still counts"
    assert isinstance(await actuator.apply(FLEET, rig.offer, 1), Applied)


async def test_neither_a_poisoned_notice_nor_one_that_cannot_be_removed_keeps_others_from_being_heard() -> None:
    rig, sqs, queue = rig_with_queue()
    actuator = rig.actuator()
    await actuator.apply(FLEET, rig.offer, 3)
    rig.advance(LAG_SECONDS + 1)
    first, second, _ = rig.world.instances()
    for body in ("[" * 100_000, json.dumps({"detail": {"instance-id": first.id}, "detail-type": REBALANCE, "time": "0001-01-01T00:00:00"})):
        sqs.send_message(QueueUrl=queue, MessageBody=body)
    sqs.send_message(QueueUrl=queue, MessageBody=notice(first.id, INTERRUPTION))
    assert (await actuator.observe(FLEET, rig.offer)).draining == 1
    rig.world.refusals["DeleteMessage"] = ("ReceiptHandleIsInvalid", 400)
    rig.world.client("ec2").terminate_instances(InstanceIds=[first.id])
    sqs.send_message(QueueUrl=queue, MessageBody=notice(second.id, INTERRUPTION))
    status = await actuator.observe(FLEET, rig.offer)
    assert (status.ready, status.draining) == (1, 1)


async def test_notices_of_instances_that_are_nobodys_leave_the_queue_after_an_hour() -> None:
    """EventBridge cannot tell whose an instance is: a queue hears of all in the account, for days, and ours must not wait behind them."""
    rig, sqs, queue = rig_with_queue()
    actuator = rig.actuator()
    await actuator.apply(FLEET, rig.offer, 1)
    rig.advance(LAG_SECONDS + 1)
    ages = {"i-00000000000000001": 3700.0, "i-00000000000000002": 60.0, rig.world.instances()[0].id: 3700.0}
    for name, age in ages.items():
        sent = datetime.fromtimestamp(rig.world.wall.now_unix - age, UTC).isoformat()
        sqs.send_message(QueueUrl=queue, MessageBody=json.dumps({**json.loads(notice(name, INTERRUPTION)), "time": sent}))
    assert (await actuator.observe(FLEET, rig.offer)).draining == 1
    assert rig.world.calls.count("DeleteMessage") == 1
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    assert int(attributes["ApproximateNumberOfMessages"]) + int(attributes["ApproximateNumberOfMessagesNotVisible"]) == 2


async def test_a_mere_recommendation_is_paid_twice_for_ten_minutes_and_no_longer() -> None:
    rig = AwsRig(offer_with())
    sqs = rig.world.client("sqs")
    queue = sqs.create_queue(QueueName="tidegate-notices")["QueueUrl"]
    rig.options = {"notices_queue": queue, "readiness": {}}
    await rig.actuator().apply(FLEET, rig.offer, 3)
    rig.advance(LAG_SECONDS + 1)
    recommended, warned, _ = rig.world.instances()
    sent = {"time": datetime.fromtimestamp(rig.world.wall.now_unix, UTC).isoformat()}
    for name, kind in ((recommended.id, REBALANCE), (warned.id, INTERRUPTION)):
        sqs.send_message(QueueUrl=queue, MessageBody=json.dumps({**json.loads(notice(name, kind)), **sent}))
    actuator = rig.actuator()
    assert (await actuator.observe(FLEET, rig.offer)).draining == 2
    await actuator.apply(FLEET, rig.offer, 3)
    rig.advance(598.0)
    await actuator.apply(FLEET, rig.offer, 3)
    assert len(rig.world.instances()) == 5
    rig.advance(3.0)
    await actuator.apply(FLEET, rig.offer, 3)
    assert recommended.state == "terminated"
    assert warned.state == "running", "what has had warning is AWS's to take"
    assert len(rig.world.instances()) == 4
    assert (await actuator.observe(FLEET, rig.offer)).ready == 3
