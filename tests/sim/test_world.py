"""The simulated world: who is served, what is paid, and what a scaler is told."""

from dataclasses import replace

import numpy as np
import pytest

from controlplane.contracts.events import Launch
from controlplane.contracts.fleet import Fleet, Offer, Slo, Spill, Tier, Unit
from controlplane.contracts.frame import DecisionLine, Frame
from controlplane.contracts.units import from_unix
from controlplane.sim.pools import Market, Pool
from controlplane.sim.router import route
from controlplane.sim.run import run
from controlplane.sim.scaler import answer
from controlplane.sim.workload import Workload, workload_of
from controlplane.sim.world import World, WorldSettings
from controlplane.traces.library import Trace

FLOOR = Offer("reserved", Tier.FLOOR, 10.0, 0, 2, 16.0, 180.0)
BURST = Offer("burst", Tier.BURST, 10.0, 0, 50, 36.0, 480.0, hold_seconds=600.0)
FLEET = Fleet("f", Slo(0.995, ttft_seconds=5.0), Unit.REQUESTS, (FLOOR, BURST), tick_seconds=60.0)
SPILLING = replace(FLEET, spill=Spill("hosted", 0.003))
STEADY = Market(lead_time_sigma=0.0)
STEADY_WORLD = WorldSettings(markets={"burst": STEADY, "reserved": STEADY}, initial={"reserved": 2})


def flat(*rates: float, step: float = 15.0) -> Workload:
    return Workload("flat", 0.0, step, np.array(rates, dtype=np.float64), np.ones(len(rates), dtype=np.bool_))


class Wants:
    """Asks for a fixed number of burst replicas, as a table by minute says."""

    def __init__(self, *burst: int, spill: float = 0.0) -> None:
        self.burst = burst
        self.spill = spill
        self.frames: list[Frame] = []
        self.launches: list[Launch] = []

    def decide(self, frame: Frame) -> DecisionLine:
        wanted = self.burst[min(len(self.frames), len(self.burst) - 1)]
        self.frames.append(frame)
        return answer(frame, {"burst": wanted}, self.spill)

    def announce(self, launch: Launch) -> None:
        self.launches.append(launch)


@pytest.mark.parametrize(
    ("backlog", "offered", "capacity", "spill", "shed", "expected"),
    [
        # on time, late, spilled, backlog, all over 10 s with 1 s of patience
        (0, 8, 10, 0, False, (80, 0, 0, 0)),
        (5, 8, 10, 0, False, (80, 0, 0, 0)),
        (0, 12, 10, 0, False, (60, 60, 0, 20)),
        (0, 12, 10, 0, True, (110, 10, 0, 10)),
        (0, 12, 10, 9, False, (110, 0, 10, 10)),
        (0, 12, 10, 1, False, (60, 55, 5, 15)),
        (0, 12, 0, 0, False, (0, 120, 0, 120)),
        (0, 12, 0, 99, False, (0, 0, 120, 0)),
        (60, 5, 10, 0, False, (0, 50, 0, 10)),
        (60, 5, 10, 99, False, (25, 0, 25, 0)),
    ],
)
def test_the_gateway_judges_work_by_the_wait_ahead_of_it(backlog, offered, capacity, spill, shed, expected) -> None:
    assert route(backlog, offered, capacity, 1.0, spill, 10.0, shed) == pytest.approx(expected)


def test_no_work_is_lost_or_made_by_the_gateway() -> None:
    rng = np.random.default_rng(7)
    for _ in range(2000):
        backlog, offered, capacity, spill = rng.exponential([20.0, 10.0, 10.0, 5.0]).tolist()
        shed = bool(rng.integers(2))
        served = route(backlog, offered, capacity, 2.0, spill, 15.0, shed)
        assert served.on_time + served.late + served.spilled == pytest.approx(offered * 15)
        assert min(served) >= 0
        assert served.spilled <= spill * 15 + 1e-9
        most = capacity * 15 + served.spilled + served.backlog + (served.late if shed else 0.0)
        assert backlog + offered * 15 <= most + 1e-6


def test_a_burst_replica_serves_after_its_lead_time_and_is_paid_from_the_request_on() -> None:
    scaler = Wants(1)
    result = run("w", scaler, FLEET, flat(*[5.0] * 240), STEADY_WORLD)
    ready = [frame.ready["burst"] for frame in scaler.frames]
    assert ready.index(1) == 9  # asked for at the end of minute 1, serving 8 minutes later, seen at the end of that minute
    assert result.cost_usd_by_tier["burst"] == pytest.approx(36.0 * 59 / 60)
    assert result.cost_usd_by_tier["floor"] == pytest.approx(32.0)
    assert result.replica_hours_by_offer == pytest.approx({"reserved": 2.0, "burst": 59 / 60})


def test_giving_back_early_still_pays_the_minimum_hold() -> None:
    result = run("w", Wants(1, 0), FLEET, flat(*[5.0] * 240), STEADY_WORLD)
    assert result.cost_usd_by_tier["burst"] == pytest.approx(36.0 * 600 / 3600)
    assert result.scale_events == 2


def test_shrinking_cancels_pending_first() -> None:
    pool = Pool(BURST, STEADY, np.random.default_rng(0))
    pool.warm(3, 0.0)
    pool.aim(5, 0.0)
    pool.aim(4, 60.0)
    assert (len(pool.ready), len(pool.pending)) == (3, 1)
    pool.aim(2, 120.0)
    assert (len(pool.ready), len(pool.pending)) == (2, 0)


def test_stock_is_a_limit_and_a_refusal_is_reported() -> None:
    settings = replace(STEADY_WORLD, markets={"burst": replace(STEADY, stock_replicas=((0.0, 2),))})
    scaler = Wants(5)
    run("w", scaler, FLEET, flat(*[5.0] * 12), settings)
    assert scaler.frames[1].pending == {"burst": 2}
    assert scaler.frames[1].unavailable == ("burst",)


def test_prices_follow_the_market_series() -> None:
    market = replace(STEADY, usd_per_replica_hour=((0.0, 36.0), (600.0, 72.0)))
    scaler = Wants(1)
    result = run("w", scaler, FLEET, flat(*[5.0] * 80), replace(STEADY_WORLD, markets={"burst": market}))
    assert scaler.frames[0].prices == {"burst": 36.0}
    assert scaler.frames[-1].prices == {"burst": 72.0}
    assert result.cost_usd_by_tier["burst"] == pytest.approx(36.0 * 9 / 60 + 72.0 * 10 / 60)


def test_failed_starts_and_interruptions_are_seen_as_missing_replicas() -> None:
    failing = replace(STEADY_WORLD, markets={"burst": replace(STEADY, start_failure_share=1.0)})
    scaler = Wants(1)
    run("w", scaler, FLEET, flat(*[5.0] * 80), failing)
    assert all(frame.ready["burst"] == 0 for frame in scaler.frames)
    spot = replace(STEADY_WORLD, markets={"burst": replace(STEADY, interruptions_per_replica_hour=1e6)}, initial={"burst": 5})
    scaler = Wants(0)
    run("w", scaler, FLEET, flat(*[5.0] * 8), spot)
    assert scaler.frames[0].ready["burst"] == 0


def test_capacity_that_can_be_held_no_longer_is_taken_back_and_paid_until_then() -> None:
    spot = replace(STEADY, held_replicas=((0.0, 9), (300.0, 1), (480.0, 9)))
    scaler = Wants(3)
    result = run("w", scaler, FLEET, flat(*[5.0] * 60), replace(STEADY_WORLD, markets={"burst": spot}, initial={"burst": 3}))
    assert [frame.ready["burst"] for frame in scaler.frames] == [3, 3, 3, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    assert scaler.frames[6].unavailable == ("burst",)
    assert scaler.frames[9].pending == {"burst": 2}
    assert result.cost_usd_by_tier["burst"] == pytest.approx(36.0 * (3 * 5 + 3 + 3 * 7) / 60)


def test_a_queue_keeps_late_work_where_shedding_loses_it() -> None:
    rates = [30.0] * 20 + [5.0] * 60
    queued = run("q", Wants(0), FLEET, flat(*rates), STEADY_WORLD)
    shed = run("s", Wants(0), FLEET, flat(*rates), replace(STEADY_WORLD, shed=True))
    assert queued.attainment < shed.attainment < 1
    assert queued.late + queued.on_time == pytest.approx(queued.offered)
    assert shed.late == pytest.approx(30 * 300 - 20 * 300 - 20 * 5)


def test_spill_takes_only_what_would_miss_the_slo_and_only_up_to_the_allowance() -> None:
    rates = [30.0] * 40
    free = run("a", Wants(0, spill=1e9), SPILLING, flat(*rates), STEADY_WORLD)
    assert free.attainment == 1.0
    assert free.spilled == pytest.approx(10 * 600 - 20 * 5)
    assert free.cost_usd_by_tier["spill"] == pytest.approx(free.spilled * 0.003)
    tight = run("b", Wants(0, spill=4.0), SPILLING, flat(*rates), STEADY_WORLD)
    assert tight.steps.spilled_per_second[1:] == pytest.approx([4.0] * 9)
    assert tight.attainment < 1.0


def test_demand_is_what_was_offered_whatever_became_of_it() -> None:
    scaler = Wants(0, spill=1e9)
    run("w", scaler, SPILLING, flat(*[50.0] * 8), STEADY_WORLD)
    assert scaler.frames[1].demand == 50.0
    assert scaler.frames[1].spilled == pytest.approx(30.0)
    assert scaler.frames[1].backlog == pytest.approx(100.0)


def test_a_gap_or_an_outage_is_served_but_not_told() -> None:
    work = replace(flat(*[5.0] * 12), known=np.array([True] * 4 + [False] * 4 + [True] * 4))
    scaler = Wants(0)
    result = run("w", scaler, FLEET, work, replace(STEADY_WORLD, outages=((120.0, 180.0),)))
    assert [frame.demand for frame in scaler.frames] == [5.0, None, None]
    assert result.offered == pytest.approx(5.0 * 180)


def test_a_launch_is_told_when_it_is_announced() -> None:
    launch = Launch(time=from_unix(120.0), fleet="f", name="v4", starts=from_unix(900.0))
    scaler = Wants(0)
    heard: list[int] = []
    run("w", scaler, FLEET, flat(*[5.0] * 16), STEADY_WORLD, launches=[launch], on_step=lambda *_: heard.append(len(scaler.launches)))
    assert heard == [0, 0, 1, 1]


def test_the_same_seed_gives_the_same_result_and_frames_round_trip() -> None:
    trace = Trace("t", 600.0 * np.arange(1, 25), 600.0, np.linspace(10.0, 60.0, 24))
    results = [
        run(
            "w", Wants(1, 3, 2, 5), FLEET, workload_of(trace, np.random.default_rng(5)), replace(STEADY_WORLD, markets={}), seed=9
        ).summary()
        for _ in range(2)
    ]
    assert results[0] == results[1]
    scaler = Wants(1)
    run("w", scaler, FLEET, flat(*[5.0] * 8), STEADY_WORLD)
    for frame in scaler.frames:
        assert Frame.model_validate_json(frame.model_dump_json()) == frame


def test_causality_the_future_of_the_work_changes_no_earlier_frame() -> None:
    one, two = Wants(1, 4, 2), Wants(1, 4, 2)
    run("w", one, FLEET, flat(*[15.0] * 24, *[5.0] * 24), WorldSettings(), seed=3)
    run("w", two, FLEET, flat(*[15.0] * 24, *[90.0] * 24), WorldSettings(), seed=3)
    assert one.frames[:6] == two.frames[:6]
    assert one.frames[6] != two.frames[6]


def test_work_made_fine_keeps_every_interval_total_and_its_noise_is_seeded() -> None:
    trace = Trace("t", 600.0 * np.arange(1, 145), 600.0, 50 + 30 * np.sin(np.arange(144) / 9))
    work = workload_of(trace, np.random.default_rng(1), step_seconds=15.0)
    assert work.steps == 144 * 40
    assert work.offered_per_second.reshape(144, 40).mean(axis=1) == pytest.approx(trace.demand_per_second)
    minute = work.offered_per_second.reshape(-1, 4).mean(axis=1)
    smooth = workload_of(trace, np.random.default_rng(1), noise_share=0.0).offered_per_second.reshape(-1, 4).mean(axis=1)
    assert 0.06 < np.std(minute / smooth) < 0.11
    averaged = workload_of(Trace("s", np.arange(1.0, 61.0), 1.0, np.arange(60.0)), np.random.default_rng(1), step_seconds=15.0)
    assert averaged.offered_per_second.tolist() == [7.0, 22.0, 37.0, 52.0]


def test_the_world_starts_with_what_the_first_minute_needs() -> None:
    world = World(FLEET, flat(*[45.0] * 8), WorldSettings(), np.random.default_rng(0))
    world.advance()
    assert world.frame().ready == {"reserved": 2, "burst": 3}
