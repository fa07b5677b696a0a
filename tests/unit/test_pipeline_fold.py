"""Two ways to the same decisions: events folded as production does, and frames as the pipe does; and what repetition must not change."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from controlplane.config import load_fleets
from controlplane.contracts.errors import SnapshotError
from controlplane.contracts.events import (
    Alert,
    AlertAction,
    Decision,
    Event,
    Flag,
    Forecast,
    Launch,
    Observation,
    PoolStatus,
    Quote,
    Tick,
)
from controlplane.contracts.fleet import Fleet, LaunchPlan, Mode
from controlplane.contracts.frame import Frame
from controlplane.contracts.units import from_unix
from controlplane.forecasting import Forecasting, ForecastState
from controlplane.pipeline import Pipeline
from controlplane.planning import Planning, PlanState
from controlplane.snapshot import SCHEMA_VERSION, dump_forecast, dump_plan, load_forecast, load_plan
from tests.unit.test_pipe_lines import POLICY

START = from_unix(1_790_000_040.0)
FLEET = "piped"
MINUTES = 90


@pytest.fixture(params=[Mode.ACT, Mode.RECOMMEND])
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Fleet:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.replace("mode: recommend", f"mode: {request.param.value}"))
    return load_fleets([path])[0]


class Folded:
    """Both halves over events, as the two services fold them: a Forecast is an event that the planner folds after it was made."""

    def __init__(self, fleet: Fleet) -> None:
        self.forecasting, self.planning = Forecasting(fleet), Planning(fleet)
        self.forecasts: ForecastState = self.forecasting.start()
        self.plans: PlanState = self.planning.start()
        self.sequence = 0
        self.decisions: list[Decision] = []
        self.events: list[Event] = []

    def tell(self, *events: Event) -> None:
        for event in events:
            self._plan(event)
            self.forecasts, made = self.forecasting.step(self.forecasts, event)
            for forecast in made:
                self._plan(forecast)

    def _plan(self, event: Event) -> None:
        self.sequence += 1
        self.events.append(event)
        self.plans, decisions = self.planning.step(self.plans, event, self.sequence)
        self.decisions.extend(decisions)


def held_at(minute: int, last: dict[str, int]) -> dict[str, int]:
    """Return a pool that follows the last targets, all of it ready."""
    return last or {"owned": 2, "rented": minute % 3}


def demand_at(minute: int) -> float | None:
    return None if minute % 13 == 7 else 5.0 + 20.0 * (minute // 15 % 2) + minute % 4


def events_of(minute: int, held: dict[str, int]) -> Sequence[Event]:
    """Return what one frame stands for, in the order in which services say it."""
    at = START + timedelta(minutes=minute)
    pools = [PoolStatus(time=at, fleet=FLEET, offer=offer, ready=count, unavailable=away(minute, offer)) for offer, count in held.items()]
    seen = Observation(
        time=at, fleet=FLEET, demand_per_second=demand_at(minute), backlog=float(minute % 5), late_per_second=0.1, spilled_per_second=0.2
    )
    return (seen, *pools, Quote(time=at, offer="rented", usd_per_replica_hour=10.0 + minute % 3))


def away(minute: int, offer: str) -> bool:
    return offer == "rented" and 40 <= minute < 44


def frame_of(minute: int, held: dict[str, int]) -> Frame:
    return Frame(
        fleet=FLEET,
        time=START + timedelta(minutes=minute),
        demand=demand_at(minute),
        backlog=float(minute % 5),
        ready=held,
        unavailable=tuple(offer for offer in held if away(minute, offer)),
        prices={"rented": 10.0 + minute % 3},
        late=0.1,
        spilled=0.2,
    )


def told_at(minute: int) -> list[Launch | Alert]:
    """Return what people and alerting say at a few moments."""
    at = START + timedelta(minutes=minute)
    if minute == 20:
        return [Launch(time=at, fleet=FLEET, name="wave", starts=at + timedelta(minutes=30), peak_multiple=5.0, ramp_seconds=300.0)]
    if minute == 50:
        return [Alert(time=at, fleet=FLEET, name="queue", action=AlertAction.LIFT, lift_replicas=4, expires=at + timedelta(minutes=9))]
    if minute == 70:
        return [Alert(time=at, fleet=FLEET, name="stop", action=AlertAction.FREEZE, expires=at + timedelta(minutes=5))]
    return []


def run_both(fleet: Fleet) -> tuple[Folded, list[tuple[dict[str, int], float, tuple[str, ...]]]]:
    """Give both ways the same data, and let the pool follow the folded way's targets."""
    folded, pipeline = Folded(fleet), Pipeline(fleet)
    state, verdicts, targets = pipeline.start(), [], dict[str, int]()
    for minute in range(MINUTES):
        held = held_at(minute, targets)
        for told in told_at(minute):
            folded.tell(told)
            state = pipeline.tell(state, told)
        folded.tell(*events_of(minute, held), Tick(time=START + timedelta(minutes=minute), fleet=FLEET))
        state, verdict = pipeline.frame(state, frame_of(minute, held))
        verdicts.append((verdict.targets, verdict.spill_per_second, tuple(reason.value for reason in verdict.reasons)))
        targets = dict(folded.decisions[-1].targets)
    return folded, verdicts


def said(decisions: Sequence[Decision]) -> list[tuple[dict[str, int], float, tuple[str, ...]]]:
    return [(dict(made.targets), made.spill_per_second, tuple(reason.value for reason in made.reasons)) for made in decisions]


def test_events_folded_and_frames_come_to_the_same_decisions(fleet: Fleet) -> None:
    folded, verdicts = run_both(fleet)
    assert said(folded.decisions) == verdicts
    assert len({tuple(sorted(targets.items())) for targets, _, _ in verdicts}) > 5, "nothing happened"


def test_a_decision_names_the_tick_that_it_answers(fleet: Fleet) -> None:
    folded, _ = run_both(fleet)
    ticks = [number for number, event in enumerate(folded.events, start=1) if isinstance(event, Tick)]
    assert [decision.inputs_sequence for decision in folded.decisions] == ticks
    assert all(decision.expires > decision.time for decision in folded.decisions)


def test_history_replayed_comes_to_the_same_state_and_decisions(fleet: Fleet) -> None:
    folded, _ = run_both(fleet)
    planning = Planning(fleet)
    state, decisions = planning.start(), []
    for sequence, event in enumerate(folded.events, start=1):
        state, made = planning.step(state, event, sequence)
        decisions.extend(made)
    assert decisions == folded.decisions
    assert dump_plan(state) == dump_plan(folded.plans)


def test_duplicates_and_older_events_change_nothing(fleet: Fleet) -> None:
    once, _ = run_both(fleet)
    again = Folded(fleet)
    for event in once.events:
        if isinstance(event, Forecast):
            continue
        again.tell(event)
        if not isinstance(event, Tick):
            again.tell(event)
        if isinstance(event, Observation):
            again.tell(event.model_copy(update={"time": event.time - timedelta(minutes=3), "demand_per_second": 500.0}))
    assert said(again.decisions) == said(once.decisions)
    assert len([event for event in again.events if isinstance(event, Forecast)]) == len(
        [event for event in once.events if isinstance(event, Forecast)]
    )


@pytest.mark.parametrize("cut", [1, 30, 55, 72])
def test_both_halves_go_on_from_their_snapshots_as_if_nothing_had_happened(fleet: Fleet, cut: int) -> None:
    whole, _ = run_both(fleet)
    at = next(
        number for number, event in enumerate(whole.events) if isinstance(event, Tick) and event.time >= START + timedelta(minutes=cut)
    )
    told = [event for event in whole.events[: at + 1] if not isinstance(event, Forecast)]
    first = Folded(fleet)
    first.tell(*told)
    second = Folded(fleet)
    second.forecasts = load_forecast(second.forecasting, dump_forecast(first.forecasting, first.forecasts))
    second.plans = load_plan(dump_plan(first.plans))
    second.sequence = first.sequence
    second.tell(*(event for event in whole.events[at + 1 :] if not isinstance(event, Forecast)))
    assert first.decisions + second.decisions == whole.decisions
    assert dump_plan(second.plans) == dump_plan(whole.plans)
    assert dump_forecast(second.forecasting, second.forecasts) == dump_forecast(whole.forecasting, whole.forecasts)


def test_ticks_and_alerts_of_other_fleets_are_not_answered(fleet: Fleet) -> None:
    folded = Folded(fleet)
    folded.tell(*events_of(0, {"owned": 2, "rented": 0}))
    folded.tell(Tick(time=START, fleet="another"))
    assert folded.decisions == []
    folded.tell(Tick(time=START))
    assert len(folded.decisions) == 1


def test_a_figure_that_its_collector_doubts_is_neither_learnt_nor_decided_on(fleet: Fleet) -> None:
    folded = Folded(fleet)
    folded.tell(*events_of(0, {"owned": 2, "rented": 0}))
    doubted = Observation(time=START + timedelta(minutes=1), fleet=FLEET, demand_per_second=9999.0, flags=(Flag.IMPLAUSIBLE,))
    forecasts = len([event for event in folded.events if isinstance(event, Forecast)])
    folded.tell(doubted, Tick(time=START + timedelta(minutes=1)))
    assert len([event for event in folded.events if isinstance(event, Forecast)]) == forecasts
    assert folded.decisions[-1].demand_per_second != 9999.0


@pytest.mark.parametrize("content", [b"", b"null", b"{}", b'{"version":1}', b"\xff\x00", b'{"version":99,"state":{}}'])
def test_what_is_no_snapshot_is_refused(fleet: Fleet, content: bytes) -> None:
    with pytest.raises(SnapshotError):
        load_plan(content)
    with pytest.raises(SnapshotError):
        load_forecast(Forecasting(fleet), content)


def plan(name: str, peak_multiple: float) -> LaunchPlan:
    return LaunchPlan(name, START.timestamp() + 3600.0, peak_multiple)


@pytest.mark.parametrize(
    ("before", "said", "now", "known"),
    [
        ([], [], [("v4", 20.0)], [("v4", 20.0)]),
        ([("v4", 20.0)], [], [("v4", 50.0)], [("v4", 50.0)]),
        ([("v4", 20.0)], [], [], []),
        ([("v4", 20.0)], [("v4", None)], [("v4", 20.0)], []),
        ([("v4", 20.0)], [("v4", 30.0)], [("v4", 20.0)], [("v4", 30.0)]),
        ([("v4", 20.0)], [("v4", 30.0)], [], [("v4", 30.0)]),
        ([], [("v5", 9.0)], [("v4", 20.0)], [("v4", 20.0), ("v5", 9.0)]),
    ],
    ids=["added", "changed", "removed", "called off since", "corrected since", "corrected, then removed", "beside one that was told"],
)
def test_a_restart_takes_the_launches_of_todays_policy_and_keeps_what_was_said_since(
    fleet: Fleet,
    before: list[tuple[str, float]],
    said: list[tuple[str, float | None]],
    now: list[tuple[str, float]],
    known: list[tuple[str, float]],
) -> None:
    first = Forecasting(replace(fleet, launches=tuple(plan(*each) for each in before)))
    second = Forecasting(replace(fleet, launches=tuple(plan(*each) for each in now)))
    state, _ = first.step(first.start(), Observation(time=START, fleet=FLEET, demand_per_second=20.0))
    for name, peak in said:
        starts = START + timedelta(hours=1)
        launch = Launch(time=START, fleet=FLEET, name=name, starts=starts, peak_multiple=peak, cancelled=peak is None)
        state, _ = first.step(state, launch)
    restarted = load_forecast(second, dump_forecast(first, state))
    assert sorted((wave.name, wave.peak_multiple) for wave in restarted.waves.values()) == known


def test_a_forecast_snapshot_with_broken_methods_is_refused(fleet: Fleet) -> None:
    for methods in ('"!"', '"AAAA"', '""'):
        content = f'{{"version":{SCHEMA_VERSION},"methods":{methods},"waves":{{}},"observed_unix":null}}'
        with pytest.raises(SnapshotError):
            load_forecast(Forecasting(fleet), content.encode())


def test_a_launch_is_forecast_at_once_and_told_twice_changes_nothing(fleet: Fleet) -> None:
    forecasting = Forecasting(fleet)
    state = forecasting.start()
    for minute in range(120):
        seen = Observation(time=START + timedelta(minutes=minute), fleet=fleet.name, demand_per_second=20.0 + minute % 3)
        state, made = forecasting.step(state, seen)
    plain = made[0]
    launch = Launch(
        time=seen.time, fleet=fleet.name, name="v4", starts=seen.time + timedelta(hours=1), peak_multiple=10.0, ramp_seconds=600
    )
    state, announced = forecasting.step(state, launch)
    assert announced[0].observed == plain.observed
    assert announced[0].demand_per_second[0] == pytest.approx(plain.demand_per_second[0], rel=1e-3)
    later = announced[0].horizons_seconds.index(7200.0)
    assert announced[0].demand_per_second[later][5] > 2.0 * plain.demand_per_second[later][5]
    assert forecasting.step(state, launch)[1] == ()
