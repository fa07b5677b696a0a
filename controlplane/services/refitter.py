"""The forecaster at work: the fold, and once a day a refit of the tide in a process of its own.

Owns when a refit is asked for, and that its result goes through the stream as a Tide event: the fold takes it over from there, so a
restart or a replay finds the same. What was under way when this process ended is due again in the next.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from nats.aio.client import Client

from controlplane.bus.publish import Publisher, PublishError
from controlplane.clocks import Clock
from controlplane.coalescing import GatherState
from controlplane.contracts.errors import TidegateError
from controlplane.contracts.events import Tide
from controlplane.contracts.fleet import Fleet
from controlplane.contracts.units import from_unix
from controlplane.refitting import is_due
from controlplane.services.forecaster import SERVICE, forecaster_of
from forecasters.structural import KEPT

CHILD = "controlplane.services.refit_child"
LONGEST_SECONDS = 300.0
# Of all fleets of a process one at a time: a refit is a second or several of a core.
_one_at_a_time = asyncio.Semaphore(1)

Fit = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]

log = structlog.get_logger(__name__)


class RefitFailed(TidegateError):
    """The process that fits gave no answer."""


async def fitted(asked: dict[str, Any], longest_seconds: float = LONGEST_SECONDS) -> dict[str, Any]:
    """Return what the child answers: chosen, errors, coefficients; RefitFailed where it fails or takes too long."""
    try:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            CHILD,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise RefitFailed(f"no process can be started: {error}") from error
    try:
        async with asyncio.timeout(longest_seconds):
            answer, complaint = await child.communicate(json.dumps(asked).encode())
    except TimeoutError as error:
        raise RefitFailed(f"no answer within {longest_seconds:g} s") from error
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
    if child.returncode != 0:
        raise RefitFailed(complaint.decode(errors="replace").strip().rpartition("\n")[2] or f"exit status {child.returncode}")
    try:
        found: dict[str, Any] = json.loads(answer)
    except ValueError as error:
        raise RefitFailed(f"no usable answer: {error}") from error
    return found


class Forecaster:
    """One fleet's forecaster while its lease is held. `fit` answers what a refit found, as `fitted` does."""

    def __init__(self, client: Client, fleet: Fleet, clock: Clock, fit: Fit = fitted) -> None:
        self.fold = forecaster_of(client, fleet, clock, self._on_batch)
        self._fleet, self._fit = fleet, fit
        self._publisher = Publisher(client, f"tidegate/{SERVICE}/{fleet.name}")
        self._refit: asyncio.Task[None] | None = None
        self._asked_unix: float | None = None

    async def run(self) -> None:
        """Fold until stopped; a refit under way is given up."""
        try:
            await self.fold.run()
        finally:
            if self._refit is not None:
                self._refit.cancel()
                await asyncio.gather(self._refit, return_exceptions=True)

    def stop(self) -> None:
        """Let `run` end after the batch in hand."""
        self.fold.stop()

    async def _on_batch(self, state: GatherState) -> None:
        observed = state.learnt.observed_unix
        if observed is None or not self.fold.caught_up.is_set() or not (self._refit is None or self._refit.done()):
            return
        last = max((moment for moment in (state.refitted_unix, self._asked_unix) if moment is not None), default=None)
        if is_due(state.hours, last, observed):
            self._asked_unix = observed
            self._refit = asyncio.create_task(self._ask())

    async def _ask(self) -> None:
        """Have the tide fitted and say what came of it. A failure is logged, and tried again when the next day is due."""
        try:
            async with _one_at_a_time:
                # Thousands may wait after a back-fill: what is to be fitted is written out when it is one's turn, as it is by then.
                event = await self._fitted(self.fold.state)
            await self._publisher.publish(event)
        except (RefitFailed, PublishError) as error:
            log.warning("the tide was not fitted anew", fleet=self._fleet.name, reason=str(error))
        except Exception:
            # Nobody waits for this task: what is not said here is never said.
            log.exception("the refit failed unexpectedly", fleet=self._fleet.name)
        else:
            log.info("tide fitted anew", fleet=self._fleet.name, chosen=event.chosen)

    async def _fitted(self, state: GatherState) -> Tide:
        settings, observed_unix = self._fleet.forecast, state.learnt.observed_unix
        assert observed_unix is not None, "a refit is due only once something was observed"
        ends, mean = state.hours.series()
        asked = {
            "ends_unix": ends.tolist(),
            "demand_per_second": mean.tolist(),
            "time_zone": settings.time_zone,
            "season_seconds": settings.season_seconds,
        }
        found = await self._fit(asked)
        return Tide(
            fleet=self._fleet.name,
            time=from_unix(observed_unix),
            observed=from_unix(observed_unix),
            time_zone=settings.time_zone,
            season_seconds=settings.season_seconds,
            chosen=found["chosen"],
            errors=found["errors"],
            coefficients=() if found["chosen"] == KEPT else found["coefficients"],
        )
