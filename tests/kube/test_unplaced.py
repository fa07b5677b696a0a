"""A node that goes and leaves replicas without a place: what the cluster says of it, and what the planner makes of it at once."""

from datetime import timedelta

import pytest

from actuators.api import Skipped
from controlplane.clocks import SystemClock
from controlplane.contracts.events import Decision, Event, PoolStatus, Tick
from controlplane.contracts.fleet import Mode, Tier
from controlplane.contracts.units import from_unix
from controlplane.services.reconciler import Reconciler
from tests.kube.conftest import FLEET, Scene, SceneMaker, eventually
from tests.unit.test_planning_unknowns import Planner, at

pytestmark = pytest.mark.needs("kube-apiserver")
FLOOR, DEMAND = 4, 38.0


def carried_by_its_floor(minutes: int) -> Planner:
    """A planner whose floor has carried its fleet for a while."""
    planner = Planner()
    planner.holds(0, burst=0)
    for minute in range(minutes):
        planner.holds(minute, reserved=FLOOR)
        planner.ticks(minute, DEMAND)
    return planner


async def heard(scene: Scene) -> list[Event]:
    """Take the node away; return what the reconciler says once the scheduler has said what it thinks of it."""
    said: list[Event] = []

    async def hear(event: Event) -> None:
        said.append(event)

    reconciler = Reconciler(FLEET, scene.offer, scene.subject, SystemClock(), hear)
    await reconciler.reconcile()
    now = from_unix(SystemClock().now())
    targets = {scene.offer.name: FLOOR}
    reconciler.follow(Decision(time=now, fleet=FLEET, mode=Mode.ACT, expires=now + timedelta(seconds=60), targets=targets))
    said.clear()
    scene.kubelets.remove_node(scene.node)
    try:
        scene.kubelets.settle("r1")

        async def is_told() -> bool:
            await reconciler.reconcile()
            return any(isinstance(event, Tick) for event in said)

        assert await eventually(is_told, bool)
    finally:
        scene.kubelets.add_node(scene.node, 8, pool=scene.namespace)
    return said


async def test_what_a_lost_node_leaves_without_a_place_is_rented_at_the_very_next_tick(scene_of: SceneMaker) -> None:
    scene = scene_of(name="reserved", tier=Tier.FLOOR)
    await scene.ready(FLOOR)
    planner = carried_by_its_floor(60)
    assert planner.ticks(60, DEMAND).targets == {"reserved": FLOOR, "burst": 0}
    answers = []
    for event in await heard(scene):
        if isinstance(event, PoolStatus | Tick):
            answers.append(planner.tell(event.model_copy(update={"time": at(60.1), "fleet": planner.fleet.name})))
        if answers and answers[-1] is not None:
            break
    decision = answers[-1]
    assert decision is not None, "the cluster's word brings a tick of its own: nobody waits for the next"
    assert decision.cause == "unschedulable"
    assert decision.targets["burst"] >= 1
    capacity = {offer.name: offer.capacity_per_second for offer in planner.fleet.offers}
    assert decision.targets["burst"] * capacity["burst"] >= DEMAND, "all of it, as nothing of the floor serves"


async def test_what_may_not_be_created_at_all_is_no_supply_on_its_way(scene: Scene) -> None:
    await scene.ready(1)
    limits = f"/api/v1/namespaces/{scene.namespace}/limitranges"
    none = {"metadata": {"name": "none"}, "spec": {"limits": [{"type": "Container", "max": {"nvidia.com/gpu": "0"}}]}}
    scene.plane.call("POST", limits, none)
    await scene.subject.apply(FLEET, scene.offer, 4)
    status = await scene.observed(lambda status: "not created" in status.message)
    assert (status.ready, status.pending, status.unavailable) == (1, 0, True)
    assert "3 not created: pods " in status.message
    assert "maximum nvidia.com/gpu usage per Container is 0" in status.message
    kept = await scene.subject.apply(FLEET, scene.offer, 1)
    assert isinstance(kept, Skipped), "as what cannot be placed, they stay asked for"
    scene.plane.call("DELETE", f"{limits}/none")
