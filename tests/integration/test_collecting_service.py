"""The schedule of a source on a real NATS: history first, failures said, a long gap filled before what is live, no two reads at once.

The source is scripted and its clock runs as fast as it is slept on, so that hours pass in a moment.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from nats.aio.client import Client

from controlplane.bus.connect import connect
from controlplane.bus.embedded import EmbeddedServer
from controlplane.bus.streams import ensure_streams
from controlplane.collectors.api import SourceError
from controlplane.contracts.events import Flag, Observation
from controlplane.contracts.fleet import Fleet, Slo, Unit
from controlplane.contracts.subjects import INPUTS_STREAM
from controlplane.contracts.units import from_unix
from controlplane.services.collecting import SourceCollector

START = 1_700_000_000.0
INTERVAL = 15.0


class FastClock:
    """A clock that a sleep moves on."""

    def __init__(self) -> None:
        self.unix = START

    def now(self) -> float:
        return self.unix

    async def sleep(self, seconds: float) -> None:
        self.unix += max(seconds, 0.0)
        await asyncio.sleep(0.001)


class ScriptedSource:
    """Fails in the spans it is told to, and remembers everything as history, a point a minute."""

    name = "scripted"

    def __init__(self, clock: FastClock, away: Sequence[tuple[float, float]] = (), reads: int = 100, rest_seconds: float = 0.0) -> None:
        self._clock, self._away, self.left, self._rest_seconds = clock, away, reads, rest_seconds
        self.asked: list[tuple[float, float]] = []
        self.reading = 0
        self.done = asyncio.Event()
        self.is_closed = False

    def _check(self) -> None:
        if any(start <= self._clock.now() - START < end for start, end in self._away):
            raise SourceError("away")

    async def read(self, now_unix: float) -> Sequence[Observation]:
        self.reading += 1
        assert self.reading == 1
        self.left -= 1
        if self.left <= 0:
            self.done.set()
        try:
            await asyncio.sleep(0)
            self._check()
            return [Observation(fleet="r1", time=from_unix(now_unix), interval_seconds=INTERVAL, demand_per_second=5.0)]
        finally:
            self.reading -= 1

    async def history(self, start_unix: float, end_unix: float) -> AsyncIterator[tuple[float, Sequence[Observation]]]:
        self._check()
        self.asked.append((start_unix - START, end_unix - START))
        points = range(int(start_unix // 60) + 1, int(end_unix // 60) + 1)
        yield 1.0, [Observation(fleet="r1", time=from_unix(60.0 * at), demand_per_second=4.0, flags=(Flag.HISTORY,)) for at in points]

    async def close(self) -> None:
        """Close; nobody collects for `rest_seconds` after that."""
        self.is_closed = True
        self._clock.unix += self._rest_seconds


async def told(client: Client) -> list[Observation]:
    stream = client.jetstream()
    last = (await stream.stream_info(INPUTS_STREAM)).state.last_seq
    return [Observation.model_validate_json((await stream.get_msg(INPUTS_STREAM, number)).data or b"") for number in range(1, last + 1)]


async def run(folder: Path, sources: Sequence[ScriptedSource], clock: FastClock, backfill: float = 3600.0) -> list[Observation]:
    """Run a collector for each source, one after the other, on one NATS; return all that was published."""
    options = {"kind": "scripted", "interval_seconds": INTERVAL, "backfill_seconds": backfill}
    fleet = Fleet(name="r1", slo=Slo(0.9), unit=Unit.REQUESTS, offers=(), demand_source=options)
    async with EmbeddedServer(folder / "nats") as server:
        client = await connect(server.url)
        await ensure_streams(client.jetstream())
        for source in sources:
            collector = SourceCollector(client, fleet, source, clock, "collector", chance=lambda: 0.5)
            running = asyncio.ensure_future(collector.run())
            await asyncio.wait_for(source.done.wait(), 30.0)
            collector.stop()
            await asyncio.wait_for(running, 10.0)
            assert source.is_closed
        found = await told(client)
        await client.close()
    return found


async def test_history_comes_first_in_order_and_then_what_is_live(tmp_path: Path) -> None:
    clock = FastClock()
    found = await run(tmp_path, [ScriptedSource(clock, reads=10)], clock)
    times = [each.time for each in found]

    assert times == sorted(set(times))
    flags = [Flag.HISTORY in each.flags for each in found]
    assert flags == sorted(flags, reverse=True)
    assert sum(flags) == 60
    assert 9 <= flags.count(False) <= 10


async def test_a_restart_asks_only_for_what_nobody_saw(tmp_path: Path) -> None:
    clock = FastClock()
    first, soon = ScriptedSource(clock, reads=10), ScriptedSource(clock, reads=5, rest_seconds=1200.0)
    late = ScriptedSource(clock, reads=3)
    await run(tmp_path, [first, soon, late], clock)

    assert len(first.asked) == 1
    assert soon.asked == [], "the first was gone for seconds"
    assert len(late.asked) == 1
    assert late.asked[0][1] - late.asked[0][0] == pytest.approx(1200.0, abs=2 * INTERVAL)


async def test_a_failure_is_published_as_not_knowing_and_a_long_gap_is_filled(tmp_path: Path) -> None:
    clock = FastClock()
    source = ScriptedSource(clock, away=[(300.0, 1500.0)], reads=140)
    found = await run(tmp_path, [source], clock)
    failed = [each for each in found if each.demand_per_second is None]
    filled = [each for each in found if Flag.HISTORY in each.flags and each.time.timestamp() > START]

    assert len(failed) == pytest.approx(1200.0 / INTERVAL, abs=2)
    assert all(each.flags == (Flag.STALE,) for each in failed)
    assert failed[-1].age_seconds == pytest.approx(1200.0, abs=2 * INTERVAL)
    assert len(source.asked) == 2
    assert len(filled) == pytest.approx(20, abs=1)
    live = [index for index, each in enumerate(found) if each.demand_per_second == 5.0 and each.time.timestamp() > START + 1500.0]
    assert found.index(filled[-1]) < live[0], "what was missed comes before what is live"


async def test_no_history_where_none_is_wanted(tmp_path: Path) -> None:
    clock = FastClock()
    source = ScriptedSource(clock, reads=5)
    found = await run(tmp_path, [source], clock, backfill=0.0)

    assert source.asked == []
    assert all(not each.flags for each in found)
