"""What EC2 is asked, and what its answers come to: fleets, refusals, unknown outcomes."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from actuators.api import Applied, Failed, Skipped
from actuators.aws_actuator import aws_actuator
from actuators.intents import IntentState
from controlplane.contracts.errors import AccessRefused, SupplierUnavailable
from tests.contract import aws_buyer
from tests.contract.actuator_rigs import LAG_SECONDS, LEAD_SECONDS, offer_with
from tests.contract.aws_rig import WITHIN_SECONDS, AwsRig, supplier
from tests.contract.aws_world import INSTANCE_TYPE, AwsWorld
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


@pytest.mark.parametrize("name", ["i-00000000000000001", "cr-00000000000000001"])
async def test_giving_back_what_ec2_knows_no_more_is_fine(name: str) -> None:
    world = AwsWorld()
    if name.startswith("cr-"):
        world.refusals["CancelCapacityReservation"] = ("InvalidCapacityReservationId.NotFound", 400)
    await supplier(world).release(FLEET, offer_with(), name)
    assert {"TerminateInstances", "CancelCapacityReservation"} & set(world.calls)


async def test_what_is_owned_is_found_whatever_offer_it_was_for() -> None:
    rig = AwsRig(offer_with())
    await rig.actuator().apply(FLEET, rig.offer, 1)
    await rig.actuator().apply("forgotten", replace(rig.offer, name="gone"), 2)
    rig.advance(LAG_SECONDS + 1)
    owned = await supplier(rig.world).owned()
    assert sorted((one.fleet, one.offer) for one in owned) == [("forgotten", "gone"), ("forgotten", "gone"), (FLEET, rig.offer.name)]


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
