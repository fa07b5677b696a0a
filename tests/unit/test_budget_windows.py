"""Budget windows and the drain switch, as stories. 36 USD per replica-hour; a story begins at midnight UTC on a Friday."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.contracts.events import Reason
from controlplane.contracts.fleet import EVERY_DAY, Behavior, Budget, BudgetWindow, Direction, Drain, StepKind, StepLimit
from policies.decide import decide, start_memory
from policies.reading import read_policies
from policies.view import Cohort, Memory, OpenWindow
from policies.windows import opened_unix
from tests.unit.decide_stories import BURST, BURST_USD, DEARER, HOUR, RESERVED, START, flat, fleet_of, view_of

QUICK = replace(BURST, hold_seconds=0.0)
TEN_QUICK = replace(QUICK, max_replicas=10)
NIGHTS = BudgetWindow("nights", EVERY_DAY, 20 * HOUR, 8 * HOUR, usd_per_hour=4 * BURST_USD)
OFFICE = BudgetWindow("office", (0, 1, 2, 3, 4), 8 * HOUR, 18 * HOUR, usd=1000.0)


def budget(*windows: BudgetWindow, zone: str = "UTC", **limits: float) -> Budget:
    return Budget(limits.get("usd_per_hour"), limits.get("usd_per_day"), windows, zone)


def unix(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("at", "opened"),
    [
        ("2026-11-26 19:59", None),
        ("2026-11-26 20:00", "2026-11-26 20:00"),
        ("2026-11-27 07:59", "2026-11-26 20:00"),
        ("2026-11-27 08:00", None),
    ],
)
def test_a_window_over_midnight_is_open_until_the_next_morning(at: str, opened: str | None) -> None:
    assert opened_unix(NIGHTS, "UTC", unix(at)) == (unix(opened) if opened else None)


@pytest.mark.parametrize(
    ("at", "is_open"),
    [("2026-11-27 17:00", True), ("2026-11-28 17:00", False), ("2026-11-29 17:00", False), ("2026-11-30 17:00", True)],
    ids=["Friday", "Saturday", "Sunday", "Monday"],
)
def test_days_are_those_that_it_starts_on(at: str, is_open: bool) -> None:
    assert (opened_unix(OFFICE, "UTC", unix(at)) is not None) == is_open


@pytest.mark.parametrize(
    ("at", "opened"),
    [
        ("2026-03-28 08:00", "2026-03-28 07:00"),
        ("2026-03-30 06:30", "2026-03-30 06:00"),
        ("2026-10-24 06:30", "2026-10-24 06:00"),
        ("2026-10-26 06:30", None),
    ],
    ids=["winter", "summer", "summer still", "winter again"],
)
def test_hours_are_those_of_the_clock_on_the_wall(at: str, opened: str | None) -> None:
    office = replace(OFFICE, days=EVERY_DAY)
    assert opened_unix(office, "Europe/Berlin", unix(at)) == (unix(opened) if opened else None)


def test_in_a_zone_that_nobody_knows_every_window_is_open() -> None:
    assert opened_unix(NIGHTS, "Nowhere/Atlantis", START + 12 * HOUR) == START


@pytest.mark.parametrize(("hour", "target"), [(1, 4), (7.9, 4), (8, 10), (19.9, 10), (20, 4)])
def test_a_tighter_hourly_limit_holds_while_its_window_is_open(hour: float, target: int) -> None:
    fleet = fleet_of(QUICK, budget=budget(NIGHTS, usd_per_hour=10 * BURST_USD))
    verdict, _ = decide(view_of(fleet, flat(200.0), minute=60 * hour), start_memory(START))
    assert verdict.targets == {"burst": target}
    assert Reason.CLAMPED_TO_BUDGET in verdict.reasons


def test_a_window_never_opens_what_another_limit_closes() -> None:
    generous = replace(NIGHTS, name="generous", usd_per_hour=100 * BURST_USD)
    fleet = fleet_of(QUICK, budget=budget(NIGHTS, generous, usd_per_hour=2 * BURST_USD))
    verdict, _ = decide(view_of(fleet, flat(200.0)), start_memory(START))
    assert verdict.targets == {"burst": 2}
    assert verdict.spill_per_second == 0.0


def test_a_windows_total_is_counted_from_its_opening_and_begins_anew_the_next_day() -> None:
    fleet = fleet_of(TEN_QUICK, budget=budget(replace(OFFICE, days=EVERY_DAY)), spill=None, attainment=0.99)
    memory, minute = start_memory(START + 7.5 * HOUR), 450.0
    hours_of_ten = {}
    while minute <= 48 * 60:
        verdict, memory = decide(view_of(fleet, flat(100.0), {"burst": 10}, minute=minute), memory)
        hours_of_ten[minute] = verdict.targets["burst"]
        minute += 30.0
    spent_after = 1000.0 / (10 * BURST_USD)
    assert hours_of_ten[450.0] == hours_of_ten[480.0] == 10
    assert all(held == 10 for at, held in hours_of_ten.items() if at < (8 + spent_after) * 60 - 30)
    assert hours_of_ten[12 * 60.0] == 0, "a thousand are spent, although somebody goes on holding ten"
    assert hours_of_ten[18 * 60.0] == 10, "closed, it limits nothing"
    assert hours_of_ten[32 * 60.0] == 10, "a new day, a new thousand"
    assert hours_of_ten[36 * 60.0] == 0


def test_what_was_spent_in_a_window_is_remembered_over_a_restart() -> None:
    from pydantic import TypeAdapter

    memory = Memory(windows=(OpenWindow("office", START + 8 * HOUR, 990.0),), metered_unix=START + 9 * HOUR)
    adapter = TypeAdapter(Memory)
    assert adapter.validate_json(adapter.dump_json(memory)) == memory
    fleet = fleet_of(TEN_QUICK, budget=budget(OFFICE), spill=None, attainment=0.99)
    verdict, after = decide(view_of(fleet, flat(100.0), {"burst": 10}, minute=9 * 60), memory)
    assert after.windows == memory.windows
    assert verdict.targets["burst"] == 10, "ten for a minute cost 6 of the 10 that are left"
    assert decide(view_of(fleet, flat(100.0), {"burst": 10}, minute=9 * 60 + 2), after)[0].targets["burst"] == 0


@given(
    st.floats(0.0, 14 * 24 * HOUR), st.integers(0, 60), st.floats(0.0, 5000.0), st.floats(0.0, 5000.0),
    st.lists(st.sampled_from(EVERY_DAY), min_size=1, unique=True), st.integers(0, 23), st.integers(1, 24),
)  # fmt: skip
def test_no_window_ever_lets_more_through_than_it_says(
    at: float, held: int, hourly: float, total: float, days: list[int], opens: int, ends: int
) -> None:
    window = BudgetWindow("any", tuple(days), opens * HOUR, ends * HOUR, hourly, total)
    fleet = fleet_of(QUICK, replace(DEARER, hold_seconds=0.0), budget=budget(window, zone="America/New_York"))
    verdict, memory = decide(view_of(fleet, flat(300.0), {"burst": held}, minute=at / 60.0), start_memory(START))
    usd = BURST_USD * verdict.targets["burst"] + 48.0 * verdict.targets["dearer"]
    spilled = verdict.spill_per_second * fleet.spill.usd_per_unit * HOUR if fleet.spill else 0.0
    if opened_unix(window, "America/New_York", START + at) is not None:
        assert usd + spilled <= hourly + 1e-6
        assert sum(open_.spent_usd for open_ in memory.windows) + usd / 60.0 <= max(total, memory.windows[0].spent_usd) + 1e-6


SLOWLY = Behavior(Direction(), Direction(steps=(StepLimit(StepKind.REPLICAS, 2, 600.0),)))


@pytest.mark.parametrize(
    ("switch", "targets"),
    [(Drain.NONE, {"reserved": 4, "burst": 6}), (Drain.BURST, {"reserved": 4, "burst": 0}), (Drain.FLEET, {"reserved": 0, "burst": 0})],
)
def test_the_drain_switch_gives_back_what_it_names(switch: Drain, targets: dict[str, int]) -> None:
    fleet = fleet_of(RESERVED, QUICK, drain=switch)
    verdict, _ = decide(view_of(fleet, flat(100.0), {"reserved": 4, "burst": 6}), start_memory(START))
    assert verdict.targets == targets
    assert (Reason.DRAINED in verdict.reasons) == (switch is not Drain.NONE)
    assert verdict.spill_per_second > 0.0, "the last requests are answered"


def test_a_drain_lets_minimum_holds_run_out_and_keeps_the_pace() -> None:
    held = {"burst": (Cohort(START - HOUR, 4), Cohort(START - 60.0, 3))}
    memory = replace(start_memory(START), cohorts=held)
    world = view_of(fleet_of(BURST, drain=Drain.FLEET), flat(100.0), {"burst": 7})
    assert decide(world, memory)[0].targets == {"burst": 3}
    paced = view_of(fleet_of(QUICK, drain=Drain.FLEET, behavior=SLOWLY), flat(100.0), {"burst": 7})
    assert decide(paced, start_memory(START))[0].targets == {"burst": 5}


@pytest.mark.parametrize(
    "world",
    [{"lift_replicas": 5}, {"demand_age_seconds": 900.0}, {"implausible": True}, {"backlog": 500.0}],
    ids=["an alert", "stale data", "implausible data", "a queue"],
)
def test_nothing_holds_a_drain_up_and_nothing_is_bought(world: dict[str, float]) -> None:
    fleet = fleet_of(RESERVED, QUICK, drain=Drain.FLEET)
    verdict, _ = decide(view_of(fleet, flat(100.0), {"reserved": 4, "burst": 6}, **world), start_memory(START))
    assert verdict.targets == {"reserved": 0, "burst": 0}


def test_freezing_wins_over_draining() -> None:
    fleet = fleet_of(RESERVED, QUICK, drain=Drain.FLEET, frozen=True)
    verdict, _ = decide(view_of(fleet, flat(100.0), {"reserved": 4, "burst": 6}), start_memory(START))
    assert verdict.targets == {"reserved": 4, "burst": 6}


def test_a_drained_fleet_learns_no_headroom_from_what_it_misses() -> None:
    fleet = fleet_of(RESERVED, QUICK, drain=Drain.FLEET, spill=None)
    _, memory = decide(view_of(fleet, flat(100.0), late_share=1.0), start_memory(START))
    assert memory.headroom is None


POLICY = """\
apiVersion: tidegate.dev/v1alpha1
kind: Fleet
metadata: {name: f}
spec:
  serving: {model: m, slo: {ttft: 2s}}
  demand: {unit: requests, nats: {}}
  forecast: {timeZone: Europe/Berlin}
  burst:
    - {name: rent, accelerator: {type: H200}, capacityPerSecond: 10, replicas: {max: 9}, usdPerReplicaHour: 9}
  guard:
    drain: burst
    budget:
      usdPerHour: 90
      windows:
        - {name: nights, from: "20:00", to: 08:00, usdPerHour: 30}
        - {name: weekend, days: [sat, sun], usd: 200}
"""


def test_windows_and_the_switch_are_written_in_the_policy() -> None:
    (read,) = read_policies([("p.yaml", POLICY)]).policies
    guard = read.fleet.guard
    assert guard.drain is Drain.BURST
    assert guard.budget.time_zone == "Europe/Berlin"
    assert guard.budget.windows == (
        BudgetWindow("nights", EVERY_DAY, 20 * HOUR, 8 * HOUR, usd_per_hour=30.0),
        BudgetWindow("weekend", (5, 6), 0.0, 24 * HOUR, usd=200.0),
    )


@pytest.mark.parametrize(
    ("old", "new", "path", "message"),
    [
        ("to: 08:00", "to: 8h", "windows[0].to", "a time of day is HH:MM"),
        ("to: 08:00", 'to: "20:00"', "windows[0].to", "the same as `from`"),
        (", usd: 200", "", "windows[1]", "limits nothing"),
        ("name: weekend", "name: nights", "windows[1].name", "given twice"),
        ("[sat, sun]", "[sat, son]", "windows[1].days[1]", "did you mean sun?"),
        ("drain: burst", "drain: bursts", "drain", "did you mean burst?"),
    ],
)
def test_what_is_wrong_with_a_window_is_said(old: str, new: str, path: str, message: str) -> None:
    errors = read_policies([("p.yaml", POLICY.replace(old, new))]).errors
    assert any(error.path.endswith(path) and message in error.message for error in errors), errors


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("      usdPerHour: 90\n", "", "without any limit"),
        ("usdPerHour: 30", "usdPerHour: 95", "no tighter than the budget's usdPerHour, 90"),
        ("drain: burst", "drain: fleet", "is on"),
    ],
)
def test_likely_mistakes_are_warned_about(old: str, new: str, message: str) -> None:
    assert any(message in warning.message for warning in read_policies([("p.yaml", POLICY.replace(old, new))]).warnings)
