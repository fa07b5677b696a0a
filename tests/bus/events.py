"""Events for the tests, and a fold that is easy to check: every tick yields a decision that counts what was seen."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.bus.fold import Folding
from controlplane.contracts.events import Decision, Event, Observation, Tick
from controlplane.contracts.fleet import Mode
from controlplane.contracts.units import from_unix

START_UNIX = 1_790_000_000.0
FLEET = "r1"


def observation(number: int, fleet: str = FLEET) -> Observation:
    return Observation(time=from_unix(START_UNIX + number), fleet=fleet, demand_per_second=float(number))


def tick(number: int) -> Tick:
    return Tick(time=from_unix(START_UNIX + number))


@dataclass(frozen=True)
class Seen:
    """How many observations there were, and their sum: order and repetition show in `digest`."""

    count: int = 0
    digest: int = 0


def step(state: Seen, event: Event, sequence: int) -> tuple[Seen, Sequence[Event]]:
    if isinstance(event, Observation):
        if event.demand_per_second == 1e9:
            raise ValueError("the number of the beast")
        return Seen(state.count + 1, hash((state.digest, event.demand_per_second))), ()
    if isinstance(event, Tick):
        decision = Decision(
            time=event.time,
            fleet=FLEET,
            mode=Mode.RECOMMEND,
            expires=event.time,
            targets={"reserved": state.count},
            inputs_sequence=sequence,
        )
        return state, (decision,)
    return state, ()


def folding(version: int = 1) -> Folding[Seen]:
    return Folding(
        step=step,
        start=Seen,
        dump=lambda state: json.dumps([state.count, state.digest]).encode(),
        load=lambda body: Seen(*json.loads(body)),
        version=version,
    )
