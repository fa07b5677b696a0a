"""Which announced launches the forecaster remembers: those that may still matter, before and after a restart, and no others."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from controlplane.config import load_fleets
from controlplane.contracts.events import Event, Launch, Observation
from controlplane.contracts.fleet import Fleet, LaunchPlan
from controlplane.contracts.units import from_unix
from controlplane.forecasting import Forecasting, ForecastState
from controlplane.snapshot import dump_forecast, load_forecast
from tests.unit.test_pipe_lines import POLICY

START = from_unix(1_790_000_040.0)
FLEET = "piped"


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return load_fleets([path])[0]


def announced(day: float, name: str, starts_day: float, **said: float) -> Launch:
    """Return a launch that is over in a day, told on a day after START."""
    shape = {"ramp_seconds": 600.0, "half_life_seconds": 1200.0, **said}
    return Launch(time=START + timedelta(days=day), fleet=FLEET, name=name, starts=START + timedelta(days=starts_day), **shape)


def seen_on(day: float) -> Observation:
    return Observation(time=START + timedelta(days=day), fleet=FLEET, demand_per_second=20.0)


def told_all(forecasting: Forecasting, state: ForecastState, events: Sequence[Event]) -> ForecastState:
    for event in events:
        state, _ = forecasting.step(state, event)
    return state


def test_launches_that_can_no_longer_matter_are_forgotten_when_another_is_announced(fleet: Fleet) -> None:
    """One a day for forty days: those of the last ten days stay, and what is to come. A restart in between changes nothing."""
    forecasting = Forecasting(fleet)
    days = [event for day in range(40) for event in (seen_on(day), announced(day, f"v{day}", day + 0.1))]
    events = [announced(0.0, "next-year", 365.0), *days]
    whole = told_all(forecasting, forecasting.start(), events)
    assert set(whole.waves) == {"next-year", *(f"v{day}" for day in range(29, 40))}
    half = told_all(forecasting, forecasting.start(), events[:45])
    again = told_all(forecasting, load_forecast(forecasting, dump_forecast(forecasting, half)), events[45:])
    assert dump_forecast(forecasting, again) == dump_forecast(forecasting, whole)


def test_a_launch_of_the_policy_that_was_forgotten_is_not_back_after_a_restart(fleet: Fleet) -> None:
    old = LaunchPlan("old", START.timestamp(), 9.0, 600.0, 1200.0)
    forecasting = Forecasting(replace(fleet, launches=(old,)))
    state = told_all(forecasting, forecasting.start(), [seen_on(0.0), seen_on(11.0), announced(11.0, "v5", 12.0)])
    restarted = load_forecast(forecasting, dump_forecast(forecasting, state))
    assert (list(state.waves), list(restarted.waves)) == (["v5"], ["v5"])


@pytest.mark.parametrize(
    "events",
    [
        [announced(30.0, "told", 0.5), announced(30.0, "next", 31.0)],
        [seen_on(0.0), announced(0.0, "told", 0.5), announced(3650.0, "next", 31.0)],
        [seen_on(0.0), announced(0.0, "told", 0.5, half_life_seconds=86400.0), seen_on(12.0), announced(12.0, "next", 31.0)],
    ],
    ids=["before the history that it lies in is read back", "by a clock that is years ahead", "as long as its own half-life has it last"],
)
def test_a_launch_that_may_still_matter_is_not_forgotten(fleet: Fleet, events: list[Event]) -> None:
    forecasting = Forecasting(fleet)
    assert set(told_all(forecasting, forecasting.start(), events).waves) == {"told", "next"}


def test_a_launch_that_is_long_past_when_it_is_told_changes_nothing(fleet: Fleet) -> None:
    forecasting = Forecasting(fleet)
    state = told_all(forecasting, forecasting.start(), [seen_on(0.0), seen_on(30.0)])
    late, made = forecasting.step(state, announced(30.0, "late", 1.0))
    assert (late.waves, made) == (state.waves, ())
