"""The planner service: folds everything that bears on a fleet, and publishes one Decision for each Tick.

Owns when a Tick is published: as soon as a forecast of newer data is folded, at once after an alert or a launch, and at the latest
when the fleet's tick has passed without one, so that guards against stale data fire. It must not decide; `controlplane.planning` does.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog
from nats.aio.client import Client

from controlplane import tracing
from controlplane.bus.fold import Fold, Folding, input_subjects_of, latest_by
from controlplane.bus.publish import Publisher, PublishError
from controlplane.clocks import Clock
from controlplane.contracts.events import SCHEDULE, Alert, Event, Forecast, Tick
from controlplane.contracts.fleet import Fleet
from controlplane.contracts.units import from_unix
from controlplane.planning import Planning, PlanState
from controlplane.snapshot import SCHEMA_VERSION, dump_plan, load_plan

SERVICE = "planner"
# A tick waits this much longer than its period for the observation that should bring it; then the clock brings it.
GRACE_SHARE = 0.2
# Data that comes faster than this share of the tick does not tick each time.
SOONEST_SHARE = 0.5

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _LastTick:
    forecast_unix: float = float("-inf")
    tick_unix: float = float("-inf")
    urgent: str = ""
    trace: Mapping[str, str] = field(default_factory=dict)


class Planner:
    """One fleet's planner while its lease is held: the fold, and the ticks that it answers. `hear` is told every input that is folded."""

    def __init__(self, client: Client, fleet: Fleet, clock: Clock, hear: Callable[[Event], None] | None = None) -> None:
        planning = Planning(fleet)
        self._fleet, self._clock = fleet, clock
        self._publisher = Publisher(client, f"tidegate/{SERVICE}/{fleet.name}")
        self._last = _LastTick()

        def step(state: PlanState, event: Event, sequence: int) -> tuple[PlanState, Sequence[Event]]:
            self._last.urgent = urgency_of(state, event, self._last.urgent)
            if isinstance(event, Alert | Forecast | Tick):
                # A tick goes on with the trace of what asked for it, until one is there.
                self._last.trace = {} if isinstance(event, Tick) else tracing.carried()
            return planning.step(state, event, sequence)

        folding = Folding(step=step, start=planning.start, dump=dump_plan, load=load_plan, version=SCHEMA_VERSION, verb="decide")
        subjects, latest = input_subjects_of(fleet.name), latest_by(clock)
        self.fold = Fold(client, SERVICE, fleet.name, folding, subjects, on_batch=self._on_batch, hear=hear, latest=latest)

    async def run(self) -> None:
        """Fold, and tick on the clock, until stopped."""
        ticking, folding = asyncio.ensure_future(self._tick_on_schedule()), asyncio.ensure_future(self.fold.run())
        try:
            done, _ = await asyncio.wait({ticking, folding}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (ticking, folding):
                task.cancel()
            await asyncio.gather(ticking, folding, return_exceptions=True)

    def stop(self) -> None:
        """Let `run` end after the batch in hand."""
        self.fold.stop()

    async def _on_batch(self, state: PlanState) -> None:
        """Tick at once after something urgent, or when a newer forecast was folded: everything that was waited for is known."""
        urgent, self._last.urgent = self._last.urgent, ""
        if urgent and self.fold.caught_up.is_set():
            await self._tick(urgent)
        if not self.fold.caught_up.is_set() or state.forecast_unix is None or state.forecast_unix <= self._last.forecast_unix:
            return
        self._last.forecast_unix = state.forecast_unix
        if self._clock.now() - self._last.tick_unix >= SOONEST_SHARE * self._fleet.tick_seconds:
            await self._tick()

    async def _tick_on_schedule(self) -> None:
        await self.fold.caught_up.wait()
        while True:
            late_by = self._clock.now() - self._last.tick_unix - (1.0 + GRACE_SHARE) * self._fleet.tick_seconds
            if late_by >= 0.0:
                await self._tick()
                late_by = -self._fleet.tick_seconds
            await self._clock.sleep(min(-late_by, self._fleet.tick_seconds))

    async def _tick(self, cause: str = SCHEDULE) -> None:
        now = self._clock.now()
        if cause == SCHEDULE:
            self._last.tick_unix = now
        try:
            with tracing.resumed(self._last.trace):
                await self._publisher.publish(Tick(time=from_unix(now), fleet=self._fleet.name, cause=cause))
        except PublishError as error:
            log.warning("a tick was not published", fleet=self._fleet.name, reason=str(error))


def urgency_of(state: PlanState, event: Event, urgent: str) -> str:
    """Return the cause for which a fold of `event` wants an early tick; empty for none, or once a tick has answered it.

    A forecast of nothing newer than what is known was made because a launch was announced.
    """
    match event:
        case Alert():
            return "alert"
        case Forecast() if state.forecast_unix is not None and event.observed.timestamp() <= state.forecast_unix:
            return "launch"
        case Tick():
            return ""
    return urgent
