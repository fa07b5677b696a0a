"""Wrappers and the registry: what nobody expected becomes a value, what takes too long is cut off, and all of it is recorded."""

import asyncio

import pytest

from actuators.api import Applied, Failed, Intent, Result
from actuators.registry import create
from actuators.wrappers import Attempt, Recorded, TimeLimited
from controlplane.contracts.errors import InsufficientCapacity, PolicyError, SupplierUnavailable
from controlplane.contracts.events import PoolStatus, Quote
from controlplane.contracts.fleet import Offer, Tier
from tests.fakes import FakeWall, MemoryIntentStore

OFFER = Offer("o", Tier.BURST, 1.0, 0, 10, 1.0, 60.0)


class ScriptedActuator:
    """Answers what it is told to, or raises it, or never answers."""

    def __init__(self, answer: Result | Exception | None, wall: FakeWall | None = None) -> None:
        self._answer, self._wall = answer, wall

    async def _say(self) -> Result:
        if self._wall:
            self._wall.advance(2.5)
        if self._answer is None:
            await asyncio.Event().wait()
        if isinstance(self._answer, Exception):
            raise self._answer
        assert self._answer is not None
        return self._answer

    async def observe(self, fleet: str, offer: Offer) -> PoolStatus:
        await self._say()
        raise AssertionError("scripted to raise")

    async def apply(self, fleet: str, offer: Offer, target: int) -> Result:
        return await self._say()

    async def quote(self, offer: Offer) -> Quote | None:
        await self._say()
        return None

    async def close(self) -> None:
        pass


async def test_every_attempt_is_recorded_with_its_duration() -> None:
    attempts: list[Attempt] = []
    wall = FakeWall()
    result = await Recorded(ScriptedActuator(Applied(2), wall), attempts.append, wall).apply("f", OFFER, 2)
    assert result == Applied(2)
    assert attempts == [Attempt("f", "o", 2, 2.5, Applied(2))]


async def test_an_unexpected_exception_is_a_failure_and_is_recorded() -> None:
    attempts: list[Attempt] = []
    actuator = Recorded(ScriptedActuator(ZeroDivisionError("oops")), attempts.append, FakeWall())
    result = await actuator.apply("f", OFFER, 2)
    assert result == Failed("unexpected ZeroDivisionError: oops", retryable=True)
    assert [attempt.result for attempt in attempts] == [result]
    with pytest.raises(SupplierUnavailable, match="oops"):
        await actuator.observe("f", OFFER)
    with pytest.raises(SupplierUnavailable, match="oops"):
        await actuator.quote(OFFER)


async def test_a_typed_error_that_escapes_keeps_its_meaning() -> None:
    actuator = Recorded(ScriptedActuator(InsufficientCapacity("none left")), lambda attempt: None, FakeWall())
    assert await actuator.apply("f", OFFER, 2) == Failed("none left", retryable=False, unavailable=True)
    with pytest.raises(InsufficientCapacity):
        await actuator.observe("f", OFFER)


async def test_what_takes_too_long_is_cut_off() -> None:
    actuator = TimeLimited(ScriptedActuator(None), 0.01)
    result = await actuator.apply("f", OFFER, 2)
    assert isinstance(result, Failed)
    assert result.retryable
    with pytest.raises(SupplierUnavailable, match="longer than"):
        await actuator.observe("f", OFFER)
    with pytest.raises(SupplierUnavailable, match="longer than"):
        await actuator.quote(OFFER)


def test_a_kind_that_is_not_there_is_named() -> None:
    with pytest.raises(PolicyError, match="no actuator 'abacus'; known are aws, kubernetes, market, simulated"):
        create("abacus", {}, MemoryIntentStore())
    with pytest.raises(PolicyError, match=r"simulated\.url"):
        create("simulated", {}, MemoryIntentStore())


def test_tokens_fit_and_never_name_two_offers() -> None:
    dashes = [Intent("a-b", "c", 1, 1, "open"), Intent("a", "b-c", 1, 1, "open"), Intent("a", "b-c", 1, 1, "open", opened_unix=9.0)]
    assert len({intent.token for intent in dashes}) == 3
    long = [Intent("f" * 63, offer * 63, 7, 1, "open") for offer in "op"]
    assert all(len(intent.token) <= 64 for intent in long)
    assert long[0].token != long[1].token
