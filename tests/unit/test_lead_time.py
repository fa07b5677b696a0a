"""`leadTime: auto`, as stories: the prior until five starts were seen, then what four in five of the recent ones took."""

from dataclasses import replace

import pytest

from controlplane.contracts.events import Decision, Observation, PoolStatus, Quote, Tick
from controlplane.contracts.fleet import Fleet, Guard, Mode
from controlplane.contracts.frame import Frame
from controlplane.contracts.units import from_unix
from controlplane.pipeline import Pipeline, PipeState
from controlplane.planning import Planning
from controlplane.snapshot import dump_plan, load_plan
from policies.reading import read_policies
from policies.starts import LONGEST_SECONDS, RECENT_STARTS, Starts, lead_time_seconds, see_pool
from policies.view import Cohort
from tests.unit.decide_stories import BURST, MINUTE, RESERVED, START, fleet_of

PRIOR = 600.0
AUTO = replace(BURST, lead_time_seconds=PRIOR, learns_lead_time=True)


def told(*pools: tuple[float, int, int], every: float = 60.0) -> Starts:
    """Return what is known after (minute, ready, pending), one decision a minute."""
    known: Starts | None = None
    for minute, ready, pending in pools:
        now = START + minute * MINUTE
        known = see_pool(known, ready, pending, now, now - every)
    assert known is not None
    return known


def test_a_start_takes_from_the_decision_to_the_first_sight_of_it_ready() -> None:
    assert told((0, 0, 0), (1, 0, 1), (4, 0, 1), (5, 1, 0)).recent_seconds == (300.0,)


def test_who_was_asked_first_starts_first() -> None:
    known = told((0, 0, 0), (1, 0, 1), (3, 0, 2), (5, 1, 1), (9, 2, 0))
    assert known.recent_seconds == (300.0, 420.0)
    assert known.asked == ()


def test_of_many_that_start_at_once_four_count() -> None:
    assert told((0, 0, 0), (1, 0, 20), (5, 20, 0)).recent_seconds == (300.0,) * 4


def test_a_replica_that_serves_by_the_next_look_took_at_most_as_long() -> None:
    assert told((0, 3, 0), (1, 5, 0)).recent_seconds == (60.0, 60.0)


def test_what_is_called_off_is_the_newest_and_no_start() -> None:
    known = told((0, 0, 0), (1, 0, 2), (4, 0, 5), (5, 0, 2), (6, 2, 0))
    assert known.recent_seconds == (360.0, 360.0)


def test_replicas_that_went_and_pools_seen_for_the_first_time_teach_nothing() -> None:
    assert told((0, 5, 3), (1, 2, 3)).recent_seconds == ()
    assert told((0, 5, 3)).asked == (Cohort(START - 60.0, 3),)


def test_what_the_actuator_measured_is_believed_before_what_is_seen() -> None:
    known = see_pool(Starts(0, 1, (Cohort(START - 400.0, 1),)), 1, 0, START, START, measured_seconds=388.0)
    assert known.recent_seconds == (388.0,)


def test_a_measurement_is_one_sample_and_never_longer_than_what_was_seen() -> None:
    three = Starts(0, 3, (Cohort(START - 400.0, 3),))
    known = see_pool(three, 3, 0, START, START, measured_seconds=388.0)
    assert known.recent_seconds == (400.0, 400.0, 388.0)
    known = see_pool(see_pool(known, 3, 1, START + 10.0, START, 388.0), 4, 0, START + 300.0, START, 388.0)
    assert known.recent_seconds[3:] == (300.0,), "said again, it is still the one of before"
    aged = see_pool(three, 1, 2, START, START, measured_seconds=86400.0)
    assert aged.recent_seconds == (400.0,), "nothing starts for longer than since it was asked for"


def test_replicas_that_stop_being_ready_and_are_again_have_not_started() -> None:
    known = told((0, 4, 0), (100, 0, 4), (101, 4, 0), (200, 0, 4), (203, 4, 0))
    assert (known.recent_seconds, known.asked) == ((), ())
    assert lead_time_seconds(known, 180.0, START + 300 * MINUTE) == 180.0


def test_a_boot_beside_replicas_that_stop_being_ready_is_timed_all_the_same() -> None:
    known = told((0, 4, 0), (1, 4, 1), (2, 0, 5), (3, 4, 1))
    assert (known.recent_seconds, known.asked) == ((), (Cohort(START, 1),)), "who has served before is ready first"
    assert told((0, 4, 0), (1, 4, 1), (2, 0, 5), (3, 4, 1), (6, 5, 0)).recent_seconds == (360.0,)


@pytest.mark.parametrize(
    ("recent", "expected"),
    [
        ((), PRIOR),
        ((100.0,) * 4, PRIOR),
        ((100.0,) * 5, 100.0),
        ((100.0, 200.0, 300.0, 400.0, 500.0), 400.0),
        ((500.0,) * 2 + (100.0,) * 8, 100.0),
    ],
    ids=["nothing seen", "too few", "enough", "four in five took no longer", "two slow ones of ten do not count"],
)
def test_the_lead_time_is_the_quantile_of_recent_starts(recent: tuple[float, ...], expected: float) -> None:
    assert lead_time_seconds(Starts(recent_seconds=recent), PRIOR, START) == expected


def test_boots_that_become_slower_are_believed_before_the_first_of_them_ends() -> None:
    slow = Starts(0, 4, (Cohort(START - 900.0, 4),), (120.0,) * 8)
    assert lead_time_seconds(slow, PRIOR, START - 850.0) == 120.0, "no later than the others"
    assert lead_time_seconds(slow, PRIOR, START) == 900.0
    assert lead_time_seconds(slow, PRIOR, START + LONGEST_SECONDS) == 120.0, "stuck is not slow"


def test_nothing_grows_without_bound() -> None:
    known: Starts | None = None
    for step in range(500):
        known = see_pool(known, step // 2, step % 7 + step // 3, START + 60.0 * step, START + 60.0 * (step - 1))
    assert known is not None
    assert len(known.recent_seconds) == RECENT_STARTS
    assert len(known.asked) <= 64


def frames(pipeline: Pipeline, state: PipeState, boot_minutes: int, minutes: range) -> PipeState:
    """Play a demand that jumps every hour against a cloud that boots in `boot_minutes`; return the state."""
    ready: dict[str, int] = {"reserved": 4, "burst": 0}
    booting: list[int] = []
    for minute in minutes:
        ready["burst"] += sum(minute - asked >= boot_minutes for asked in booting)
        booting = [asked for asked in booting if minute - asked < boot_minutes]
        demand = 150.0 if minute // 60 % 2 else 60.0
        pending = {"burst": len(booting)}
        frame = Frame(fleet="r1", time=from_unix(START + minute * MINUTE), demand=demand, ready=dict(ready), pending=pending)
        state, verdict = pipeline.frame(state, frame)
        wanted = verdict.targets["burst"]
        booting = booting[: max(wanted - ready["burst"], 0)] + [minute] * (wanted - ready["burst"] - len(booting))
        ready["burst"] = min(ready["burst"], wanted)
    return state


def lead_of(pipeline: Pipeline, state: PipeState, minute: int) -> float:
    view = pipeline.planning.view(state.planning, START + minute * MINUTE)
    return view.offers[1].offer.lead_time_seconds


def test_a_pipe_learns_what_its_world_takes_and_a_restart_forgets_nothing() -> None:
    pipeline = Pipeline(fleet_of(RESERVED, AUTO))
    state = frames(pipeline, pipeline.start(), 4, range(60))
    assert lead_of(pipeline, pipeline.start(), 0) == PRIOR
    state = frames(pipeline, state, 4, range(60, 600))
    assert lead_of(pipeline, state, 600) == pytest.approx(240.0, abs=60.0)
    restarted = load_plan(dump_plan(state.planning))
    assert restarted.starts == state.planning.starts
    assert lead_of(pipeline, PipeState(state.forecasting, restarted), 600) == lead_of(pipeline, state, 600)


def test_an_offer_with_a_stated_lead_time_learns_nothing() -> None:
    pipeline = Pipeline(fleet_of(RESERVED, replace(AUTO, learns_lead_time=False)))
    state = frames(pipeline, pipeline.start(), 4, range(300))
    assert state.planning.starts == {}
    assert lead_of(pipeline, state, 300) == PRIOR


def test_history_without_replicas_teaches_nothing_of_starts() -> None:
    pipeline = Pipeline(fleet_of(RESERVED, AUTO))
    state = pipeline.start()
    for minute in range(120):
        state, _ = pipeline.frame(state, Frame(fleet="r1", time=from_unix(START + minute * MINUTE), demand=float(40 + minute)))
    assert state.planning.starts == {}


class Cloud:
    """The planner alone, told by events, as in production."""

    def __init__(self) -> None:
        self.fleet: Fleet = replace(fleet_of(RESERVED, AUTO), guard=Guard(mode=Mode.ACT))
        self.planning = Planning(self.fleet)
        self.state = self.planning.start()

    def tick(self, seconds: float) -> Decision:
        self.state, made = self.planning.step(self.state, Tick(time=from_unix(START + seconds), fleet="r1"))
        return made[0]

    def pool(self, seconds: float, ready: int, pending: int, lead: float | None = None) -> None:
        status = PoolStatus(
            time=from_unix(START + seconds), fleet="r1", offer="burst", ready=ready, pending=pending, lead_time_seconds=lead
        )
        self.state, _ = self.planning.step(self.state, status)


def test_the_decision_says_which_lead_time_it_reckoned_with() -> None:
    cloud = Cloud()
    assert cloud.tick(0.0).lead_times_seconds == {"burst": PRIOR}
    for number in range(5):
        since = 1000.0 * number
        cloud.tick(since)
        cloud.pool(since + 2.0, number, 1)
        cloud.pool(since + 182.0, number + 1, 0)
    assert cloud.tick(5000.0).lead_times_seconds == {"burst": 182.0}


def test_a_supplier_that_lists_late_makes_no_lead_time_shorter() -> None:
    cloud = Cloud()
    cloud.fleet = replace(cloud.fleet, offers=(replace(RESERVED, max_replicas=0, min_replicas=0), replace(AUTO, min_replicas=1)))
    cloud.planning = Planning(cloud.fleet)
    cloud.pool(0.0, 0, 0)
    for seconds in (0.0, 15.0, 30.0, 45.0, 60.0):
        assert cloud.tick(seconds).targets["burst"] == 1
    cloud.pool(61.0, 0, 1)
    cloud.tick(75.0)
    cloud.pool(240.0, 1, 0)
    assert cloud.state.starts["burst"].recent_seconds == (240.0,), "asked for at 0, listed at 61, serving at 240"


def test_what_comes_back_long_after_its_target_was_raised_was_asked_for_at_the_last_decision() -> None:
    cloud = Cloud()
    cloud.fleet = replace(cloud.fleet, offers=(replace(RESERVED, max_replicas=0, min_replicas=0), replace(AUTO, min_replicas=1)))
    cloud.planning = Planning(cloud.fleet)
    cloud.pool(0.0, 0, 0)
    cloud.tick(0.0)
    cloud.pool(5.0, 0, 1)
    cloud.pool(200.0, 1, 0)
    cloud.tick(9000.0)
    cloud.pool(9010.0, 1, 1)
    cloud.pool(9100.0, 2, 0)
    assert cloud.state.starts["burst"].recent_seconds == (200.0, 100.0)


def test_a_snapshot_tells_of_starts_in_the_policys_order() -> None:
    offers = [replace(AUTO, name=f"offer-{number}") for number in range(8)]
    pipeline = Pipeline(fleet_of(*offers))
    frame = Frame(fleet="r1", time=from_unix(START), demand=1.0, ready={offer.name: 1 for offer in reversed(offers)})
    state, _ = pipeline.frame(pipeline.start(), frame)
    assert list(state.planning.starts) == [offer.name for offer in offers]


def test_a_snapshot_from_before_measurements_were_kept_is_still_read() -> None:
    state = replace(Planning(fleet_of(RESERVED, AUTO)).start(), starts={"burst": Starts(1, 2, (Cohort(START, 2),), (300.0,))})
    older = dump_plan(state).replace(b"[300.0],null]", b"[300.0]]")
    assert older != dump_plan(state)
    assert load_plan(older).starts == state.starts


def test_until_enough_was_seen_a_suppliers_word_is_the_prior() -> None:
    cloud = Cloud()
    quote = Quote(time=from_unix(START), offer="burst", usd_per_replica_hour=36.0, lead_time_seconds=420.0)
    cloud.state, _ = cloud.planning.step(cloud.state, quote)
    assert cloud.tick(1.0).lead_times_seconds == {"burst": 420.0}


@pytest.mark.parametrize(("startup", "reckoned"), [(900.0, 900.0), (300.0, PRIOR)])
def test_what_an_engine_took_to_start_is_the_least_that_is_believed_until_starts_were_seen(startup: float, reckoned: float) -> None:
    cloud = Cloud()
    seen = Observation(time=from_unix(START), fleet="r1", demand_per_second=1.0, interval_seconds=15.0, startup_seconds=startup)
    cloud.state, _ = cloud.planning.step(cloud.state, seen)
    assert cloud.tick(1.0).lead_times_seconds == {"burst": reckoned}
    cloud.state = load_plan(dump_plan(cloud.state))
    assert cloud.tick(2.0).lead_times_seconds == {"burst": reckoned}
    for number in range(5):
        since = 1000.0 * (number + 1)
        cloud.tick(since)
        cloud.pool(since + 2.0, number, 1)
        cloud.pool(since + 182.0, number + 1, 0)
    assert cloud.tick(6000.0).lead_times_seconds == {"burst": 182.0}, "starts that were seen count for more than what engines say"


POLICY = """\
apiVersion: tidegate.dev/v1alpha1
kind: Fleet
metadata: {name: f}
spec:
  serving: {model: m, slo: {ttft: 2s}}
  demand: {unit: requests, nats: {}}
  floor:
    - {name: own, accelerator: {type: H200}, capacityPerSecond: 10, replicas: {max: 2}, usdPerReplicaHour: 3, leadTime: auto}
  burst:
    - {name: rent, accelerator: {type: H200}, capacityPerSecond: 10, replicas: {max: 9}, usdPerReplicaHour: 9, leadTime: LEAD}
"""


@pytest.mark.parametrize(("lead", "seconds", "learns"), [("auto", 600.0, True), ("8m", 480.0, False)])
def test_a_policy_may_leave_the_lead_time_to_experience(lead: str, seconds: float, learns: bool) -> None:
    reading = read_policies([("p.yaml", POLICY.replace("LEAD", lead))])
    assert reading.errors == ()
    own, rent = reading.policies[0].fleet.offers
    assert (own.lead_time_seconds, own.learns_lead_time) == (300.0, True)
    assert (rent.lead_time_seconds, rent.learns_lead_time) == (seconds, learns)


@pytest.mark.parametrize("lead", ["automatic", "8", "480"])
def test_anything_else_is_an_error_that_says_what_is_right(lead: str) -> None:
    (problem,) = read_policies([("p.yaml", POLICY.replace("LEAD", lead))]).errors
    assert problem.path == "spec.burst[0].leadTime"
    assert "90s, 5m" in problem.message or "duration" in problem.message
