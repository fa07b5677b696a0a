"""From an alert's POST to the purchase that it causes, on the simulated cloud: p50 and p99, all in one process and in separate ones.

Run `python benchmarks/alert_latency.py [--alerts 60] [--load 1000] [--fleets 10] [--mode both]`. Every alert lifts a fleet by one replica,
so each must cause one purchase; its moment is the one at which the cloud wrote it down. `--load` observations per second, spread over
`--fleets` more fleets, go in beside it; what was folded of them is asked from /metrics. The polling path that peers use is drawn, not
waited for: metrics read every 30 s, decisions every 15 s, each at a random phase, then the same way to the cloud. It asserts nothing.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from nats.aio.client import Client
from prometheus_client.parser import text_string_to_metric_families

from controlplane.bus.connect import connect
from controlplane.bus.embedded import EmbeddedServer
from controlplane.config import load_fleets
from controlplane.contracts.events import Observation
from controlplane.contracts.subjects import headers_of, subject_of
from controlplane.contracts.units import from_unix
from controlplane.sim.cloud_config import cloud_config_of
from controlplane.sim.cloud_ledger import Bought, read_ledger
from controlplane.sim.cloud_process import CloudProcess

ROOT = Path(__file__).resolve().parents[1]
READY_SECONDS = 60.0
PURCHASE_SECONDS = 20.0
POLL_SECONDS, SYNC_SECONDS = 30.0, 15.0
ALERTED = "alerted"
POLICY = """\
apiVersion: tidegate.dev/v1alpha1
kind: Fleet
metadata: {{name: {name}}}
spec:
  serving: {{model: bench/model, engine: other, slo: {{ttft: 2s, attainment: 0.99}}}}
  demand: {{unit: requests, nats: {{}}}}
  floor:
    - {{name: {name}-owned, accelerator: {{type: H200}}, capacityPerSecond: 2.0, replicas: {{min: 1, max: 2}}, usdPerReplicaHour: 5{cloud}}}
  burst:
    - {{name: {name}-rented, accelerator: {{type: H200}}, capacityPerSecond: 2.0, replicas: {{max: 1000}}, usdPerReplicaHour: 10{cloud}}}
  guard: {{mode: {mode}}}
---
"""


@dataclass(frozen=True)
class Running:
    """A tidegate under test."""

    web: str
    nats: str
    ledger: Path
    processes: tuple[int, ...]


@dataclass(frozen=True)
class Measured:
    """Seconds from POST to purchase, one for each alert that caused one; and the load: published and folded per second, and what waits."""

    seconds: Sequence[float]
    answers: Sequence[float]
    missing: int
    retries: int
    published_per_second: float
    folded_per_second: float
    lag: float
    cores: float


def write_policy(folder: Path, fleets: int) -> Path:
    """Write the alerted fleet, which buys, and the others, which only decide."""
    text = POLICY.format(name=ALERTED, mode="act", cloud=", simulated: {}")
    text += "".join(POLICY.format(name=f"load-{number}", mode="recommend", cloud="") for number in range(fleets))
    path = folder / "policy.yaml"
    path.write_text(text)
    return path


@contextlib.asynccontextmanager
async def program(log: Path, *arguments: str) -> AsyncIterator[int]:
    """Run one `tidegate …` for as long as the block lasts; hands out its process id."""
    with log.open("wb") as output:
        command = [sys.executable, "-m", "controlplane.cli", *arguments]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.to_thread(process.wait, 20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def told(log: Path, key: str) -> str:
    """Return what a program's log says of `key` when it is up."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        for line in log.read_text().splitlines() if log.exists() else []:
            with contextlib.suppress(ValueError):
                said = json.loads(line)
                if said.get("event") == "tidegate is up":
                    return str(said[key])
        await asyncio.sleep(0.05)
    raise SystemExit(f"tidegate did not come up: {log.read_text()[-2000:]}")


@contextlib.asynccontextmanager
async def all_in_one(folder: Path, policy: Path) -> AsyncIterator[Running]:
    """Run everything in one process, as `tidegate up` does."""
    log = folder / "up.log"
    async with program(log, "up", str(policy), "--folder", str(folder / "run"), "--listen", "127.0.0.1:0") as pid:
        yield Running(await told(log, "web"), await told(log, "nats"), folder / "run" / "cloud" / "ledger.jsonl", (pid,))


@contextlib.asynccontextmanager
async def apart(folder: Path, policy: Path) -> AsyncIterator[Running]:
    """Run a NATS server, a cloud and four services, each a process of its own."""
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedServer(folder / "nats"))
        fleet = next(fleet for fleet in load_fleets([policy]) if fleet.name == ALERTED)
        cloud = stack.enter_context(CloudProcess(folder / "cloud", cloud_config_of(fleet), max_seconds=900.0))
        pids = [
            await stack.enter_async_context(
                program(folder / f"{service}.log", "run", service, str(policy), "--nats", server.url, "--cloud", cloud.url)
            )
            for service in ("forecaster", "planner", "actuator")
        ]
        log = folder / "web.log"
        pids += [await stack.enter_async_context(program(log, "run", "web", str(policy), "--nats", server.url, "--listen", "127.0.0.1:0"))]
        for service in ("forecaster", "planner", "actuator"):
            await told(folder / f"{service}.log", "nats")
        yield Running(await told(log, "web"), server.url, cloud.ledger, tuple(pids))


class Load:
    """Publishes observations at an even pace until it is cancelled; `published` counts them."""

    def __init__(self, client: Client, fleets: int, per_second: float) -> None:
        self._client, self._fleets, self._per_second = client, fleets, per_second
        self.published = 0

    async def run(self) -> None:
        """Publish, catching up after a pause of ours."""
        started, demand = time.perf_counter(), random.Random(7)
        while True:
            due = int((time.perf_counter() - started) * self._per_second)
            while self.published < due:
                name = f"load-{self.published % self._fleets}"
                seen = Observation(
                    time=from_unix(time.time()), fleet=name, interval_seconds=1.0, demand_per_second=demand.uniform(1.0, 4.0)
                )
                body = seen.model_dump_json().encode()
                await self._client.publish(subject_of(seen), body, headers=headers_of(seen, "tidegate/bench"))
                self.published += 1
            await asyncio.sleep(0.005)


def alert(number: int) -> dict[str, object]:
    """Return a body of Alertmanager's with one alert that lifts by one replica."""
    labels = {"alertname": "Bench", "tidegate_fleet": ALERTED, "tidegate_action": "lift", "tidegate_lift_replicas": "1"}
    starts = from_unix(time.time()).isoformat()
    one = {"status": "firing", "labels": {**labels, "n": str(number)}, "annotations": {}, "startsAt": starts, "fingerprint": f"{number:x}"}
    return {"version": "4", "groupKey": "bench", "status": "firing", "receiver": "bench", "truncatedAlerts": 0, "alerts": [one]}


async def bought(ledger: Path, after_unix: float) -> float | None:
    """Return when the alerted fleet's first purchase after a moment reached the cloud, None if it does not within the patience."""
    deadline = time.monotonic() + PURCHASE_SECONDS
    while time.monotonic() < deadline:
        for entry in reversed(list(read_ledger(ledger))):
            if isinstance(entry, Bought) and entry.offer == f"{ALERTED}-rented" and entry.time_unix >= after_unix:
                return entry.time_unix
        await asyncio.sleep(0.05)
    return None


def cpu_seconds(processes: Sequence[int]) -> float:
    """Return the processor time that processes have used, 0 where there is no /proc."""
    ticks = 0
    for pid in processes:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def figures(client: httpx.AsyncClient) -> tuple[float, float]:
    """Return (observations that this server heard, inputs not yet folded)."""
    heard = lag = 0.0
    for family in text_string_to_metric_families((await client.get("/metrics")).text):
        if family.name == "tidegate_observations":
            heard = sum(sample.value for sample in family.samples)
        if family.name == "tidegate_fold_lag_messages":
            lag = sum(sample.value for sample in family.samples)
    return heard, lag


async def measure(running: Running, alerts: int, load: float, fleets: int) -> Measured:
    """Fire alerts at random moments under load, and find the purchase of each."""
    nats = await connect(running.nats)
    pressing = Load(nats, fleets, load)
    task = asyncio.ensure_future(pressing.run() if load > 0 else asyncio.sleep(3600.0))
    rng, seconds, answers, missing, retries = random.Random(11), [], [], 0, 0
    try:
        async with httpx.AsyncClient(base_url=running.web, timeout=30.0, trust_env=False) as client:
            await asyncio.sleep(5.0)
            worked = cpu_seconds(running.processes)
            began, before, heard_before = time.perf_counter(), pressing.published, (await figures(client))[0]
            for number in range(alerts):
                await asyncio.sleep(rng.uniform(0.25, 0.55))
                posted = time.time()
                body = alert(number)
                while (await client.post("/webhooks/alertmanager", json=body)).status_code == httpx.codes.SERVICE_UNAVAILABLE:
                    retries += 1
                answers.append(time.time() - posted)
                arrived = await bought(running.ledger, posted)
                seconds += [arrived - posted] if arrived is not None else []
                missing += arrived is None
            took, (heard, lag) = time.perf_counter() - began, await figures(client)
            cores = (cpu_seconds(running.processes) - worked) / took
            return Measured(
                seconds, answers, missing, retries, (pressing.published - before) / took, (heard - heard_before) / took, lag, cores
            )
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await nats.close()


def polling(seconds: Sequence[float], draws: int = 100_000) -> np.ndarray:
    """Return what the polling path takes: until the metric is next read, until the next decision after that, then to the cloud."""
    rng = np.random.default_rng(3)
    read = rng.uniform(0.0, POLL_SECONDS, draws)
    phase = rng.uniform(0.0, SYNC_SECONDS, draws)
    drawn: np.ndarray = read + (phase - read) % SYNC_SECONDS + rng.choice(np.asarray(seconds), draws)
    return drawn


def show(name: str, measured: Measured) -> None:
    """Print one mode's figures."""
    if not measured.seconds:
        print(f"{name}: no alert caused a purchase")
        return
    for what, values in (("POST → answered", measured.answers), ("POST → purchase", measured.seconds)):
        p50, p90, p99, most = np.percentile(values, (50, 90, 99, 100)) * 1000.0
        print(f"{name:11} {what}: p50 {p50:7.1f} ms  p90 {p90:7.1f} ms  p99 {p99:7.1f} ms  max {most:7.1f} ms  n={len(values)}")
    p50, p99 = np.percentile(polling(measured.seconds), (50, 99))
    print(f"{name:11} polling path (30 s + 15 s), drawn: p50 {p50:.1f} s  p99 {p99:.1f} s")
    print(
        f"{name:11} load: {measured.published_per_second:.0f} observations/s published, {measured.folded_per_second:.0f}/s heard by the "
        f"web service, {measured.lag:.0f} inputs waiting to be folded at the end; {measured.missing} alerts without a purchase, "
        f"{measured.retries} answered with try again; tidegate's own processes used {measured.cores:.2f} cores"
    )


async def main() -> None:
    """Measure as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--alerts", type=int, default=60)
    parser.add_argument("--load", type=float, default=1000.0, help="observations per second beside the alerts")
    parser.add_argument("--fleets", type=int, default=10, help="how many fleets the load is spread over")
    parser.add_argument("--mode", choices=("all-in-one", "apart", "both"), default="both")
    asked = parser.parse_args()
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; {asked.alerts} alerts beside {asked.load:.0f} observations/s")
    for name, start in (("all-in-one", all_in_one), ("apart", apart)):
        if asked.mode in (name, "both"):
            with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as text:
                folder = Path(text)
                async with start(folder, write_policy(folder, max(asked.fleets, 1))) as running:
                    show(name, await measure(running, asked.alerts, asked.load, max(asked.fleets, 1)))


if __name__ == "__main__":
    asyncio.run(main())
