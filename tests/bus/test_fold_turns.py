"""Folds with long steps share a process: between any two such steps everybody else may run, so that no alert waits for all of them."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from nats.aio.client import Client

from controlplane.bus.fold import Fold, Folding
from controlplane.bus.publish import Publisher
from controlplane.contracts.events import Event
from tests.bus.events import observation

FLEETS = tuple(f"fleet-{number}" for number in range(12))
EACH = 8
LONG_SECONDS = 0.004


class Bystander:
    """Somebody else in the process: `steps` counts the long steps that it stood behind, each time that it was its turn."""

    def __init__(self) -> None:
        self.turn = 0
        self.steps: Counter[int] = Counter()

    async def run(self) -> None:
        while True:
            self.turn += 1
            await asyncio.sleep(0)

    def folding(self) -> Folding[int]:
        def step(state: int, event: Event, sequence: int) -> tuple[int, Sequence[Event]]:
            end = time.perf_counter() + LONG_SECONDS
            while time.perf_counter() < end:
                pass
            self.steps[self.turn] += 1
            return state + 1, ()

        return Folding(step, lambda: 0, lambda state: json.dumps(state).encode(), json.loads, 1, takes_turns=True)


async def test_a_bystander_waits_for_one_long_step_at_the_most_however_many_fleets_have_one_to_take(client: Client) -> None:
    publisher, bystander = Publisher(client, "tidegate/test"), Bystander()
    folds = [Fold(client, "forecaster", fleet, bystander.folding(), (f"tidegate.observation.{fleet}",)) for fleet in FLEETS]
    await publisher.publish_many([observation(number, fleet) for fleet in FLEETS for number in range(EACH)])
    tasks = [asyncio.create_task(fold.run()) for fold in folds]
    standing_by = asyncio.create_task(bystander.run())
    try:
        await asyncio.gather(*(fold.caught_up.wait() for fold in folds))
    finally:
        standing_by.cancel()
        for fold in folds:
            fold.stop()
        await asyncio.gather(*tasks)
    assert [fold.state for fold in folds] == [EACH] * len(FLEETS), "and all of them come to their end"
    assert max(bystander.steps.values()) == 1


async def test_without_long_steps_nobody_takes_turns_and_a_batch_is_folded_a_moment_at_a_time(client: Client) -> None:
    publisher, bystander = Publisher(client, "tidegate/test"), Bystander()
    await publisher.publish_many([observation(number) for number in range(40)])
    fold = Fold(client, "planner", "r1", replace(bystander.folding(), takes_turns=False), ("tidegate.observation.r1",))
    tasks = [asyncio.create_task(fold.run()), asyncio.create_task(bystander.run())]
    await fold.caught_up.wait()
    fold.stop()
    await tasks[0]
    tasks[1].cancel()
    assert fold.state == 40
    assert max(bystander.steps.values()) == 1, "a step that took longer than the moment ends it"
