"""When the planner ticks early: after an alert or an announced launch, until a tick has answered it."""

from datetime import timedelta

from controlplane.contracts.events import Alert, Forecast, Observation, Tick
from controlplane.contracts.units import from_unix
from controlplane.planning import PlanState
from controlplane.services.planner import urgency_of
from policies.view import Memory

NOW = from_unix(1_790_000_000.0)
KNOWN = PlanState(Memory(), forecast_unix=NOW.timestamp())


def forecast(observed_seconds_later: float) -> Forecast:
    return Forecast(
        fleet="f",
        time=NOW,
        observed=NOW + timedelta(seconds=observed_seconds_later),
        horizons_seconds=(60.0,),
        quantiles=(0.5,),
        demand_per_second=((1.0,),),
        peak_per_second=((1.0,),),
    )


def test_an_alert_wants_a_tick_until_one_came():
    urgent = urgency_of(KNOWN, Alert(fleet="f", time=NOW, name="queue"), "")
    assert urgent == "alert"
    assert urgency_of(KNOWN, Observation(fleet="f", time=NOW, demand_per_second=1.0), urgent) == "alert"
    assert urgency_of(KNOWN, Tick(time=NOW), urgent) == ""


def test_a_forecast_of_nothing_newer_is_that_of_a_launch():
    assert urgency_of(KNOWN, forecast(0.0), "") == "launch"
    assert urgency_of(KNOWN, forecast(15.0), "") == ""
    assert urgency_of(PlanState(Memory()), forecast(0.0), "") == ""
