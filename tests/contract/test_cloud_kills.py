"""A buyer that is killed at any step between ask and record, and starts again, has bought once: at GPU clouds and at a market of them."""

import asyncio
import sys
from collections import Counter
from pathlib import Path

from tests.contract.actuator_rigs import LAG_SECONDS
from tests.contract.cloud_buyer import KINDS, OFFER, STEPS, TARGET, actuator_of, fleet_of
from tests.contract.gpu_clouds import CloudWorld, Sold
from tests.fakes import FileIntentStore

TICKS, TICK_SECONDS = 6, 100.0
SOLD_BY_THEN = {"before-intent": 0, "after-intent": 0, "after-first-order": 1, "before-record": TARGET, "after-record": TARGET}


def counted(machines: list[Sold]) -> Counter[str]:
    return Counter(one.marks.get("tidegate-fleet") or one.marks["TIDEGATE_FLEET"] for one in machines)


async def test_killed_at_any_step_between_ask_and_record_ends_in_one_purchase(tmp_path: Path) -> None:
    world = CloudWorld(lag_seconds=LAG_SECONDS)
    command = [sys.executable, "-m", "tests.contract.cloud_buyer", world.url, str(tmp_path), str(world.wall.now_unix)]
    buyers = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    ended, _ = await buyers.communicate()
    assert ended.split() == [b"9"] * len(KINDS) * len(STEPS)
    fleets = {fleet_of(kind, step): (kind, step) for kind in KINDS for step in STEPS}
    sold = counted(world.sold)
    assert {fleet: sold[fleet] for fleet in fleets} == {fleet: SOLD_BY_THEN[step] for fleet, (_, step) in fleets.items()}

    store = FileIntentStore(tmp_path)
    actuators = {fleet: actuator_of(kind, world.url, store, world.wall) for fleet, (kind, _) in fleets.items()}
    for _ in range(TICKS):
        for fleet, actuator in actuators.items():
            await actuator.quote(OFFER)
            await actuator.apply(fleet, OFFER, TARGET)
        world.wall.advance(TICK_SECONDS)
    for actuator in actuators.values():
        await actuator.close()
    assert counted(world.sold) == dict.fromkeys(fleets, TARGET), "nothing was bought and given back either"
    assert counted(world.held()) == dict.fromkeys(fleets, TARGET)
