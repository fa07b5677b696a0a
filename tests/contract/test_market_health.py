"""Whom a market trusts: bans, refusals and breakers, over restarts too."""

from pathlib import Path

import pytest

from actuators.api import Applied, Failed
from actuators.market import MarketSettings
from actuators.market_health import Health
from controlplane.sim.drill import DrillLedger
from tests.contract.market_rivals import FLEET, Rivals


async def test_a_supplier_whose_machines_do_not_start_is_banned_for_a_while(tmp_path: Path) -> None:
    rivals = Rivals(tmp_path, settings=MarketSettings(banned_for_seconds=3600.0))
    rivals.change("cheap", start_failure_share=1.0)
    market = rivals.market()
    await market.apply(FLEET, rivals.offer, 2)
    rivals.settle()
    await market.apply(FLEET, rivals.offer, 2)
    assert rivals.held() == {"cheap": 0, "dear": 2}
    rivals.change("cheap", start_failure_share=0.0)
    rivals.wall.advance(3700.0)
    await market.apply(FLEET, rivals.offer, 3)
    assert rivals.held()["dear"] == 2, "the ban is over; its failures still weigh in the ranking"


async def test_a_restart_knows_who_is_banned_and_who_refused(tmp_path: Path) -> None:
    rivals = Rivals(tmp_path, settings=MarketSettings(banned_for_seconds=3600.0), health=DrillLedger())
    rivals.change("cheap", start_failure_share=1.0)
    await rivals.market().apply(FLEET, rivals.offer, 2)
    rivals.settle()
    await rivals.market().apply(FLEET, rivals.offer, 2)
    assert rivals.held() == {"cheap": 0, "dear": 2}
    rivals.change("dear", quota_replicas=2)
    rivals.settle()
    assert isinstance(await rivals.market().apply(FLEET, rivals.offer, 3), Failed)
    asked = {name: len(cloud.entries) for name, cloud in rivals.clouds.items()}
    result = await rivals.market().apply(FLEET, rivals.offer, 3)
    assert isinstance(result, Failed)
    assert "did not start" in result.error
    assert "quota_exceeded" in result.error
    assert {name: len(cloud.entries) for name, cloud in rivals.clouds.items()} == asked, "nobody is asked again so soon"
    rivals.wall.advance(3700.0)
    rivals.change("cheap", start_failure_share=0.0)
    rivals.change("dear", quota_replicas=None)
    assert isinstance(await rivals.market().apply(FLEET, rivals.offer, 3), Applied)


class Forgetful(DrillLedger):
    """Loses what is written while NATS is away."""

    is_away = False

    async def write(self, fleet: str, offer: str, text: str) -> bool:
        return not self.is_away and await super().write(fleet, offer, text)


async def test_a_ban_that_could_not_be_written_is_written_when_that_can_be_done_again(tmp_path: Path) -> None:
    health = Forgetful()
    rivals = Rivals(tmp_path, settings=MarketSettings(banned_for_seconds=3600.0), health=health)
    rivals.change("cheap", start_failure_share=1.0)
    market = rivals.market()
    await market.apply(FLEET, rivals.offer, 2)
    rivals.settle()
    health.is_away = True
    await market.apply(FLEET, rivals.offer, 2)
    health.is_away = False
    rivals.settle()
    await market.observe(FLEET, rivals.offer)
    await rivals.market().apply(FLEET, rivals.offer, 3)
    assert rivals.held() == {"cheap": 0, "dear": 3}


async def test_a_supplier_that_never_answers_is_left_in_peace(tmp_path: Path) -> None:
    rivals = Rivals(tmp_path)
    rivals.wires["cheap"].is_cut = True
    market = rivals.market()
    for _ in range(4):
        await market.observe(FLEET, rivals.offer)
    asked = len(rivals.wires["cheap"].requests)
    await market.observe(FLEET, rivals.offer)
    assert len(rivals.wires["cheap"].requests) == asked
    rivals.wires["cheap"].is_cut = False
    rivals.wall.advance(700.0)
    await market.apply(FLEET, rivals.offer, 1)
    assert rivals.held() == {"cheap": 1, "dear": 0}


def test_the_breaker_waits_longer_each_time_and_forgets_when_it_is_answered() -> None:
    health = Health(120.0, 3600.0)
    for _ in range(2):
        health.erred(0.0, "silent")
    assert not health.is_quiet(1.0)
    health.erred(0.0, "silent")
    assert health.is_quiet(29.0)
    assert not health.is_quiet(31.0)
    health.erred(31.0, "silent")
    assert health.is_quiet(31.0 + 59.0)
    health.answered()
    health.erred(100.0, "silent")
    assert not health.is_quiet(101.0)


def test_what_is_known_of_machines_one_by_one_does_not_grow_for_ever() -> None:
    health = Health(120.0, 3600.0)
    for number in range(3000):
        health.saw(frozenset({f"failed-{number}"}), frozenset({f"started-{number}"}), float(number))
    assert len(health.dump()) < 30_000
    again = Health(120.0, 3600.0)
    again.load(health.dump())
    assert again == health
    assert health.failure_share == pytest.approx(0.5, abs=0.01)
    assert not health.may_sell(2999.0 + 3599.0)
