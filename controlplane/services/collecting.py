"""The schedule of a source: history first, then a read every interval, each published before the next; a failure is said, not hidden.

Owns when a source is read and what is already known; `controlplane.collectors` owns what is read. Two reads never overlap, so a slow
source makes gaps (which it catches up with) and never a queue.
"""

import asyncio
import contextlib
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

import structlog
from nats.aio.client import Client
from rich.console import Console
from rich.progress import Progress

from controlplane import tracing
from controlplane.bus.publish import Publisher, PublishError
from controlplane.bus.watch import newest
from controlplane.clocks import Clock
from controlplane.collectors.api import Source, SourceError
from controlplane.collectors.breaker import next_read, phase
from controlplane.collectors.prometheus import PrometheusSource
from controlplane.collectors.scrape import EngineSource
from controlplane.collectors.work import nothing_heard
from controlplane.contracts.events import Observation
from controlplane.contracts.fleet import Fleet
from controlplane.contracts.subjects import INPUTS_STREAM, OBSERVATION
from controlplane.services.collector import SERVICE

HISTORY_SECONDS_AT_MOST = 300.0
HISTORY_FROM_GAP_SECONDS = 600.0
SHORTEST_HISTORY_SECONDS = 120.0

SOURCES: Mapping[str, Callable[[Fleet], Source]] = {"prometheus": PrometheusSource, "engines": EngineSource}

log = structlog.get_logger(__name__)


def is_read(fleet: Fleet) -> bool:
    """Whether a fleet's demand is read from somewhere, and not pushed or replayed."""
    return fleet.demand_source.get("kind") in SOURCES


def collector_of(client: Client, fleet: Fleet, clock: Clock) -> "SourceCollector":
    """Return the collector of a fleet whose demand is read."""
    return SourceCollector(client, fleet, SOURCES[str(fleet.demand_source["kind"])](fleet), clock, SERVICE)


class SourceCollector:
    """Publishes one fleet's observations out of a source until it is stopped. `chance` spreads fleets over the interval."""

    def __init__(
        self, client: Client, fleet: Fleet, source: Source, clock: Clock, service: str, chance: Callable[[], float] = random.random
    ) -> None:
        self._client, self._fleet, self._source, self._clock, self._chance = client, fleet, source, clock, chance
        self._interval_seconds = float(str(fleet.demand_source["interval_seconds"]))
        self._history_seconds = float(str(fleet.demand_source.get("backfill_seconds") or 0.0))
        self._publisher = Publisher(client, f"tidegate/{service}/{fleet.name}")
        self._stopping = asyncio.Event()
        self._known_until: float | None = None
        self._heard_unix: float | None = None
        self._is_failing = False

    async def run(self) -> None:
        """Read and publish."""
        self._known_until = await self._newest_known()
        try:
            await self._fill_gap(SHORTEST_HISTORY_SECONDS)
            due = self._clock.now() + phase(self._interval_seconds, self._chance())
            while await self._waited_until(due):
                with tracing.span("observe", fleet=self._fleet.name, source=self._source.name):
                    await self._read_once()
                due = next_read(due, self._clock.now(), self._interval_seconds)
        finally:
            await self._source.close()

    def stop(self) -> None:
        """Let `run` end soon."""
        self._stopping.set()

    async def _read_once(self) -> None:
        now = self._clock.now()
        try:
            observations = await self._source.read(now)
        except SourceError as error:
            self._say_failing(str(error))
            age = now - self._heard_unix if self._heard_unix is not None else None
            await self._publish([nothing_heard(self._fleet, now, self._interval_seconds, self._source.name, age)])
            return
        if self._is_failing:
            log.info("the source answers again", fleet=self._fleet.name, source=self._source.name)
        self._is_failing, self._heard_unix = False, now
        await self._fill_gap(HISTORY_FROM_GAP_SECONDS)
        await self._publish(observations)

    async def _fill_gap(self, least_seconds: float) -> None:
        """Read and publish what a source remembers of the time that nobody observed, if that is long enough to matter."""
        end = self._clock.now() - self._interval_seconds
        start = end - self._history_seconds
        if self._known_until is not None:
            start = max(start, self._known_until)
        if self._history_seconds <= 0.0 or end - start < least_seconds:
            return
        count = 0
        try:
            async with asyncio.timeout(HISTORY_SECONDS_AT_MOST):
                with _progress(f"history of {self._fleet.name}") as show:
                    async for done, observations in self._source.history(start, end):
                        await self._publish(observations)
                        count += len(observations)
                        show(done)
                        if self._stopping.is_set():
                            return
        except (SourceError, TimeoutError) as error:
            reason = str(error) or f"not done within {HISTORY_SECONDS_AT_MOST:g} s"
            log.warning("history was not read to its end", fleet=self._fleet.name, observations=count, reason=reason)
            return
        self._known_until = end
        log.info("history was read", fleet=self._fleet.name, observations=count, days=round((end - start) / 86_400.0, 2))

    async def _newest_known(self) -> float | None:
        """Return until when the demand is known, by the newest observation on the stream; None where that does not say."""
        event = await newest(self._client, INPUTS_STREAM, OBSERVATION.format(fleet=self._fleet.name))
        if not isinstance(event, Observation):
            return None
        if event.demand_per_second is not None:
            return event.time.timestamp()
        return event.time.timestamp() - event.age_seconds if event.age_seconds is not None else None

    async def _publish(self, observations: Sequence[Observation]) -> None:
        for observation in observations:
            if self._known_until is not None and observation.time.timestamp() <= self._known_until:
                continue
            try:
                await self._publisher.publish(observation)
            except PublishError as error:
                log.warning("an observation was not published", fleet=self._fleet.name, reason=str(error))
                return
            if observation.demand_per_second is not None:
                self._known_until = observation.time.timestamp()

    def _say_failing(self, reason: str) -> None:
        if not self._is_failing:
            log.warning("nothing could be read: demand is unknown until it can", fleet=self._fleet.name, reason=reason)
        self._is_failing = True

    async def _waited_until(self, due: float) -> bool:
        """Wait for the clock; return whether to go on."""
        waiting = asyncio.ensure_future(self._clock.sleep(max(due - self._clock.now(), 0.0)))
        ending = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({waiting, ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (waiting, ending):
                task.cancel()
            await asyncio.gather(waiting, ending, return_exceptions=True)
        return not self._stopping.is_set()


@contextlib.contextmanager
def _progress(what: str) -> Iterator[Callable[[float], None]]:
    """Show a bar on a terminal, and nothing elsewhere: the log says when it is done."""
    if not sys.stderr.isatty():
        yield lambda _done: None
        return
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=1.0)
        yield lambda done: progress.update(task, completed=done)
