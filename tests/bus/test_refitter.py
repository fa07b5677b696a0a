"""The tide is fitted anew beside the forecaster, and what came of it is an input like any other."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from nats.aio.client import Client
from structlog.testing import capture_logs

from controlplane.bus.fold import Fold
from controlplane.bus.publish import Publisher
from controlplane.clocks import SystemClock
from controlplane.coalescing import Coalescing, GatherState
from controlplane.contracts.events import Flag, Observation, Tide
from controlplane.contracts.fleet import Fleet, ForecastSettings, Slo, Unit
from controlplane.contracts.subjects import INPUTS_STREAM
from controlplane.contracts.units import from_unix
from controlplane.services.forecaster import dump_gathered, forecaster_of
from controlplane.services.refitter import Forecaster, RefitFailed, fitted
from forecasters.harmonic import FEATURES
from forecasters.structural import KEPT
from tests.bus.conftest import Eventually
from tests.contract.actuator_rigs import offer_with

HOUR = 3600.0
# The library's models, seconds each, know a day of 24 hours only; with half of it the harmonics alone stand against the recursion.
FLEET = Fleet("r1", Slo(0.99), Unit.REQUESTS, (offer_with(),), forecast=ForecastSettings(season_seconds=12 * HOUR))


async def tell_of(client: Client, days: int) -> None:
    """Publish a shape of half days by the hour that moved by four hours in the middle."""
    rng = np.random.default_rng(2)
    newest = time.time() // HOUR * HOUR
    events = []
    for hour in range(24 * days):
        moved = 4.0 if hour > 12 * days else 0.0
        demand = 50.0 * np.exp(0.7 * np.sin(2 * np.pi * (hour + moved) / 12.0) + 0.03 * rng.standard_normal())
        when = from_unix(newest - HOUR * (24 * days - 1 - hour))
        events.append(Observation(time=when, fleet=FLEET.name, demand_per_second=demand, interval_seconds=HOUR, flags=(Flag.HISTORY,)))
    await Publisher(client, "tidegate/test").publish_many(events)


def seen_now() -> Observation:
    return Observation(time=from_unix(time.time()), fleet=FLEET.name, demand_per_second=50.0)


async def tides(client: Client) -> list[Tide]:
    """Return what refits there were."""
    js = client.jetstream()
    info = await js.stream_info(INPUTS_STREAM, subjects_filter="tidegate.tide.r1")
    if not info.state.subjects:
        return []
    message = await js.get_last_msg(INPUTS_STREAM, "tidegate.tide.r1")
    return [Tide.model_validate_json(message.data or b"")] * sum(info.state.subjects.values())


@asynccontextmanager
async def at_work(work: Forecaster | Fold[GatherState]) -> AsyncIterator[Fold[GatherState]]:
    """Run a forecaster, caught up, for as long as the block lasts."""
    fold = work.fold if isinstance(work, Forecaster) else work
    task = asyncio.create_task(work.run())
    try:
        await asyncio.wait_for(fold.caught_up.wait(), 30.0)
        yield fold
    finally:
        work.stop()
        await task


class Fits:
    """A fit that finds nothing better, or answers nonsense, once it is let. `asked` is what it was asked."""

    def __init__(self, *, answer: dict[str, Any]) -> None:
        self.answer, self.let = answer, asyncio.Event()
        self.asked: list[dict[str, Any]] = []

    async def __call__(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(asked)
        await self.let.wait()
        return self.answer


async def test_a_refit_is_folded_from_the_stream_so_that_a_replay_and_a_restart_know_it(client: Client, eventually: Eventually) -> None:
    await tell_of(client, 8)
    async with at_work(Forecaster(client, FLEET, SystemClock())) as fold:
        await eventually(lambda: fold.state.refitted_unix is not None)
        found = (await tides(client))[0]
        assert found.observed.timestamp() == fold.state.refitted_unix == fold.state.learnt.observed_unix
        assert KEPT in found.errors
        assert len(found.coefficients) == (0 if found.chosen == KEPT else FEATURES)
        # One more observation within the day asks for no other refit.
        seen = seen_now()
        await Publisher(client, "tidegate/test").publish(seen)
        await eventually(lambda: fold.state.learnt.observed_unix == seen.time.timestamp())
        live = dump_gathered(Coalescing(FLEET), fold.state)
    async with at_work(Forecaster(client, FLEET, SystemClock())) as restarted:
        assert dump_gathered(Coalescing(FLEET), restarted.state) == live
    bucket = await client.jetstream().key_value("TIDEGATE_SNAPSHOTS")
    await bucket.delete("forecaster.r1")
    async with at_work(forecaster_of(client, FLEET, SystemClock())) as replayed:
        assert dump_gathered(Coalescing(FLEET), replayed.state) == live
    assert len(await tides(client)) == 1


async def test_a_refit_under_way_is_given_up_at_the_end_and_due_again_afterwards(client: Client, eventually: Eventually) -> None:
    await tell_of(client, 8)
    endless = Fits(answer={})
    async with at_work(Forecaster(client, FLEET, SystemClock(), endless)) as fold:
        await eventually(lambda: bool(endless.asked))
        assert fold.state.refitted_unix is None
    assert await tides(client) == []
    async with at_work(Forecaster(client, FLEET, SystemClock())) as fold:
        await Publisher(client, "tidegate/test").publish(seen_now())
        await eventually(lambda: fold.state.refitted_unix is not None)


async def test_a_fleet_that_waits_for_its_turn_has_nothing_written_out_and_is_fitted_to_what_is_known_by_then(
    client: Client, eventually: Eventually
) -> None:
    await tell_of(client, 8)
    slow, other = Fits(answer={"chosen": KEPT, "errors": {}}), Fits(answer={"chosen": KEPT, "errors": {}})
    other.let.set()
    async with at_work(Forecaster(client, FLEET, SystemClock(), slow)) as first:
        await eventually(lambda: bool(slow.asked))
        async with at_work(Forecaster(client, FLEET, SystemClock(), other)) as second:
            before = second.state.learnt.observed_unix
            seen = seen_now()
            await Publisher(client, "tidegate/test").publish(seen)
            await eventually(lambda: second.state.learnt.observed_unix == seen.time.timestamp() != before)
            assert other.asked == []
            slow.let.set()
            await eventually(lambda: second.state.refitted_unix == seen.time.timestamp())
        await eventually(lambda: first.state.refitted_unix == seen.time.timestamp())


async def test_a_fit_that_answers_nonsense_is_said(client: Client, eventually: Eventually) -> None:
    await tell_of(client, 8)
    fits = Fits(answer={"no": "such thing"})
    fits.let.set()
    with capture_logs() as logs:
        async with at_work(Forecaster(client, FLEET, SystemClock(), fits)):
            await eventually(lambda: any(said["event"] == "the refit failed unexpectedly" for said in logs))
    assert await tides(client) == []


async def test_a_fit_that_fails_or_takes_too_long_says_so() -> None:
    with pytest.raises(RefitFailed, match="time_zone"):
        await fitted({"ends_unix": [0.0, HOUR], "demand_per_second": [1.0, 2.0]})
    with pytest.raises(RefitFailed, match="no answer within"):
        await fitted({}, longest_seconds=0.01)
