"""The collector service: whatever a policy names as its demand source becomes Observations on the stream.

Owns the replay of a trace through a simulated gateway; Observations that others push need no collector at all. No deciding here.
Other sources plug in beside `ReplayCollector`; `controlplane.app` chooses.
"""

import asyncio

import structlog
from nats.aio.client import Client

from controlplane import tracing
from controlplane.bus.publish import Publisher, PublishError
from controlplane.bus.watch import watch
from controlplane.clocks import Clock
from controlplane.contracts.events import Flag, Observation
from controlplane.contracts.fleet import Fleet
from controlplane.contracts.subjects import DECISION, INPUTS_STREAM, OUTPUTS_STREAM, POOL
from controlplane.contracts.units import from_unix
from controlplane.sim.gateway import SimulatedGateway
from controlplane.sim.workload import Workload

SERVICE = "collector"
# A busy machine makes an interval late, not unmeasured; so many are made up for before the rest is given up.
CATCH_UP_INTERVALS = 24

log = structlog.get_logger(__name__)


class ReplayCollector:
    """Publishes one fleet's observations from a workload, at the clock's pace, until the workload ends or it is stopped.

    Started again in the middle, it goes on at the clock's time: what nobody measured is not made up later. With `loop` the workload
    begins again at its end, on a clock that goes on.
    """

    def __init__(self, client: Client, fleet: Fleet, workload: Workload, interval_seconds: float, clock: Clock, loop: bool = False) -> None:
        self._loop = loop
        self._client, self._fleet, self._workload, self._clock = client, fleet, workload, clock
        self._interval_seconds = interval_seconds
        self._gateway = SimulatedGateway(fleet)
        self._publisher = Publisher(client, f"tidegate/{SERVICE}/{fleet.name}")
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Replay, and listen to what the gateway must know."""
        name = self._fleet.name
        pools = [POOL.format(fleet=name, offer=offer.name) for offer in self._fleet.offers]
        decisions = [DECISION.format(fleet=name)]
        listening = [
            asyncio.ensure_future(watch(self._client, INPUTS_STREAM, pools, self._gateway.hear, first=pools)),
            asyncio.ensure_future(watch(self._client, OUTPUTS_STREAM, decisions, self._gateway.hear, first=decisions)),
        ]
        try:
            await self._replay()
        finally:
            for task in listening:
                task.cancel()
            await asyncio.gather(*listening, return_exceptions=True)

    def stop(self) -> None:
        """Let `run` end at the next observation."""
        self._stopping.set()

    async def _replay(self) -> None:
        start, interval = self._workload.start_unix, self._interval_seconds
        done = max(int((self._clock.now() - start) // interval), 0)
        while not self._stopping.is_set():
            end = start + (done + 1) * interval
            if end > start + self._workload.span_seconds + 1e-6 and not self._loop:
                hint = "a folder keeps its replay's time; another --folder starts over"
                log.info("the trace has ended", fleet=self._fleet.name, trace=self._workload.name, hint=hint)
                await self._stopping.wait()
                return
            await self._clock.sleep(end - self._clock.now())
            try:
                with tracing.span("observe", fleet=self._fleet.name, source="replay"):
                    await self._publisher.publish(self._observation(end))
            except PublishError as error:
                log.warning("an observation was not published", fleet=self._fleet.name, reason=str(error))
            done += 1
            passed = int((self._clock.now() - start) // interval)
            if passed - done > CATCH_UP_INTERVALS:
                log.warning("intervals are skipped: too slow for the replay", fleet=self._fleet.name, intervals=passed - done)
                done = passed

    def _observation(self, end_unix: float) -> Observation:
        start = self._workload.start_unix
        into = (end_unix - start - self._interval_seconds) % self._workload.span_seconds
        offered, known = self._workload.mean(start + into, start + into + self._interval_seconds)
        on_time, late, spilled = self._gateway.serve(offered, self._interval_seconds, end_unix)
        return Observation(
            fleet=self._fleet.name,
            time=from_unix(end_unix),
            interval_seconds=self._interval_seconds,
            demand_per_second=offered if known else None,
            backlog=self._gateway.backlog,
            served_per_second=on_time,
            late_per_second=late,
            spilled_per_second=spilled,
            flags=(Flag.SYNTHETIC,) if self._workload.synthetic else (),
            source=f"replay:{self._workload.name}",
        )
