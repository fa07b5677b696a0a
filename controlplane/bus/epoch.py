"""One replayed time for all services: the first that asks sets it, every later one, and every restart, goes on with it.

Owns one key beside the snapshots. Without a replay nobody asks, and the wall clock is the time.
"""

import json
import time
from dataclasses import asdict, dataclass

import nats.errors
import nats.js.errors
from nats.aio.client import Client

from controlplane.clocks import ScaledClock
from controlplane.contracts.errors import BusError
from controlplane.contracts.subjects import SNAPSHOT_BUCKET

KEY = "replay.epoch"


@dataclass(frozen=True, slots=True)
class Epoch:
    """Replayed time was `start_unix` when the wall said `wall_unix`, and runs `speed` times as fast."""

    start_unix: float
    wall_unix: float
    speed: float


async def agree_on_clock(client: Client, start_unix: float, speed: float, wall_unix: float | None = None) -> ScaledClock:
    """Return the replay's clock: a new one from `wall_unix` on (None: from now on), or the one that was agreed on before."""
    try:
        bucket = await client.jetstream().key_value(SNAPSHOT_BUCKET)
        mine = Epoch(start_unix, time.time() if wall_unix is None else wall_unix, speed)
        try:
            await bucket.create(KEY, json.dumps(asdict(mine)).encode())
            agreed = mine
        except nats.js.errors.KeyWrongLastSequenceError:
            entry = await bucket.get(KEY)
            agreed = Epoch(**json.loads(entry.value or b"{}"))
    except (nats.errors.Error, OSError, TimeoutError, TypeError, ValueError) as error:
        raise BusError(f"the replay's clock cannot be agreed on: {error}") from error
    if agreed.speed != speed:
        raise BusError(f"a replay at speed {agreed.speed:g} is already under way on this NATS; stop it, or replay at that speed")
    return ScaledClock(agreed.start_unix, agreed.wall_unix, agreed.speed)
