"""The forecaster service: folds a fleet's observations and launches, and publishes a Forecast for each that says something new.

Owns nothing but the wiring of `controlplane.forecasting` to the ordered fold.
"""

from collections.abc import Sequence

from nats.aio.client import Client

from controlplane.bus.fold import Fold, Folding
from controlplane.contracts.events import Event
from controlplane.contracts.fleet import Fleet
from controlplane.forecasting import Forecasting, ForecastState
from controlplane.snapshot import SCHEMA_VERSION, dump_forecast, load_forecast

SERVICE = "forecaster"


def forecaster_of(client: Client, fleet: Fleet) -> Fold[ForecastState]:
    """Return the fold of one fleet's forecaster."""
    forecasting = Forecasting(fleet)

    def step(state: ForecastState, event: Event, _sequence: int) -> tuple[ForecastState, Sequence[Event]]:
        return forecasting.step(state, event)

    folding = Folding(
        step=step,
        start=forecasting.start,
        dump=lambda state: dump_forecast(forecasting, state),
        load=lambda content: load_forecast(forecasting, content),
        version=SCHEMA_VERSION,
    )
    subjects = (f"tidegate.observation.{fleet.name}", f"tidegate.launch.{fleet.name}")
    return Fold(client, SERVICE, fleet.name, folding, subjects)
