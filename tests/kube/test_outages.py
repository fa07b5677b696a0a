"""An API server that refuses, throttles, loses replies, crashes, is gone for long: no wrong number, no lost decision, and it recovers."""

import asyncio

import pytest

from actuators.api import Applied, Failed, Skipped
from controlplane.contracts.errors import SupplierError
from tests.kube.conftest import FLEET, Scene, eventually
from tests.kube.proxy import Fault

pytestmark = pytest.mark.needs("kube-apiserver")


@pytest.mark.parametrize("status", [429, 500, 503, 0])
async def test_a_moment_of_trouble_is_waited_out(scene: Scene, status: int) -> None:
    await scene.observe()
    scene.proxy.fail(Fault("PATCH", "/scale", status))
    assert await scene.subject.apply(FLEET, scene.offer, 3) == Applied(3)
    assert (scene.asked(), scene.purchases()) == (3, 1)


async def test_everybody_waits_as_long_as_the_server_asks_for(scene: Scene) -> None:
    await scene.observe()
    scene.proxy.fail(Fault("PATCH", "/scale", 429, retry_after="0.3"))
    assert await scene.subject.apply(FLEET, scene.offer, 3) == Applied(3)
    scene.proxy.fail(Fault("PATCH", "/scale", 429, times=100, retry_after="60"))
    before = scene.proxy.count("PATCH", "/scale")
    result = await scene.subject.apply(FLEET, scene.offer, 4)
    assert isinstance(result, Failed)
    assert result.retryable
    assert "patch deployments.apps/scale" in result.error
    assert scene.proxy.count("PATCH", "/scale") == before + 1, "a minute is longer than it has patience for: it is not asked again"


async def test_a_storm_of_conflicts_passes_without_a_wrong_number(scene: Scene) -> None:
    await scene.observe()
    scene.proxy.fail(Fault("PATCH", "/scale", 409, times=3))
    assert await scene.subject.apply(FLEET, scene.offer, 3) == Applied(3)
    scene.proxy.fail(Fault("PATCH", "/scale", 409, times=100))
    result = await scene.subject.apply(FLEET, scene.offer, 7)
    assert isinstance(result, Failed)
    assert result.retryable
    assert scene.asked() == 3
    scene.proxy.faults.clear()
    assert await scene.subject.apply(FLEET, scene.offer, 7) == Applied(4)
    assert scene.asked() == 7


async def test_a_reply_that_is_lost_is_not_taken_for_anothers_edit(scene: Scene) -> None:
    await scene.observe()
    scene.proxy.fail(Fault("PATCH", "/scale", 0, after=True, times=100))
    result = await scene.subject.apply(FLEET, scene.offer, 3)
    assert isinstance(result, Skipped | Failed), "it was written, or nobody knows"
    scene.proxy.faults.clear()
    assert await scene.actuator().apply(FLEET, scene.offer, 3) == Skipped("already there")
    assert await scene.actuator().apply(FLEET, scene.offer, 4) == Applied(1)
    assert scene.asked() == 4


async def test_a_number_that_was_written_although_the_reply_was_lost_is_our_own(scene: Scene) -> None:
    await scene.ready(2)
    scene.proxy.fail(Fault("PATCH", "/scale", 0, after=True))
    result = await scene.subject.apply(FLEET, scene.offer, 5)
    assert result == Skipped("already there"), "asked again, it was in conflict with itself"
    assert await scene.actuator().apply(FLEET, scene.offer, 6) == Applied(1)
    assert await scene.subject.apply(FLEET, scene.offer, 7) == Applied(1), "and what another process of ours wrote is ours too"


@pytest.mark.parametrize("status", [403, 401])
async def test_a_number_that_was_written_is_our_own_although_a_server_that_restarts_refuses_it_next(scene: Scene, status: int) -> None:
    await scene.ready(2)
    scene.proxy.fail(Fault("PATCH", "/scale", 0, after=True), Fault("PATCH", "/scale", status))
    result = await scene.subject.apply(FLEET, scene.offer, 5)
    assert isinstance(result, Failed)
    assert not result.unavailable, "it may be on its way, so that nobody else should be asked yet"

    async def again() -> object:
        return await scene.subject.apply(FLEET, scene.offer, 6)

    assert await eventually(again, lambda result: isinstance(result, Applied)) == Applied(1)
    assert scene.asked() == 6


async def test_once_a_number_is_seen_whose_reply_was_lost_the_one_before_it_is_anothers(scene: Scene) -> None:
    await scene.ready(2)
    scene.proxy.fail(Fault("PATCH", "/scale", 0, after=True, times=100))
    assert isinstance(await scene.subject.apply(FLEET, scene.offer, 5), Skipped | Failed)
    scene.proxy.faults.clear()
    assert await scene.subject.apply(FLEET, scene.offer, 5) == Skipped("already there")
    scene.edit(2)
    await scene.observed(lambda status: status.ready + status.pending == 2)
    for actuator in (scene.subject, scene.actuator()):
        assert await actuator.apply(FLEET, scene.offer, 4) == Skipped("yields: kubectl-edit wrote 2")
    assert scene.asked() == 2


async def test_a_broken_watch_goes_on_where_it_broke_off(scene: Scene) -> None:
    await scene.ready(2)
    await scene.ready(1)
    lists = scene.proxy.count("GET", "limit=500")
    for target in (3, 1, 4):
        scene.proxy.break_watches()
        assert (await scene.ready(target)).ready == target
    assert scene.proxy.count("GET", "limit=500") == lists, "what it knew was still good"


async def test_a_version_that_is_too_old_is_listed_anew(scene: Scene) -> None:
    await scene.ready(2)
    lists = scene.proxy.count("GET", "limit=500")
    scene.proxy.fail(Fault("GET", "watch=1", 410, times=3))
    scene.proxy.break_watches()
    assert (await scene.ready(3)).ready == 3

    async def listed() -> int:
        return scene.proxy.count("GET", "limit=500") - lists

    assert await eventually(listed, lambda count: count >= 3) >= 3, "each kind, whichever breaks last"


async def test_what_went_while_nobody_watched_is_not_counted(scene: Scene) -> None:
    await scene.ready(3)
    scene.proxy.fail(Fault("GET", "watch=1", 503, times=2), Fault("GET", "watch=1", 410, times=3))
    scene.proxy.break_watches()
    scene.kubelets.lead_seconds = 3600.0
    for pod in scene.kubelets.pods():
        scene.plane.call("DELETE", f"/api/v1/namespaces/{scene.namespace}/pods/{pod['metadata']['name']}?gracePeriodSeconds=0")
    status = await scene.observed(lambda status: status.ready == 0)
    assert (status.ready, status.pending) == (0, 3)


async def test_a_server_that_restarts_is_found_again_and_the_decision_is_made_so(scene: Scene) -> None:
    scene.subject = scene.actuator(blind_seconds=0.5)
    await scene.ready(2)
    scene.plane.stop_api()
    try:
        result = await scene.subject.apply(FLEET, scene.offer, 5)
        assert isinstance(result, Failed)
        assert result.retryable
        with pytest.raises(SupplierError):
            await eventually(scene.observe, lambda _: False)
    finally:
        await asyncio.to_thread(scene.plane.start_api)

    async def again() -> int:
        await scene.subject.apply(FLEET, scene.offer, 5)
        return scene.asked()

    assert await eventually(again, lambda asked: asked == 5) == 5
    assert (await scene.ready(5)).ready == 5
