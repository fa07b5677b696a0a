"""The forecaster service: folds a fleet's observations and launches, and publishes a Forecast for each that says something new.

Owns nothing but the wiring of `controlplane.coalescing`, and `controlplane.forecasting` within it, to the ordered fold, and the snapshot's
form: one line of what was gathered, then the forecaster's own. `refitter` runs it, and has the tide fitted anew beside it.
"""

import json
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
from nats.aio.client import Client

from controlplane.bus.fold import Fold, Folding, latest_by
from controlplane.clocks import Clock
from controlplane.coalescing import Coalescing, GatherState
from controlplane.contracts.errors import SnapshotError
from controlplane.contracts.events import Event
from controlplane.contracts.fleet import Fleet
from controlplane.refitting import Hours
from controlplane.snapshot import SCHEMA_VERSION, dump_forecast, load_forecast

SERVICE = "forecaster"
# Raised with every change of the first line; the forecaster's own version counts below it.
GATHER_VERSION = 2
SCHEMA_VERSION_STEP = 1000


def forecaster_of(
    client: Client, fleet: Fleet, clock: Clock, on_batch: Callable[[GatherState], Awaitable[None]] | None = None
) -> Fold[GatherState]:
    """Return the fold of one fleet's forecaster."""
    coalescing = Coalescing(fleet)

    def step(state: GatherState, event: Event, _sequence: int) -> tuple[GatherState, Sequence[Event]]:
        return coalescing.step(state, event)

    folding = Folding(
        step=step,
        start=coalescing.start,
        dump=lambda state: dump_gathered(coalescing, state),
        load=lambda content: load_gathered(coalescing, content),
        version=GATHER_VERSION * SCHEMA_VERSION_STEP + SCHEMA_VERSION,
        verb="forecast",
        takes_turns=True,
    )
    subjects = (f"tidegate.observation.{fleet.name}", f"tidegate.launch.{fleet.name}", f"tidegate.tide.{fleet.name}")
    return Fold(client, SERVICE, fleet.name, folding, subjects, on_batch=on_batch, latest=latest_by(clock))


def dump_gathered(coalescing: Coalescing, state: GatherState) -> bytes:
    """Return the state as bytes."""
    hours = state.hours
    head = {
        "gathered": [state.work, state.covered_seconds, state.until_unix],
        "hours": [hours.newest, hours.work.tolist(), hours.seconds.tolist()],
        "refitted_unix": state.refitted_unix,
    }
    return json.dumps(head).encode() + b"\n" + dump_forecast(coalescing.forecasting, state.learnt)


def load_gathered(coalescing: Coalescing, content: bytes) -> GatherState:
    """Return the state in a snapshot; SnapshotError where it is not one."""
    line, _, rest = content.partition(b"\n")
    try:
        head = json.loads(line)
        work, covered, until = head["gathered"]
        newest, worked, seconds = head["hours"]
        hours, refitted = Hours(np.array(worked), np.array(seconds), newest), head["refitted_unix"]
    except (ValueError, KeyError, TypeError) as error:
        raise SnapshotError(f"not a forecaster's snapshot: {error}") from error
    return GatherState(load_forecast(coalescing.forecasting, rest), work, covered, until, hours, refitted)
