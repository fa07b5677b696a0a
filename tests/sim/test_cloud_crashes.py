"""A buyer that dies at any step, and starts again over the same store and cloud, has bought once."""

from pathlib import Path

import pytest

from actuators.api import Failed
from controlplane.sim.cloud_config import OfferWorld
from controlplane.sim.invariants import bought_beyond
from tests.contract.actuator_rigs import LAG_SECONDS, SimulatedRig, offer_with
from tests.fakes import Crash

FLEET = "r1"
CRASHES = {
    "before the intent is stored": {"crash_before": 1},
    "after the intent is stored, before the cloud is asked": {"crash_after": 1},
    "after the cloud was asked, before its answer came": {},
    "after the answer, before it is stored": {"crash_before": 2},
    "after the answer is stored": {"crash_after": 2},
    "before the intent is closed": {"crash_before": 3},
    "after the intent is closed": {"crash_after": 3},
}


def rig_in(folder: Path, **world: float) -> SimulatedRig:
    fields = {"usd_per_replica_hour": 1.0, "lead_time_seconds": 480.0, "listing_lag_seconds": LAG_SECONDS, **world}
    return SimulatedRig(folder, offer_with(), OfferWorld.model_validate(fields))


async def apply_often(rig: SimulatedRig, pause_seconds: float, target: int = 3) -> None:
    for _ in range(12):
        await rig.actuator().apply(FLEET, rig.offer, target)
        rig.advance(pause_seconds)


@pytest.mark.parametrize("pause_seconds", [1.0, LAG_SECONDS + 1, 170.0, 3600.0])
@pytest.mark.parametrize("crash", CRASHES)
async def test_a_crash_at_any_step_ends_in_one_purchase(tmp_path: Path, crash: str, pause_seconds: float) -> None:
    rig = rig_in(tmp_path)
    rig.store.crash_before = CRASHES[crash].get("crash_before")
    rig.store.crash_after = CRASHES[crash].get("crash_after")
    rig.wire.crash_after = "" if CRASHES[crash] else "POST"
    with pytest.raises(Crash):
        await apply_often(rig, pause_seconds=LAG_SECONDS)
    rig.store.crash_before = rig.store.crash_after = None
    rig.wire.crash_after = ""
    await apply_often(rig, pause_seconds)
    assert rig.purchases() == 1
    assert sum(rig.held().values()) == 3
    status = await rig.actuator().observe(FLEET, rig.offer)
    assert status.ready + status.pending == 3
    rig.check()


@pytest.mark.parametrize("seed", range(6))
async def test_a_cloud_with_every_fault_at_once_is_never_overbought(tmp_path: Path, seed: int) -> None:
    rig = rig_in(tmp_path, error_share=0.3, lost_reply_share=0.3, start_failure_share=0.2, interruptions_per_hour=0.5)
    rig.cloud.market.seed = seed
    targets: list[tuple[float, int]] = []
    for step in range(400):
        targets.append((rig.cloud.now(), (step // 40 * 7) % 10))
        await rig.actuator().apply(FLEET, rig.offer, targets[-1][1])
        rig.advance(30.0)
    rig.check()
    assert rig.purchases() > 5
    assert bought_beyond(rig.cloud.entries, FLEET, rig.offer.name, targets) == ()
    rig.change_world(error_share=0.0, lost_reply_share=0.0, start_failure_share=0.0, interruptions_per_hour=0.0)
    for _ in range(3):
        await apply_often(rig, pause_seconds=90.0, target=5)
    status = await rig.actuator().observe(FLEET, rig.offer)
    assert status.ready + status.pending == 5
    assert rig.held().get("failed", 0) == 0


async def test_two_buyers_at_once_buy_once(tmp_path: Path) -> None:
    rig = rig_in(tmp_path)
    first, second = rig.actuator(), rig.actuator()
    for _ in range(5):
        await first.apply(FLEET, rig.offer, 3)
        await second.apply(FLEET, rig.offer, 3)
        rig.advance(20.0)
    assert rig.purchases() == 1


async def test_what_an_old_intent_bought_at_last_is_listed_before_it_is_given_up(tmp_path: Path) -> None:
    rig = rig_in(tmp_path, error_share=1.0)
    for moment in range(0, 900, 10):
        if moment == 290:
            rig.change_world(error_share=0.0, lost_reply_share=1.0)
        if moment == 310:
            rig.change_world(lost_reply_share=0.0)
        await rig.actuator().apply(FLEET, rig.offer, 3)
        rig.advance(10.0)
    assert rig.purchases() == 1
    assert sum(rig.held().values()) == 3


async def test_a_smaller_purchase_whose_answer_was_lost_promises_no_more_than_it_is(tmp_path: Path) -> None:
    rig = rig_in(tmp_path, stock_replicas=2)
    rig.lose_purchase_replies(True)
    await rig.actuator().apply(FLEET, rig.offer, 5)
    rig.lose_purchase_replies(False)
    rig.advance(LAG_SECONDS + 1)
    result = await rig.actuator().apply(FLEET, rig.offer, 5)
    assert isinstance(result, Failed)
    assert result.unavailable
    assert (await rig.actuator().observe(FLEET, rig.offer)).pending == 2
