"""Where the time comes from: the wall clock, or a virtual one that moves when it is told to.

Owns the only `now` and `sleep` that services take their pipeline time from; leases, time-outs and acks use wall time always.
The core never sees a clock: it is handed the time. See `controlplane.services` for who is given one.
"""

import asyncio
import heapq
import itertools
import time
from typing import Protocol


class Clock(Protocol):
    """Unix seconds, and a way to wait for some of them."""

    def now(self) -> float:
        """Return unix seconds."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of this clock's time; 0 or less lets others run once."""
        ...

    def at(self, wall_unix: float) -> float:
        """Return the unix seconds that this clock shows when the wall shows `wall_unix`."""
        ...


class SystemClock:
    """The wall clock."""

    def now(self) -> float:
        """Return unix seconds."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of wall time."""
        await asyncio.sleep(max(seconds, 0.0))

    def at(self, wall_unix: float) -> float:
        """Return the wall's time."""
        return wall_unix


class VirtualClock:
    """A clock that stands still until `advance` moves it; sleepers wake in the order of their due times."""

    def __init__(self, start_unix: float = 0.0) -> None:
        self._now = start_unix
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        """Return unix seconds, as far as this clock was moved."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Return once the clock was moved `seconds` on."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        due: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), due))
        await due

    def at(self, wall_unix: float) -> float:
        """Return unix seconds, as far as this clock was moved: the wall has no part in it."""
        del wall_unix
        return self._now

    async def advance(self, seconds: float) -> None:
        """Move on, waking each sleeper at its own due time, and letting it run before the next one wakes."""
        end = self._now + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, due = heapq.heappop(self._sleepers)
            self._now = max(self._now, at)
            if not due.done():
                due.set_result(None)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
        self._now = end
        await asyncio.sleep(0)


class ScaledClock:
    """A clock that runs `speed` times as fast as the wall, from `start_unix` at wall time `wall_unix` on: for replays."""

    def __init__(self, start_unix: float, wall_unix: float, speed: float) -> None:
        self.start_unix, self.wall_unix, self.speed = start_unix, wall_unix, speed

    def now(self) -> float:
        """Return unix seconds of the replayed time."""
        return self.at(time.time())

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of replayed time."""
        await asyncio.sleep(max(seconds, 0.0) / self.speed)

    def at(self, wall_unix: float) -> float:
        """Return unix seconds of the replayed time at a moment of the wall's."""
        return self.start_unix + (wall_unix - self.wall_unix) * self.speed
