"""Many fleets in one cluster: watches, API calls per minute at rest and at work, and the time from a decision to its patch.

Needs kube-apiserver, etcd, kube-controller-manager and kube-scheduler in $KUBEBUILDER_ASSETS; without them it says so and ends.
Intents are kept in a real NATS. There are no kubelets, so every replica stays pending and every fleet is looked at every 5 s, six times
as often as one that serves. At work each fleet's target changes every so many seconds, up and down by one, one fleet after the other.

    python benchmarks/kubernetes_fleets.py --fleets 500 --seconds 60 --every 120
"""

import argparse
import asyncio
import logging
import os
import sys
import tempfile
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import numpy as np
import structlog

sys.path.insert(0, str(Path(__file__).parents[1]))

from actuators.kubernetes.actuator import KubernetesActuator
from actuators.kubernetes.cluster import Cluster
from controlplane.bus.connect import connect
from controlplane.bus.embedded import EmbeddedServer
from controlplane.bus.intents import KvIntentStore
from controlplane.bus.streams import ensure_streams
from controlplane.clocks import SystemClock
from controlplane.contracts.events import Actuation, Decision, Event, Outcome
from controlplane.contracts.fleet import Mode, Offer, Tier
from controlplane.contracts.units import from_unix
from controlplane.services.reconciler import Reconciler
from tests.kube.control_plane import ControlPlane, assets
from tests.kube.kubelet import Kubelets
from tests.kube.objects import deployment

NAMESPACE = "fleets"
GPUS, REPLICAS_AT_MOST = 8, 3
DECISION_SECONDS = 15.0


class Fleets:
    """The reconcilers, and when each was told what."""

    def __init__(self, actuator: KubernetesActuator, count: int) -> None:
        self.told: dict[tuple[str, int], float] = {}
        self.seconds: list[float] = []
        self.failures: Counter[str] = Counter()
        clock = SystemClock()
        self.reconcilers = [Reconciler(f"f{number}", offer_of(number), actuator, clock, self._hear) for number in range(count)]

    async def _hear(self, event: Event) -> None:
        if isinstance(event, Actuation):
            if event.outcome is Outcome.APPLIED and (key := (event.fleet, event.target)) in self.told:
                self.seconds.append(time.monotonic() - self.told.pop(key))
            elif event.outcome is Outcome.FAILED:
                self.failures[event.error[:80]] += 1

    def decide(self, number: int, target: int, *, is_new: bool = True) -> None:
        """Hand a fleet a decision, as the planner does at each tick."""
        reconciler = self.reconcilers[number]
        now = from_unix(time.time())
        if is_new:
            self.told[reconciler.fleet, target] = time.monotonic()
        targets = {reconciler.offer.name: target}
        expires = now + timedelta(seconds=60)
        reconciler.follow(Decision(time=now, fleet=reconciler.fleet, mode=Mode.ACT, expires=expires, targets=targets))

    async def done(self, seconds: float) -> None:
        """Wait until every new target was followed, for so long at most."""
        give_up = time.monotonic() + seconds
        while self.told and time.monotonic() < give_up:
            await asyncio.sleep(0.05)


def offer_of(number: int) -> Offer:
    """Return the floor of a fleet, a Deployment of its own."""
    options = {"namespace": NAMESPACE, "name": f"f{number}"}
    return Offer(
        "own",
        Tier.FLOOR,
        10.0,
        0,
        REPLICAS_AT_MOST,
        10.0,
        60.0,
        actuator="kubernetes",
        actuator_options=options,
        accelerators_per_replica=GPUS,
    )


def furnish(plane: ControlPlane, fleets: int) -> None:
    """Create the Deployments, and nodes with room for all."""
    plane.call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    kubelets = Kubelets(plane, NAMESPACE)
    for number in range(fleets * REPLICAS_AT_MOST // 4 + 1):
        kubelets.add_node(f"node-{number}", 4 * GPUS)
    for number in range(fleets):
        plane.call("POST", f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments", deployment(NAMESPACE, f"f{number}", gpus=GPUS))


def said(label: str, calls: Counter[tuple[str, str]], seconds: float) -> None:
    """Print calls per minute, the most frequent first."""
    parts = ", ".join(f"{verb} {resource} {count * 60.0 / seconds:.0f}" for (verb, resource), count in calls.most_common(8))
    print(f"{label}: {sum(calls.values()) * 60.0 / seconds:.0f} API calls a minute ({parts or 'none'})")


async def measure(plane: ControlPlane, nats_url: str, count: int, seconds: float, every: float) -> bool:
    """Run the fleets at rest, then at work; return whether nothing failed."""
    client = await connect(nats_url)
    await ensure_streams(client.jetstream())
    cluster = Cluster(kubeconfig=plane.kubeconfig())
    fleets = Fleets(KubernetesActuator(cluster, KvIntentStore(client)), count)
    tasks = [asyncio.create_task(reconciler.run()) for reconciler in fleets.reconcilers]
    begun = time.monotonic()
    for number in range(count):
        fleets.decide(number, 1)
    await fleets.done(300.0)
    print(f"{count} fleets from nothing to one replica each: {time.monotonic() - begun:.1f} s, {len(fleets.told)} missing")
    await asyncio.sleep(10.0)
    watches = {key: value for key, value in cluster.server.calls.items() if key[0] == "watch"}
    print(f"watches: {', '.join(f'{resource} {value}' for (_, resource), value in sorted(watches.items()))}")
    await rest(fleets, cluster.server.calls, seconds)
    await work(fleets, cluster.server.calls, seconds, every)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await cluster.close()
    await client.close()
    return not fleets.failures and not fleets.told


async def rest(fleets: Fleets, calls: Counter[tuple[str, str]], seconds: float) -> None:
    """Say the same at every tick."""
    before, used, begun = calls.copy(), time.process_time(), time.monotonic()
    while (now := time.monotonic() - begun) < seconds:
        for number in range(len(fleets.reconcilers)):
            fleets.decide(number, 1, is_new=False)
        await asyncio.sleep(min(DECISION_SECONDS, seconds - now))
    elapsed = time.monotonic() - begun
    said("at rest", calls - before, elapsed)
    print(f"  {(time.process_time() - used) / elapsed:.2f} cores")


async def work(fleets: Fleets, calls: Counter[tuple[str, str]], seconds: float, every: float) -> None:
    """Change each fleet's target once in so many seconds."""
    fleets.seconds.clear()
    fleets.failures.clear()
    count, turn = len(fleets.reconcilers), 0
    before, used, begun = calls.copy(), time.process_time(), time.monotonic()
    while (elapsed := time.monotonic() - begun) < seconds:
        while turn < count * elapsed / every:
            fleets.decide(turn % count, 2 - turn // count % 2)
            turn += 1
        await asyncio.sleep(0.01)
    await fleets.done(30.0)
    said(f"at work, {turn * 60.0 / seconds:.0f} new targets a minute", calls - before, elapsed)
    print(f"  {(time.process_time() - used) / elapsed:.2f} cores; load of the machine {os.getloadavg()[0]:.1f}")
    p50, p99 = np.quantile(fleets.seconds, (0.5, 0.99)) * 1000.0
    print(f"  decision to patch: p50 {p50:.0f} ms, p99 {p99:.0f} ms, {len(fleets.seconds)} of {turn}; failures {dict(fleets.failures)}")


async def run(count: int, seconds: float, every: float) -> bool:
    """Start everything, measure, and take it down again."""
    with tempfile.TemporaryDirectory() as folder, ControlPlane(Path(folder) / "kube") as plane:
        furnish(plane, count)
        async with EmbeddedServer(Path(folder) / "nats") as server:
            return await measure(plane, server.url, count, seconds, every)


def main() -> int:
    """Measure, where there is a control plane."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fleets", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=120.0, help="seconds between two changes of one fleet's target")
    options = parser.parse_args()
    if not os.access(assets() / "kube-apiserver", os.X_OK):
        print("no kube-apiserver in $KUBEBUILDER_ASSETS: not measured")
        return 0
    return 0 if asyncio.run(run(options.fleets, options.seconds, options.every)) else 1


if __name__ == "__main__":
    sys.exit(main())
