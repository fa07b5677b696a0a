"""What the planner does not know: pools that nobody has told of, forecasts that stopped. Nothing shrinks on either."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from controlplane.contracts.events import Decision, Event, Forecast, Observation, PoolStatus, Reason, Tick
from controlplane.contracts.fleet import Budget, Guard, Mode
from controlplane.contracts.units import from_unix
from controlplane.forecasting import Forecasting
from controlplane.planning import Planning
from policies.budget import spill_limit
from tests.unit.decide_stories import BURST, HOUR, RESERVED, SPILL_USD, START, fleet_of

FLEET = "story"


class Planner:
    """A planner and, until it dies, a forecaster, told of events minute by minute."""

    def __init__(self, actuator: str = "simulated", mode: Mode = Mode.ACT) -> None:
        offers = (replace(RESERVED, actuator=actuator), replace(BURST, hold_seconds=0.0, actuator=actuator))
        self.fleet = replace(fleet_of(*offers), name=FLEET, guard=Guard(mode=mode, stale_after_seconds=120.0))
        self.planning, self.forecasting = Planning(self.fleet), Forecasting(self.fleet)
        self.state, self.forecasts = self.planning.start(), self.forecasting.start()
        self.is_forecasting = True

    def tell(self, event: Event) -> Decision | None:
        self.state, decisions = self.planning.step(self.state, event, 1)
        if self.is_forecasting and not isinstance(event, Forecast):
            self.forecasts, made = self.forecasting.step(self.forecasts, event)
            for forecast in made:
                self.tell(forecast)
        return decisions[0] if decisions else None

    def holds(self, minute: float, **ready: int) -> None:
        for offer, count in ready.items():
            self.tell(PoolStatus(time=at(minute), fleet=FLEET, offer=offer, ready=count))

    def ticks(self, minute: float, demand: float | None = None) -> Decision:
        if demand is not None:
            self.tell(Observation(time=at(minute), fleet=FLEET, demand_per_second=demand, interval_seconds=60.0))
        decision = self.tell(Tick(time=at(minute), fleet=FLEET))
        assert decision is not None
        return decision


def at(minute: float) -> datetime:
    return from_unix(START) + timedelta(minutes=minute)


@pytest.mark.parametrize("demand", [None, 1.0])
def test_an_offer_of_which_nobody_has_told_yet_keeps_what_it_has(demand: float | None) -> None:
    planner = Planner()
    first = planner.ticks(0, demand)
    assert first.targets == {}
    assert Reason.NO_DATA_YET in first.reasons
    assert "burst unknown" in first.summary
    planner.holds(0, burst=10)
    assert planner.ticks(0.5).targets.keys() == {"burst"}
    planner.holds(1, reserved=4)
    assert planner.ticks(1).targets.keys() == {"burst", "reserved"}


def test_a_supplier_that_never_answered_does_not_keep_the_others_from_growing() -> None:
    planner = Planner()
    planner.holds(0, burst=0)
    for minute in range(5):
        decision = planner.ticks(minute, 200.0)
    assert decision.targets["burst"] > 10


@pytest.mark.parametrize(("actuator", "mode"), [("none", Mode.ACT), ("simulated", Mode.RECOMMEND)])
def test_where_no_actuator_of_ours_acts_every_offer_has_a_target(actuator: str, mode: Mode) -> None:
    assert Planner(actuator, mode).ticks(0, 10.0).targets.keys() == {"burst", "reserved"}


@pytest.mark.parametrize(
    ("spilled", "metered"),
    [((100.0, 0.0), 50.0), ((0.0, 100.0), 50.0), ((None, 40.0), 40.0), ((None, None), None)],
)
def test_spill_is_metered_over_all_the_time_since_the_last_decision(spilled: tuple[float | None, ...], metered: float | None) -> None:
    planner = Planner()
    planner.ticks(0, 10.0)
    for minute, rate in enumerate(spilled, start=1):
        planner.tell(Observation(time=at(minute), fleet=FLEET, demand_per_second=200.0, spilled_per_second=rate))
    assert planner.planning.view(planner.state, at(2).timestamp()).spilled_per_second == metered
    planner.ticks(2)
    assert planner.planning.view(planner.state, at(3).timestamp()).spilled_per_second == metered, "until something newer is known"


def test_without_a_forecaster_nothing_shrinks_however_fresh_the_demand() -> None:
    planner = Planner()
    planner.holds(0, reserved=4, burst=0)
    for minute in range(30):
        planner.ticks(minute, 10.0)
    planner.is_forecasting = False
    planner.holds(30, burst=10)
    for minute in range(33, 60):
        decision = planner.ticks(minute, 140.0)
        assert decision.targets["burst"] == 10
        assert Reason.STALE_HOLD in decision.reasons


def test_with_a_forecaster_the_same_fleet_shrinks() -> None:
    planner = Planner()
    planner.holds(0, reserved=4, burst=10)
    decisions = [planner.ticks(minute, 10.0) for minute in range(30)]
    assert decisions[-1].targets["burst"] < 10


@pytest.mark.parametrize(("told_minute", "usd"), [(0.0, 0.0), (0.4, 0.0), (1.0, 360.0)])
def test_a_purchase_counts_until_a_pool_tells_of_a_time_by_which_it_would_show(told_minute: float, usd: float) -> None:
    """Ten are asked for at once and nobody is heard of the pool any more: an hour later they may be there all the same."""
    planner = Planner()
    guard = replace(planner.fleet.guard, budget=Budget(usd_per_hour=360.0))
    planner.planning = Planning(replace(planner.fleet, guard=guard))
    planner.holds(0, reserved=4, burst=0)
    assert planner.ticks(0, 200.0).targets["burst"] == 10
    planner.holds(told_minute, burst=0)
    planner.tell(Observation(time=at(60), fleet=FLEET, demand_per_second=0.0, interval_seconds=3600.0))
    view = planner.planning.view(planner.state, at(60).timestamp())
    assert spill_limit({"reserved": 4, "burst": 0}, view, planner.state.memory) * SPILL_USD * HOUR == pytest.approx(usd)
