"""What EC2 is asked, and what its answers come to: fleets, refusals, unknown outcomes, prices, quotas, notices."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from actuators.api import Applied, Failed, Skipped
from actuators.aws import AwsSupplier
from actuators.aws_actuator import aws_actuator
from actuators.aws_notices import INTERRUPTION, REBALANCE, Notices
from actuators.holdings import Listing
from actuators.intents import IntentState
from actuators.readiness import ReadinessProbe
from controlplane.contracts.errors import AccessRefused, SupplierUnavailable
from tests.contract import aws_buyer
from tests.contract.actuator_rigs import LAG_SECONDS, LEAD_SECONDS, offer_with
from tests.contract.aws_rig import WITHIN_SECONDS, AwsRig, options_with
from tests.contract.aws_world import INSTANCE_TYPE, VCPUS, AwsWorld
from tests.fakes import FileIntentStore

FLEET = "r1"


async def test_one_call_asks_for_every_type_in_every_subnet_under_the_intents_token() -> None:
    rig = AwsRig(offer_with(ceiling_usd_per_replica_hour=50.0, replicas_per_lot=2))
    subnets = [one["SubnetId"] for one in rig.world.client("ec2").describe_subnets()["Subnets"][:2]]
    rig.options = {"purchase": "spot", "instance_types": [INSTANCE_TYPE, "p5e.48xlarge"], "subnet_ids": subnets}
    await rig.actuator().apply(FLEET, rig.offer, 4)
    asked = rig.world.asked[0]
    intent = await rig.store.latest(FLEET, rig.offer.name)
    assert intent is not None
    assert asked["ClientToken"] == intent.token
    assert asked["Type"] == "instant"
    assert asked["TargetCapacitySpecification"] == {"TotalTargetCapacity": 2, "DefaultTargetCapacityType": "spot"}
    assert asked["SpotOptions"]["AllocationStrategy"] == "price-capacity-optimized"
    overrides = asked["LaunchTemplateConfigs"][0]["Overrides"]
    assert {(one["InstanceType"], one["SubnetId"]) for one in overrides} == {
        (kind, subnet) for kind in (INSTANCE_TYPE, "p5e.48xlarge") for subnet in subnets
    }
    assert {one["MaxPrice"] for one in overrides} == {"100.000000"}
    tags = {tag["Key"]: tag["Value"] for tag in asked["TagSpecifications"][0]["Tags"]}
    assert (tags["tidegate.dev/fleet"], tags["tidegate.dev/offer"], tags["tidegate.dev/intent"]) == (FLEET, rig.offer.name, intent.token)


@pytest.mark.parametrize(
    ("code", "status", "unavailable", "retryable"),
    [
        ("InsufficientInstanceCapacity", 500, True, False),
        ("VcpuLimitExceeded", 400, True, False),
        ("MaxSpotInstanceCountExceeded", 400, True, False),
        ("RequestLimitExceeded", 503, True, True),
        ("UnauthorizedOperation", 403, True, False),
        ("AuthFailure", 401, True, False),
        ("InvalidLaunchTemplateName.NotFoundException", 400, False, False),
        ("InternalError", 500, False, True),
    ],
)
async def test_a_refusal_says_whether_the_next_offer_should_be_tried(code: str, status: int, unavailable: bool, retryable: bool) -> None:
    rig = AwsRig(offer_with())
    rig.world.refusals["CreateFleet"] = (code, status)
    result = await rig.actuator().apply(FLEET, rig.offer, 2)
    assert isinstance(result, Failed)
    assert (result.unavailable, result.retryable) == (unavailable, retryable)
    assert code in result.error
    intent = await rig.store.latest(FLEET, rig.offer.name)
    assert intent is not None
    assert intent.state == (IntentState.OPEN if code == "InternalError" else IntentState.FAILED)


@pytest.mark.parametrize(
    "code", ["InsufficientInstanceCapacity", "UnfulfillableCapacity", "VcpuLimitExceeded", "MaxSpotInstanceCountExceeded"]
)
async def test_a_fleet_that_placed_nothing_is_refused_for_the_reason_its_pools_give(code: str) -> None:
    rig = AwsRig(offer_with())
    rig.world.stock, rig.world.stock_error = 0, code
    result = await rig.actuator().apply(FLEET, rig.offer, 2)
    assert isinstance(result, Failed)
    assert result.unavailable
    assert code in result.error


LOOK = {"InstanceType": INSTANCE_TYPE, "InstancePlatform": "Linux/UNIX", "InstanceCount": 1}
ONCE = {"create_fleet", "run_instances", "create_capacity_reservation", "purchase_capacity_block"}


@pytest.mark.parametrize(
    ("operation", "name", "parameters"),
    [
        ("create_fleet", "CreateFleet", {"LaunchTemplateConfigs": [], "TargetCapacitySpecification": {"TotalTargetCapacity": 1}}),
        ("run_instances", "RunInstances", {"MinCount": 1, "MaxCount": 1}),
        ("create_capacity_reservation", "CreateCapacityReservation", LOOK),
        ("purchase_capacity_block", "PurchaseCapacityBlock", {"CapacityBlockOfferingId": "cb-1", "InstancePlatform": "Linux/UNIX"}),
        ("describe_instances", "DescribeInstances", {}),
        ("terminate_instances", "TerminateInstances", {"InstanceIds": ["i-0"]}),
    ],
)
async def test_what_buys_is_sent_once_and_anything_else_is_tried_again(operation: str, name: str, parameters: dict[str, object]) -> None:
    world = AwsWorld()
    world.refusals[name] = ("InternalError", 500)
    with pytest.raises(SupplierUnavailable):
        await world.api.call("ec2", operation, **parameters)
    assert world.calls.count(name) == (1 if operation in ONCE else 2)


async def test_without_credentials_a_person_must_act(monkeypatch: pytest.MonkeyPatch) -> None:
    from actuators.aws_api import AwsApi

    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(AccessRefused, match="credentials"):
        await AwsApi("us-east-1", AwsWorld().url).call("ec2", "describe_instances")


async def test_a_token_that_was_used_with_other_words_is_settled_by_observing() -> None:
    rig = AwsRig(offer_with())
    rig.lose_purchase_replies(True)
    await rig.actuator().apply(FLEET, rig.offer, 3)
    rig.lose_purchase_replies(False)
    rig.options = {"launch_template_version": "1"}
    result = await rig.actuator().apply(FLEET, rig.offer, 3)
    assert isinstance(result, Failed)
    assert "IdempotentParameterMismatch" in result.error
    rig.advance(LAG_SECONDS + 1)
    await rig.actuator().apply(FLEET, rig.offer, 3)
    intent = await rig.store.latest(FLEET, rig.offer.name)
    assert intent is not None
    assert intent.number == 1
    assert len(rig.world.instances()) == 3


async def test_a_machine_that_never_serves_is_given_back_and_one_that_served_keeps_counting() -> None:
    rig = AwsRig(offer_with())
    actuator = rig.actuator()
    await actuator.apply(FLEET, rig.offer, 1)
    rig.advance(LEAD_SECONDS + LAG_SECONDS)
    assert (await actuator.observe(FLEET, rig.offer)).ready == 1
    rig.world.starts = False
    assert (await actuator.observe(FLEET, rig.offer)).ready == 1
    assert len(rig.world.instances()) == 1
    restarted = rig.actuator()
    assert (await restarted.observe(FLEET, rig.offer)).pending == 1
    assert isinstance(await restarted.apply(FLEET, rig.offer, 1), Skipped), "it may have served before the restart: nothing goes back yet"
    rig.advance(WITHIN_SECONDS + 1)
    assert isinstance(await restarted.apply(FLEET, rig.offer, 1), Applied)
    assert rig.held() == {"pending": 1}


async def test_a_machine_that_ec2_never_starts_is_given_back_too() -> None:
    rig = AwsRig(offer_with())
    actuator = rig.actuator()
    await actuator.apply(FLEET, rig.offer, 2)
    stuck = rig.world.instances()[0]
    stuck._state.name, stuck._state.code = "pending", 0
    rig.advance(LAG_SECONDS + 1)
    assert (await actuator.observe(FLEET, rig.offer)).pending == 2
    rig.advance(WITHIN_SECONDS)
    await actuator.apply(FLEET, rig.offer, 2)
    assert stuck.state != "terminated", "not yet so long"
    rig.advance(1)
    assert isinstance(await actuator.apply(FLEET, rig.offer, 2), Applied)
    assert stuck.state == "terminated"
    assert rig.held() == {"ready": 1, "pending": 1}


async def test_a_restart_in_a_moment_without_answers_gives_nothing_back() -> None:
    rig = AwsRig(offer_with())
    await rig.actuator().apply(FLEET, rig.offer, 3)
    rig.advance(LEAD_SECONDS + LAG_SECONDS)
    restarted = rig.actuator()
    rig.world.starts = False
    await restarted.apply(FLEET, rig.offer, 3)
    rig.world.starts = True
    await restarted.apply(FLEET, rig.offer, 3)
    assert rig.held() == {"ready": 3}
    assert "TerminateInstances" not in rig.world.calls


async def test_instances_of_nobody_or_of_another_offer_are_left_alone() -> None:
    rig = AwsRig(offer_with())
    ec2 = rig.world.client("ec2")
    ec2.run_instances(ImageId="ami-12c6146b", MinCount=2, MaxCount=2, InstanceType="t3.micro")
    await rig.actuator().apply(FLEET, replace(rig.offer, name="other"), 1)
    rig.advance(LAG_SECONDS + 1)
    assert isinstance(await rig.actuator().apply(FLEET, rig.offer, 0), Skipped)
    assert len(rig.world.instances()) == 3


async def test_what_is_owned_is_found_whatever_offer_it_was_for() -> None:
    rig = AwsRig(offer_with())
    await rig.actuator().apply(FLEET, rig.offer, 1)
    await rig.actuator().apply("forgotten", replace(rig.offer, name="gone"), 2)
    rig.advance(LAG_SECONDS + 1)
    owned = await supplier(rig.world).owned()
    assert sorted((one.fleet, one.offer) for one in owned) == [("forgotten", "gone"), ("forgotten", "gone"), (FLEET, rig.offer.name)]


def supplier(world: AwsWorld, notices: Notices | None = None, **options: object) -> AwsSupplier:
    return AwsSupplier(world.api, options_with(world, **options), ReadinessProbe(None, 0.0), notices, world.wall)


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


async def listed(one: AwsSupplier, rig: AwsRig) -> Listing:
    return await one.listing(FLEET, rig.offer)


@pytest.mark.parametrize("kind", [INTERRUPTION, REBALANCE])
async def test_notice_starts_the_replacement_before_the_node_dies(kind: str) -> None:
    rig = AwsRig(offer_with())
    sqs = rig.world.client("sqs")
    queue = sqs.create_queue(QueueName="tidegate-notices")["QueueUrl"]
    rig.options = {"notices_queue": queue, "readiness": {}}
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
    rig = AwsRig(offer_with())
    sqs = rig.world.client("sqs")
    queue = sqs.create_queue(QueueName="tidegate-notices")["QueueUrl"]
    rig.options = {"notices_queue": queue, "readiness": {}}
    actuator = rig.actuator()
    await actuator.apply(FLEET, rig.offer, 3)
    rig.advance(LAG_SECONDS + 1)
    sqs.send_message(QueueUrl=queue, MessageBody=notice(rig.world.instances()[0].id, INTERRUPTION))
    assert (await actuator.observe(FLEET, rig.offer)).draining == 1
    rig.world.refusals["ReceiveMessage"] = ("AccessDenied", 403)
    status = await actuator.observe(FLEET, rig.offer)
    assert (status.ready, status.draining) == (2, 1), "the notice that was heard still counts"
    assert isinstance(await actuator.apply(FLEET, rig.offer, 1), Applied)


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


async def test_killed_at_any_step_between_ask_and_record_ends_in_one_purchase(tmp_path: Path) -> None:
    world = AwsWorld(lag_seconds=LAG_SECONDS)
    world.wall.now_unix = datetime.now(UTC).timestamp()

    async def buyer(step: str, fleet: str) -> int:
        folder = tmp_path / fleet
        folder.mkdir(exist_ok=True)
        process = await asyncio.create_subprocess_exec(*aws_buyer.command(world.url, folder, fleet, step))
        return await process.wait()

    fleets = {step: f"killed-{index}" for index, step in enumerate(aws_buyer.STEPS)}
    killed = await asyncio.gather(*(buyer(step, fleet) for step, fleet in fleets.items()))
    assert set(killed) == {-9}
    for fleet in fleets.values():
        actuator = aws_actuator(aws_buyer.OPTIONS, FileIntentStore(tmp_path / fleet), api=world.api)
        assert isinstance(await actuator.apply(fleet, aws_buyer.OFFER, aws_buyer.TARGET), Applied | Skipped)
    counts = dict.fromkeys(fleets.values(), 0)
    for instance in world.instances():
        tags = {tag["key"]: tag["value"] for tag in instance.get_tags()}
        counts[tags["tidegate.dev/fleet"]] += 1
    assert counts == dict.fromkeys(fleets.values(), aws_buyer.TARGET)
