"""One fleet's signals from its engines' own metrics pages: fresher than a second, without a Prometheus.

Owns which pages are engines, gateways and GPUs, and that however many samples come, one Observation per interval leaves. `pages` fetches,
`exposition` reads, `replicas` folds, `work` composes. There is no history here: a page knows only now.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from controlplane.collectors import dcgm
from controlplane.collectors.api import SourceError
from controlplane.collectors.exposition import Reader
from controlplane.collectors.gateway import GatewayCounts, gateway_of
from controlplane.collectors.pages import Pages
from controlplane.collectors.presets import PRESETS
from controlplane.collectors.replicas import Replicas
from controlplane.collectors.roles import Role, Roles
from controlplane.collectors.targets import Targets, targets_of
from controlplane.collectors.work import Composer, Gpus
from controlplane.contracts.events import Observation
from controlplane.contracts.fleet import Fleet

ENGINE, GATEWAY, GPU = "engine", "gateway", "gpu"
GPU_SECONDS = 90.0

log = structlog.get_logger(__name__)


class EngineSource:
    """Reads one fleet's engines. Watching starts with the first read, which has nothing to say yet."""

    def __init__(self, fleet: Fleet, targets: Targets | None = None) -> None:
        options: dict[str, Any] = dict(fleet.demand_source)
        preset = PRESETS[str(options["preset"])]
        self.name = f"engines:{preset.name}"
        self._fleet, self._options = fleet, options
        self._targets = targets or targets_of(options)
        self._interval_seconds = float(options["interval_seconds"])
        scrape_seconds = float(options.get("scrape_interval_seconds") or 1.0)
        self._refresh_seconds = float(options.get("refresh_seconds") or 10.0)
        self._replicas = Replicas(fleet.slo)
        self._reader: Reader[Role] = Reader(Roles(preset, dict(options.get("match_labels") or {})).of)
        gateway = gateway_of(fleet)
        self._gateway_counts = GatewayCounts(gateway) if gateway else None
        self._gateway_reader: Reader[str] = Reader(_gateway_part(gateway.part) if gateway else lambda _name, _labels: ())
        self._gpu_reader: Reader[str] = Reader(lambda name, _labels: (name,) if name in dcgm.NAMES else ())
        self._gpu_values: dict[str, tuple[float, dict[str, list[float]]]] = {}
        self._composer = Composer(fleet, self.name, has_gateway=gateway is not None)
        self._watched = Pages(options, scrape_seconds, self._hear)
        self._expected: frozenset[str] | None = None
        self._finding: asyncio.Task[None] | None = None
        self._closed_unix: float | None = None
        self.pages = 0

    async def read(self, now_unix: float) -> Sequence[Observation]:
        """Return what was heard since the last read."""
        if self._finding is None:
            await self._find()
            self._watched.watch(GATEWAY, self._options.get("gateways") or ())
            self._watched.watch(GPU, self._options.get("gpus") or ())
            self._finding = asyncio.create_task(self._keep_finding())
            self._closed_unix = now_unix
            return []
        if self._expected is None:
            raise SourceError("nobody knows yet where the replicas are")
        interval = now_unix - self._closed_unix if self._closed_unix is not None else self._interval_seconds
        self._closed_unix = now_unix
        if interval <= 0.0:
            # The clock was set back: begin anew from here.
            return []
        # Scrapes are dated by the wall clock, whatever clock the reader runs on.
        wall = time.time()
        reading = replace(self._replicas.close(wall, interval, self._expected), time_unix=now_unix)
        diverted = self._gateway_counts.close(wall) if self._gateway_counts else None
        return [self._composer.compose(reading, diverted, self._gpus(wall))]

    async def history(self, start_unix: float, end_unix: float) -> AsyncIterator[tuple[float, Sequence[Observation]]]:
        """Yield nothing: a page knows only now."""
        nothing: tuple[tuple[float, Sequence[Observation]], ...] = ()
        for each in nothing:
            yield each

    async def close(self) -> None:
        """Stop watching."""
        if self._finding is not None:
            self._finding.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._finding
        await self._watched.close()
        await self._targets.close()

    def _hear(self, kind: str, address: str, time_unix: float, text: str) -> None:
        """Fold one page."""
        if kind == ENGINE:
            found = self._reader.read(text)
            self.pages += 1
            self._replicas.take(address, time_unix, found)
        elif kind == GATEWAY and self._gateway_counts is not None:
            self._gateway_counts.take(address, time_unix, self._gateway_reader.read(text))
        elif kind == GPU:
            values: dict[str, list[float]] = {}
            for _, name, value in self._gpu_reader.read(text):
                values.setdefault(name, []).append(value)
            self._gpu_values[address] = (time_unix, values)

    def _gpus(self, now_unix: float) -> Gpus:
        merged: dict[str, list[float]] = {}
        for time_unix, values in self._gpu_values.values():
            for name, found in values.items() if now_unix - time_unix <= GPU_SECONDS else ():
                merged.setdefault(name, []).extend(found)
        return dcgm.gpus_of(merged)

    async def _find(self) -> None:
        """Look for replicas; where that fails, those known before stay."""
        try:
            self._expected = await self._targets.find()
        except SourceError as error:
            log.warning("replicas cannot be looked for", fleet=self._fleet.name, reason=str(error))
            return
        self._watched.watch(ENGINE, self._expected)

    async def _keep_finding(self) -> None:
        while True:
            await asyncio.sleep(self._refresh_seconds)
            try:
                await self._find()
            except Exception as error:
                # Nobody waits for this task: without it no replica would ever be found again.
                log.error("replicas cannot be looked for", fleet=self._fleet.name, error=repr(error))


def _gateway_part(part: Any) -> Any:
    def resolve(name: str, labels: Mapping[str, str]) -> tuple[str, ...]:
        found = part(name, labels)
        return (found,) if found else ()

    return resolve
