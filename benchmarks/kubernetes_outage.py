"""A real API server away for real minutes, while a recorded day goes on and `tidegate up --mode act` decides and follows.

Needs what `tests/e2e/test_kubernetes.py` needs: a control plane in $KUBEBUILDER_ASSETS, prometheus and the traces; without them it says so
and ends. The server is killed and started again, or hangs with its connections open (`--how hang`). A number in the cluster is wrong if it
is neither what was there before nor a target of a decision that still held when it was seen.

    python benchmarks/kubernetes_outage.py --minutes 10 --how kill
"""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from controlplane.traces.library import data_folders
from tests.e2e.kubernetes_world import CAPACITY, NAMESPACE, POLICY, TOKEN, World, recorded, status
from tests.e2e.programs import Program, eventually
from tests.integration.prometheus_process import PrometheusProcess
from tests.integration.replay_exporter import VLLM, Exporter, Replica
from tests.kube.control_plane import ControlPlane, assets, free_port

OFFERS = ("own", "rented")
# A day in twenty minutes.
HOURS_A_SECOND, TICK = 0.02, "5s"
WARM_SECONDS, AFTER_SECONDS = 90.0, 120.0


class Watcher:
    """What the status page says and what the cluster holds, over time."""

    def __init__(self, url: str, world: World) -> None:
        self._url, self._world = url, world
        self.decided: dict[str, dict[str, int]] = {}
        self.expires: dict[str, float] = {}
        self.offers: dict[str, dict[str, Any]] = {}
        self.numbers: list[tuple[float, str, int]] = []

    async def look(self) -> None:
        """Take over the newest decision and what is said of the offers."""
        said = await status(self._url)
        self.offers = {offer["name"]: offer for offer in said["offers"]}
        for decision in [said["decision"], *said["decisions"]]:
            if decision:
                self.decided[decision["time"]] = decision["targets"]
                self.expires[decision["time"]] = datetime.fromisoformat(decision["expires"]).timestamp()

    def is_said_away(self) -> bool:
        """Return whether every offer is said to be unavailable."""
        return all(offer["unavailable"] for offer in self.offers.values())

    def asked(self) -> dict[str, int]:
        """Return what the cluster holds, and remember it."""
        found = {name: self._world.asked(name) for name in OFFERS}
        self.numbers += [(time.time(), name, number) for name, number in found.items()]
        return found

    def newest(self) -> dict[str, int]:
        """Return the newest decision's targets."""
        return self.decided[max(self.decided)]

    def wrong(self, before: dict[str, int]) -> list[tuple[str, int]]:
        """Return the numbers seen that nobody decided in time."""
        held = [(expires, self.decided[at]) for at, expires in self.expires.items()]
        return [
            (name, number)
            for at, name, number in self.numbers
            if number != before[name] and not any(targets.get(name) == number for expires, targets in held if at <= expires)
        ]


@asynccontextmanager
async def running(folder: Path, plane: ControlPlane) -> AsyncIterator[tuple[World, str]]:
    """Run the whole of it; yield the cluster's side and the address of the status page."""
    os.environ.update(KUBECONFIG=str(plane.kubeconfig()), TIDEGATE_WEB_TOKEN=TOKEN)
    world, started, listen = World(plane), time.time(), f"127.0.0.1:{free_port()}"
    with Exporter() as exporter, PrometheusProcess(folder / "prometheus") as prometheus, world.kubelets.running():
        exporter.replicas["a"] = Replica(VLLM, "m", *recorded(data_folders(os.environ), started, HOURS_A_SECOND), started)
        prometheus.target(exporter.address, {"a": "/a/metrics"})
        policy = folder / "policy.yaml"
        policy.write_text(POLICY.format(prometheus=prometheus.url, capacity=CAPACITY, namespace=NAMESPACE, tick=TICK, interval="1s"))
        with Program(folder, "up", str(policy), "--mode", "act", "--listen", listen, "--folder", str(folder / "up")) as tidegate:
            await tidegate.up()
            await eventually(lambda: world.asked("own") == 2, "the floor")
            yield world, f"http://{listen}"


async def away(plane: ControlPlane, watcher: Watcher, how: str, seconds: float) -> None:
    """Take the server away for so long, and say what is said meanwhile."""
    if how == "kill":
        plane.stop_api()
    else:
        plane.hang_api(True)
    begun, said_after, known = time.monotonic(), float("inf"), len(watcher.decided)
    supplies: list[str] = []
    while (elapsed := time.monotonic() - begun) < seconds:
        await watcher.look()
        supply = " ".join(f"{name} {offer['ready']}+{offer['pending']}" for name, offer in watcher.offers.items())
        if not supplies or supply != supplies[-1].partition(": ")[2]:
            supplies.append(f"{elapsed:.0f} s: {supply}")
        if watcher.is_said_away():
            said_after = min(said_after, elapsed)
        await asyncio.sleep(0.5)
    print(
        f"away for {seconds / 60.0:.1f} min ({how}): said of every offer after {said_after:.1f} s; {len(watcher.decided) - known} decisions"
    )
    print(f"  what was said to be there, ready and pending: {'; '.join(supplies)}; newest targets at its end {watcher.newest()}")
    if how == "kill":
        await asyncio.to_thread(plane.start_api)
    else:
        plane.hang_api(False)


async def back(watcher: Watcher, before: dict[str, int]) -> bool:
    """Say how soon the cluster is what the newest decision says, and whether any number was wrong; return whether all was well."""
    begun, seen_after, right_after = time.monotonic(), float("inf"), float("inf")
    watcher.numbers.clear()
    while (elapsed := time.monotonic() - begun) < AFTER_SECONDS:
        await watcher.look()
        try:
            asked = await asyncio.to_thread(watcher.asked)
        except OSError:
            # It is up and does not answer in time yet.
            continue
        if not watcher.is_said_away():
            seen_after = min(seen_after, elapsed)
            if all(asked[name] == watcher.newest().get(name) for name in OFFERS):
                right_after = min(right_after, elapsed)
        await asyncio.sleep(0.05)
    wrong = watcher.wrong(before)
    print(f"the server is back: seen after {seen_after:.1f} s, the newest decision made so after {right_after:.1f} s")
    print(f"  numbers in the next {AFTER_SECONDS:g} s: {sorted({(name, number) for _, name, number in watcher.numbers})}, wrong {wrong}")
    return not wrong and right_after < AFTER_SECONDS


async def run(minutes: float, how: str) -> bool:
    """Start everything, take the server away, and look what comes of it."""
    with tempfile.TemporaryDirectory() as name, ControlPlane(Path(name) / "kube") as plane:
        async with running(Path(name), plane) as (world, url):
            watcher = Watcher(url, world)
            await asyncio.sleep(WARM_SECONDS)
            await watcher.look()
            before = watcher.asked()
            print(f"before: asked for {before}")
            await away(plane, watcher, how, minutes * 60.0)
            return await back(watcher, before)


def main() -> int:
    """Measure, where everything that it needs is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--how", choices=("kill", "hang"), default="kill")
    options = parser.parse_args()
    if not os.access(assets() / "kube-apiserver", os.X_OK) or shutil.which("prometheus") is None:
        print("no kube-apiserver in $KUBEBUILDER_ASSETS, or no prometheus: not measured")
        return 0
    return 0 if asyncio.run(run(options.minutes, options.how)) else 1


if __name__ == "__main__":
    sys.exit(main())
