"""All of tidegate in act mode, from pushed demand to machines at suppliers over HTTP: EC2, and a market of Lambda Cloud and RunPod."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from nats.aio.client import Client

from controlplane.app import Settings, in_mode, running
from controlplane.bus.publish import Publisher
from controlplane.clocks import SystemClock
from controlplane.config import load_fleets
from controlplane.contracts.events import Observation
from controlplane.contracts.fleet import Mode
from controlplane.contracts.units import from_unix
from tests.contract.aws_world import INSTANCE_TYPE, TEMPLATE, AwsWorld
from tests.contract.gpu_clouds import KEY, LAMBDA_TYPE, RUNPOD_TYPE, CloudWorld
from tests.e2e.worlds import PUSHED

AWS = f"      aws: {{region: us-east-1, instanceTypes: [{INSTANCE_TYPE}], launchTemplate: {TEMPLATE}}}\n"


def market(url: str) -> str:
    return (
        "      market:\n"
        "        suppliers: [lambda, runpod]\n"
        "        regions: [eu]\n"
        f"        lambda: {{instanceType: {LAMBDA_TYPE}, sshKeyNames: [serving], url: '{url}/api/v1'}}\n"
        f"        runpod: {{gpuType: {RUNPOD_TYPE}, gpuCount: 8, image: 'serve:1', url: '{url}'}}\n"
    )


def policy_in(folder: Path, block: str) -> Path:
    path = folder / "policy.yaml"
    path.write_text(PUSHED.replace("      leadTime: 2m\n", f"      leadTime: 2m\n{block}").replace("tick: 1m", "tick: 1s"))
    return path


async def push(client: Client, demand: float) -> None:
    now = from_unix(SystemClock().now())
    await Publisher(client, "tidegate/test").publish(Observation(time=now, fleet="pushed", demand_per_second=demand))


async def held_after(folder: Path, block: str, held: Callable[[], int], at_least: int) -> int:
    """Run all services on a demand of 6 a second, three replicas' worth, until so many are held, for at most 40 s."""
    fleets = in_mode(load_fleets([policy_in(folder, block)]), Mode.ACT)
    async with running(Settings(fleets, folder / "run")) as plane:
        for _ in range(160):
            await push(plane.client, 6.0)
            await asyncio.sleep(0.25)
            if held() >= at_least:
                break
    return held()


async def test_ec2_instances_are_launched_for_the_demand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = AwsWorld()
    for name, value in {"AWS_ENDPOINT_URL": world.url, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}.items():
        monkeypatch.setenv(name, value)
    assert await held_after(tmp_path, AWS, lambda: len(world.instances()), 3) >= 3
    tags = {tag["key"]: tag["value"] for tag in world.instances()[0].get_tags()}
    assert (tags["tidegate.dev/fleet"], tags["tidegate.dev/offer"]) == ("pushed", "elsewhere")


async def test_the_market_buys_where_it_is_allowed_and_cheapest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = CloudWorld()
    monkeypatch.setenv("LAMBDA_API_KEY", KEY)
    monkeypatch.setenv("RUNPOD_API_KEY", KEY)
    assert await held_after(tmp_path, market(world.url), lambda: len(world.held()), 3) >= 3
    assert {one.place for one in world.held()} == {"europe-central-1"}, "23.92 USD/h at Lambda, 31.92 at RunPod"
