"""The virtual clock: sleepers wake in the order of their due times, each at its own."""

import asyncio

from controlplane.clocks import SystemClock, VirtualClock


async def test_sleepers_wake_in_order_at_their_own_times() -> None:
    clock = VirtualClock(100.0)
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, *naps: float) -> None:
        for nap in naps:
            await clock.sleep(nap)
            woken.append((name, clock.now()))

    tasks = [asyncio.create_task(sleeper("a", 5, 5)), asyncio.create_task(sleeper("b", 7)), asyncio.create_task(sleeper("c", 30))]
    await asyncio.sleep(0)
    await clock.advance(20)
    assert woken == [("a", 105.0), ("b", 107.0), ("a", 110.0)]
    assert clock.now() == 120.0
    await clock.advance(10)
    await asyncio.gather(*tasks)
    assert woken[-1] == ("c", 130.0)


async def test_no_time_is_no_wait() -> None:
    await VirtualClock().sleep(0)
    await SystemClock().sleep(-1)
    assert SystemClock().now() > 0
