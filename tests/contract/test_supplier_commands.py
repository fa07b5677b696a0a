"""`tidegate sweep` and `tidegate capacity-block`, against an EC2 API over HTTP."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from actuators.simulated import simulated_actuator
from controlplane.cli import main
from controlplane.config import load_fleets
from controlplane.contracts.fleet import Offer
from controlplane.sim.cloud_config import CloudConfig, OfferWorld
from controlplane.sim.cloud_process import CloudProcess
from tests.contract.aws_world import INSTANCE_TYPE, TEMPLATE, AwsWorld
from tests.fakes import MemoryIntentStore

POLICY = """
apiVersion: tidegate.dev/v1alpha1
kind: Fleet
metadata: {{name: r1}}
spec:
  serving: {{model: m, slo: {{attainment: 0.99}}}}
  demand: {{unit: requests, nats: {{}}}}
  burst:
    - name: rented
      accelerator: {{type: H200, perReplica: 8}}
      capacityPerSecond: 10
      replicas: {{max: 8}}
      usdPerReplicaHour: 60
      {rented}
"""
AWS = "aws: {{region: us-east-1, instanceTypes: [{kind}], launchTemplate: {template}{more}}}"
RESERVED = ", purchase: capacityReservation, availabilityZone: us-east-1a"
BLOCK = ", purchase: capacityBlock, capacityBlock: {maxUsd: 5000}"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> AwsWorld:
    """An EC2 that boto3's own chain finds, as on a user's machine."""
    world = AwsWorld()
    for name, value in {"AWS_ENDPOINT_URL": world.url, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}.items():
        monkeypatch.setenv(name, value)
    return world


def policy_in(folder: Path, more: str = "") -> Path:
    path = folder / "policy.yaml"
    path.write_text(POLICY.format(rented=AWS.format(kind=INSTANCE_TYPE, template=TEMPLATE, more=more)))
    return path


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def rent(world: AwsWorld, fleet: str, offer: str) -> str:
    tags = [{"Key": "tidegate.dev/fleet", "Value": fleet}, {"Key": "tidegate.dev/offer", "Value": offer}]
    spec = [{"ResourceType": "instance", "Tags": tags}]
    ran = world.client("ec2").run_instances(
        ImageId="ami-12c6146b", MinCount=1, MaxCount=1, InstanceType=INSTANCE_TYPE, TagSpecifications=spec
    )
    return str(ran["Instances"][0]["InstanceId"])


def test_what_no_offer_wants_is_listed_and_then_ended(world: AwsWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = policy_in(tmp_path)
    kept, forgotten, theirs = rent(world, "r1", "rented"), rent(world, "r1", "old-offer"), rent(world, "another-fleet", "rented")
    assert run("sweep", str(path)) == 1
    shown = capsys.readouterr().out
    assert f"unwanted {forgotten} of r1/old-offer" in shown
    assert kept not in shown
    assert theirs not in shown
    assert run("sweep", str(path), "--end") == 0
    assert f"ended {forgotten}" in capsys.readouterr().out
    assert {one.id for one in world.instances()} == {kept, theirs}
    assert run("sweep", str(path)) == 0


def reserve(world: AwsWorld, fleet: str, offer: str) -> str:
    tags = [{"Key": "tidegate.dev/fleet", "Value": fleet}, {"Key": "tidegate.dev/offer", "Value": offer}]
    made = world.client("ec2").create_capacity_reservation(
        ClientToken=f"{fleet}.{offer}",
        InstanceType=INSTANCE_TYPE,
        InstancePlatform="Linux/UNIX",
        AvailabilityZone="us-east-1a",
        InstanceCount=2,
        TagSpecifications=[{"ResourceType": "capacity-reservation", "Tags": tags}],
    )
    return str(made["CapacityReservation"]["CapacityReservationId"])


@pytest.mark.parametrize("more", ["", RESERVED, BLOCK])
def test_a_reservation_that_no_offer_wants_is_paid_empty_too_and_is_cancelled(
    world: AwsWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: str
) -> None:
    path = policy_in(tmp_path, more)
    own, forgotten, in_use = reserve(world, "r1", "rented"), reserve(world, "r1", "old-offer"), reserve(world, "r1", "older")
    launched = rent(world, "r1", "older")
    begins = datetime.fromtimestamp(world.wall.now_unix, UTC)
    world.reserved["cr-block"] = {
        **world.reserved[forgotten],
        "CapacityReservationId": "cr-block",
        "ReservationType": "capacity-block",
        "StartDate": begins,
        "EndDate": begins + timedelta(days=1),
    }
    assert run("sweep", str(path)) == 1
    shown = capsys.readouterr().out
    assert f"unwanted {forgotten} of r1/old-offer" in shown
    assert (own in shown) is (more != RESERVED), "the actuator of another purchase option does not look at it"
    assert "cr-block" not in shown, "a block is paid: there is nothing to give back"
    assert run("sweep", str(path), "--end") == 0
    assert f"ended {in_use} of r1/older" in capsys.readouterr().out
    states = {name: reservation["State"] for name, reservation in world.reserved.items()}
    assert states == {own: "active" if more == RESERVED else "cancelled", forgotten: "cancelled", in_use: "cancelled", "cr-block": "active"}
    assert launched not in {one.id for one in world.instances()}


def test_replicas_of_an_offer_with_a_pool_are_wanted_under_the_pools_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = OfferWorld(usd_per_replica_hour=60.0, lead_time_seconds=60.0)
    cloud = CloudProcess(tmp_path / "cloud", CloudConfig(offers={"shared": world, "old-pool": world}), max_seconds=100.0)
    with cloud:
        path = tmp_path / "policy.yaml"
        path.write_text(POLICY.format(rented=f'simulated: {{url: "{cloud.url}", pool: shared}}'))
        offer = load_fleets([path])[0].offer_by_name["rented"]
        forgotten = replace(offer, name="old", actuator_options={"pool": "old-pool"})

        async def held(*targets: tuple[Offer, int]) -> dict[str, int]:
            actuator = simulated_actuator(cloud.url, MemoryIntentStore())
            for one, target in targets:
                await actuator.apply("r1", one, target)
            seen = {one.name: await actuator.observe("r1", one) for one in (offer, forgotten)}
            await actuator.close()
            return {name: status.ready + status.pending for name, status in seen.items()}

        assert asyncio.run(held((offer, 2), (forgotten, 1))) == {"rented": 2, "old": 1}
        assert run("sweep", str(path), "--end") == 0
        assert "1 unwanted, 1 ended; 1 offers" in capsys.readouterr().out
        assert asyncio.run(held()) == {"rented": 2, "old": 0}


def test_an_offer_that_cannot_serve_its_fleet_is_left_alone_and_not_counted_as_looked_after(
    world: AwsWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = policy_in(tmp_path)
    rented = AWS.format(kind=INSTANCE_TYPE, template=TEMPLATE, more="")
    offer = f"{{name: small, accelerator: {{type: L4}}, replicas: {{max: 8}}, usdPerReplicaHour: 1, {rented}}}"
    path.write_text(path.read_text().replace("model: m", "model: deepseek-ai/DeepSeek-R1") + f"    - {offer}\n")
    assert list(load_fleets([path])[0].ineligible) == ["small"]
    kept = rent(world, "r1", "small")
    assert run("sweep", str(path), "--end") == 0
    said = "0 unwanted, 0 ended; 1 offers are looked after by their actuators, 1 are not eligible and left alone"
    assert capsys.readouterr().out.splitlines()[-1] == said
    assert {one.id for one in world.instances()} == {kept}


def test_a_supplier_that_does_not_answer_is_not_taken_for_an_empty_one(
    world: AwsWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.refusals["DescribeInstances"] = ("UnauthorizedOperation", 403)
    assert run("sweep", str(policy_in(tmp_path))) == 1
    assert "unknown what the supplier of r1/rented holds" in capsys.readouterr().out


def test_a_block_is_listed_with_its_price_and_bought_by_name(world: AwsWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = policy_in(tmp_path, BLOCK)
    begins = world.wall.now_unix + 86400.0
    offering = {
        "CapacityBlockOfferingId": "cb-0001",
        "InstanceType": INSTANCE_TYPE,
        "AvailabilityZone": "us-east-1a",
        "InstanceCount": 2,
        "StartDate": datetime.fromtimestamp(begins, UTC),
        "EndDate": datetime.fromtimestamp(begins + 86400.0, UTC),
        "CapacityBlockDurationHours": 24,
        "UpfrontFee": "3000.0",
    }
    world.blocks.append(offering)
    listing = ("capacity-block", str(path), "--offer", "rented", "--machines", "2")
    assert run(*listing) == 0
    assert "cb-0001: 2 × p5en.48xlarge" in capsys.readouterr().out
    assert run(*listing, "--buy", "cb-0001") == 1
    assert run(*listing, "--buy", "cb-0001", "--max-usd", "2000") == 1
    assert world.reserved == {}
    assert run(*listing, "--buy", "cb-0001", "--max-usd", "4000") == 0
    assert len(world.reserved) == 1
    assert run(*listing, "--buy", "cb-0002", "--max-usd", "4000") == 1


def test_the_policy_of_these_tests_is_valid(tmp_path: Path) -> None:
    assert [fleet.name for fleet in load_fleets([policy_in(tmp_path, BLOCK)])] == ["r1"]
