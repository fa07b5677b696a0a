"""What is told without being asked: a change is published when it happens, and who we are may be renewed while we run."""

import asyncio
import json

import pytest

from actuators.kubernetes.actuator import KubernetesActuator
from actuators.kubernetes.cluster import Cluster
from controlplane.clocks import SystemClock
from controlplane.contracts.errors import SupplierError
from controlplane.contracts.events import Event, PoolStatus
from controlplane.services.reconciler import PERIOD_SECONDS, Reconciler
from tests.kube.conftest import FLEET, WAIT_SECONDS, Scene, eventually

pytestmark = pytest.mark.needs("kube-apiserver")


async def test_a_change_is_published_when_it_happens_and_not_when_the_period_is_over(scene: Scene) -> None:
    assert WAIT_SECONDS < PERIOD_SECONDS
    said: list[PoolStatus] = []

    async def hear(event: Event) -> None:
        if isinstance(event, PoolStatus):
            said.append(event)

    async def last() -> tuple[int, int]:
        return (said[-1].ready, said[-1].pending) if said else (-1, -1)

    await scene.ready(2)
    reconciler = Reconciler(FLEET, scene.offer, scene.subject, SystemClock(), hear)
    running = asyncio.create_task(reconciler.run())
    try:
        assert await eventually(last, lambda seen: seen == (2, 0)) == (2, 0)
        await asyncio.sleep(0.3)
        scene.kubelets.lead_seconds = 3600.0
        scene.edit(3)
        assert await eventually(last, lambda seen: seen == (2, 1)) == (2, 1)
        scene.kubelets.lead_seconds = 0.0
        scene.kubelets.settle("r1")
        assert await eventually(last, lambda seen: seen == (3, 0)) == (3, 0)
        await asyncio.sleep(0.3)
        count = len(said)
        await asyncio.sleep(0.5)
        assert len(said) == count, "nothing changed, nothing is said"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_token_that_has_run_out_is_said_and_a_new_one_is_read(scene: Scene) -> None:
    good = scene.plane.kubeconfig()
    path = scene.plane.folder / "renewed.kubeconfig"
    path.write_text(good.read_text().replace('"token": "admin"', '"token": "expired"'))
    assert json.loads(path.read_text()) != json.loads(good.read_text())
    cluster = Cluster(kubeconfig=path, patience_seconds=0.5)
    actuator = KubernetesActuator(cluster, scene.store)
    try:
        with pytest.raises(SupplierError, match="not signed in, so not allowed to"):
            await actuator.observe(FLEET, scene.offer)
        path.write_text(good.read_text())

        async def observed() -> int:
            return (await actuator.observe(FLEET, scene.offer)).ready

        assert await eventually(observed, lambda ready: ready == 0) == 0
    finally:
        await cluster.close()


async def test_without_a_way_to_sign_in_that_is_said(scene: Scene) -> None:
    cluster = Cluster(context="no-such-context", kubeconfig=scene.plane.kubeconfig(), patience_seconds=0.5)
    try:
        with pytest.raises(SupplierError, match="no way to sign in to Kubernetes with context no-such-context"):
            await KubernetesActuator(cluster, scene.store).observe(FLEET, scene.offer)
    finally:
        await cluster.close()
