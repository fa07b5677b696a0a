"""One hour of a fleet behind a Prometheus, in virtual time at production's pace: scrapes and readings every 15 s, staggered.

A crash, a rolling replacement, five minutes in which nothing is scraped, and eight in which Prometheus itself is out of reach.
"""

import math
import re

import pytest

from controlplane.collectors.api import SourceError
from controlplane.collectors.exposition import Reader
from controlplane.collectors.prometheus import PrometheusSource
from controlplane.collectors.prometheus_api import Series
from controlplane.contracts.events import Flag, Observation
from controlplane.contracts.fleet import Fleet, Slo, Unit
from tests.integration.replay_exporter import SGLANG, VLLM, VLLM_OLD, Names, Replica, swinging

START = 1_700_000_000.0
HOUR = 3600.0
SCRAPE = INTERVAL = 15.0
SCRAPES_OUT = (START + 1500.0, START + 1800.0)
UNREACHABLE = (START + 2400.0, START + 2880.0)
DAY = 7200.0


class VirtualPrometheus:
    """Scrapes replicas in virtual time and answers the queries that a source asks."""

    def __init__(self, replicas: dict[str, Replica]) -> None:
        self.replicas = replicas
        self.gone: dict[str, float] = {}
        self.now = START
        self._samples: dict[tuple[str, ...], list[tuple[float, float]]] = {}
        self._labels: dict[tuple[str, ...], dict[str, str]] = {}
        self._reader = Reader(lambda name, labels: ((name, tuple(sorted(labels.items()))),))

    def scrape_until(self, now: float) -> None:
        """Scrape every replica at its own place in the interval, up to a time."""
        while self.now < now:
            self.now += 1.0
            for index, (name, replica) in enumerate(sorted(self.replicas.items())):
                out = SCRAPES_OUT[0] <= self.now < SCRAPES_OUT[1]
                if (self.now - START + 4 * index) % SCRAPE or out or not self.is_there(name) or replica.started_unix > self.now:
                    continue
                for _, (metric, labels), value in self._reader.read(replica.text(self.now)):
                    key = (metric, name, *map(str, labels))
                    self._labels[key] = {**dict(labels), "__name__": metric, "instance": name, "job": "engines"}
                    self._samples.setdefault(key, []).append((self.now, value))

    def is_there(self, name: str) -> bool:
        return self.now < self.gone.get(name, math.inf) and self.replicas[name].started_unix <= self.now

    async def clock_offset(self) -> float:
        if UNREACHABLE[0] <= self.now < UNREACHABLE[1]:
            raise SourceError("not reachable")
        return 0.0

    async def instant(self, query: str) -> list[Series]:
        if query.startswith("up and on"):
            return [Series({"job": "engines", "instance": name}, ((self.now, 1.0),)) for name in self.replicas if self.is_there(name)]
        raw = re.fullmatch(r'\{__name__=~"([^"]+)"[^}]*\}\[(\d+)ms\]', query)
        if raw is None:
            return []
        names, since = set(raw[1].split("|")), self.now - int(raw[2]) / 1000.0
        found = []
        for key, points in self._samples.items():
            inside = tuple(point for point in points if since < point[0] <= self.now)
            if key[0] in names and inside:
                found.append(Series(self._labels[key], inside))
        return found

    async def close(self) -> None:
        pass


def engine(names: Names, level: float, started: float) -> Replica:
    return Replica(names, "m", *swinging(level, 0.4, DAY), started)


@pytest.mark.parametrize(("preset", "names"), [("vllm", VLLM), ("vllm", VLLM_OLD), ("sglang", SGLANG)], ids=["vllm", "vllm old", "sglang"])
async def test_an_hour_with_all_that_goes_wrong_is_right_to_one_percent(preset: str, names: Names) -> None:
    replicas = {f"r{index}": engine(names, 20.0 + index, START - 1000.0) for index in range(6)}
    replicas["late"] = engine(names, 21.0, START + 900.0)
    replicas["r1"].drained_unix = START + 900.0
    prometheus = VirtualPrometheus(replicas)
    prometheus.gone["r1"] = START + 960.0
    source = {"kind": "prometheus", "url": "http://x", "preset": preset, "interval_seconds": INTERVAL}
    reader = PrometheusSource(Fleet(name="f", slo=Slo(0.99), unit=Unit.REQUESTS, offers=(), demand_source=source), prometheus)  # type: ignore[arg-type]
    seen: list[Observation] = []
    for step in range(int(HOUR / INTERVAL) + 1):
        now = START + step * INTERVAL + 3.0
        if step == 40:
            replicas["r0"].restart(now)
        prometheus.scrape_until(now)
        try:
            seen += await reader.read(now)
        except SourceError:
            assert UNREACHABLE[0] <= prometheus.now < UNREACHABLE[1]

    known = [each for each in seen if each.demand_per_second is not None and each.time.timestamp() > START + 100.0]
    counted = sum((each.demand_per_second or 0.0) * (each.interval_seconds or 0.0) for each in known[1:])
    first, last = known[0].time.timestamp(), known[-1].time.timestamp()
    truth = sum(replica.arrived(first, last) for replica in replicas.values())
    assert counted == pytest.approx(truth, rel=0.01)

    for each in known:
        at, interval = each.time.timestamp(), each.interval_seconds or 0.0
        true = sum(replica.arrived(at - interval - SCRAPE, at - SCRAPE / 2) for replica in replicas.values()) / (interval + SCRAPE / 2)
        assert each.demand_per_second == pytest.approx(true, rel=0.12), (at - START, each.flags)
    assert min(each.demand_per_second or 0.0 for each in known) > 60.0, "never read as nothing"
    silent = [each for each in seen if SCRAPES_OUT[0] + 60.0 < each.time.timestamp() < SCRAPES_OUT[1] - 15.0]
    assert all(each.demand_per_second is None and Flag.STALE in each.flags for each in silent)
    missed = [each for each in seen if UNREACHABLE[0] < each.time.timestamp() < UNREACHABLE[1] - 15.0]
    assert len(missed) >= 30
    assert all(Flag.HISTORY in each.flags and each.demand_per_second is not None for each in missed), "caught up with, interval by interval"
