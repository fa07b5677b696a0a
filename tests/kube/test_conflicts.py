"""Somebody else scales the same object: who it is, and what each policy does about it, on a real API server."""

from collections.abc import Callable

import pytest

from actuators.api import Applied, Skipped
from tests.kube.conftest import FLEET, Scene
from tests.kube.proxy import Fault

pytestmark = pytest.mark.needs("kube-apiserver")
SceneMaker = Callable[..., Scene]


async def test_what_created_the_object_is_taken_over_without_a_word(scene: Scene) -> None:
    scene.edit(2, manager="kubectl-client-side-apply")
    assert await scene.subject.apply(FLEET, scene.offer, 3) == Applied(1)
    assert scene.asked() == 3


async def test_by_default_it_yields_and_says_to_whom(scene: Scene) -> None:
    await scene.subject.apply(FLEET, scene.offer, 3)
    scene.edit(5)
    status = await scene.observed(lambda status: "yields to kubectl-edit" in status.message)
    assert "yields to kubectl-edit, who wrote 5 over our 3" in status.message
    assert status.ready + status.pending == 5
    assert status.unavailable, "nobody should count on more from here"
    result = await scene.subject.apply(FLEET, scene.offer, 4)
    assert result == Skipped("yields: kubectl-edit wrote 5")
    assert scene.asked() == 5


async def test_after_a_restart_it_still_knows_that_the_number_is_not_its_own(scene: Scene) -> None:
    await scene.subject.apply(FLEET, scene.offer, 3)
    scene.edit(5)
    assert isinstance(await scene.actuator().apply(FLEET, scene.offer, 4), Skipped)
    assert scene.asked() == 5


async def test_it_goes_on_once_the_number_is_what_it_wrote(scene: Scene) -> None:
    await scene.subject.apply(FLEET, scene.offer, 3)
    scene.edit(5)
    await scene.observed(lambda status: status.ready + status.pending == 5)
    scene.edit(3)
    status = await scene.observed(lambda status: status.ready + status.pending == 3)
    assert not status.unavailable
    assert isinstance(await scene.subject.apply(FLEET, scene.offer, 4), Applied)


@pytest.mark.parametrize("policy", ["warn", "takeOver"])
async def test_told_to_it_writes_over_the_other_and_says_so_where_kubectl_shows_it(scene_of: SceneMaker, policy: str) -> None:
    scene = scene_of(actuator_options={"conflict": policy})
    await scene.subject.apply(FLEET, scene.offer, 3)
    scene.edit(5)
    await scene.observed(lambda status: status.ready + status.pending == 5)
    result = await scene.subject.apply(FLEET, scene.offer, 4)
    assert result == Applied(-1, reason="written over kubectl-edit, who wrote 5")
    assert scene.asked() == 4
    assert any("kubectl-edit" in event["message"] for event in scene.events())


async def test_a_tug_of_war_is_not_pulled_at_every_change(scene_of: SceneMaker) -> None:
    scene = scene_of(actuator_options={"conflict": "takeOver"})
    await scene.subject.apply(FLEET, scene.offer, 3)
    for _ in range(4):
        scene.edit(5)
        await scene.observed(lambda status: status.ready + status.pending == 5)
        await scene.subject.apply(FLEET, scene.offer, 3)
    assert scene.asked() == 5
    assert scene.purchases() <= 6, "ours, and one over another's"


async def test_an_autoscaler_is_not_taken_over_even_the_first_time(scene: Scene) -> None:
    scene.edit(2, manager="kube-controller-manager")
    result = await scene.subject.apply(FLEET, scene.offer, 3)
    assert result == Skipped("yields: a HorizontalPodAutoscaler (kube-controller-manager) wrote 2")


async def test_who_only_looks_counts_on_the_pool_beside_an_autoscaler(scene: Scene) -> None:
    scene.edit(2, manager="kube-controller-manager")
    status = await scene.observed(lambda status: status.ready + status.pending == 2)
    assert "a HorizontalPodAutoscaler (kube-controller-manager), who wrote 2" in status.message
    assert not status.unavailable, "so that recommendations may grow it"
    assert isinstance(await scene.subject.apply(FLEET, scene.offer, 3), Skipped)
    assert (await scene.observe()).unavailable, "who is to act cannot have more"


async def test_what_the_scale_subresource_hides_is_found_by_the_number(scene: Scene) -> None:
    await scene.subject.apply(FLEET, scene.offer, 3)
    path = f"{scene.deployments}/r1/scale?fieldManager=somebody"
    scene.plane.call("PATCH", path, {"spec": {"replicas": 6}}, "application/merge-patch+json")
    await scene.observed(lambda status: status.ready + status.pending == 6)
    assert await scene.subject.apply(FLEET, scene.offer, 4) == Skipped("yields: somebody through the scale subresource wrote 6")


async def test_an_edit_that_the_watch_has_not_told_of_yet_is_not_written_over(scene: Scene) -> None:
    await scene.subject.apply(FLEET, scene.offer, 3)
    await scene.observed(lambda status: status.pending == 3)
    scene.proxy.fail(Fault("GET", "watch=1", 503, times=1000))
    scene.proxy.break_watches()
    scene.edit(5)
    result = await scene.subject.apply(FLEET, scene.offer, 4)
    assert result == Skipped("yields: kubectl-edit wrote 5"), "the resource version no longer held, so it was read again"
    assert scene.asked() == 5
