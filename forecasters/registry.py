"""Every method by name: a plain dict from name to factory. Adding a method is adding a line here.

Owns the names that a policy may write under `forecast.methods`; the contract suite runs on each of them.
It must not hold state. Go on to `combine` for how the named methods work together.
"""

from collections.abc import Callable
from typing import Any

from controlplane.contracts.fleet import ForecastSettings
from forecasters.harmonic import Harmonic
from forecasters.persistence import Persistence, Smoothed
from forecasters.point import PointMethod
from forecasters.quantified import Quantified
from forecasters.seasonal_naive import SeasonalNaive
from forecasters.working_week import WorkingWeek
from forecasters.zone import Zone

Factory = Callable[[ForecastSettings], PointMethod[Any]]

METHODS: dict[str, Factory] = {
    "persistence": lambda _: Persistence(),
    "smoothed": lambda _: Smoothed(),
    "seasonal-naive": lambda settings: SeasonalNaive(Zone(settings.time_zone), settings.season_seconds),
    "working-week": lambda settings: WorkingWeek(Zone(settings.time_zone)),
    "harmonic": lambda settings: Harmonic(Zone(settings.time_zone), settings.season_seconds),
}


def _quantified(name: str) -> Callable[[ForecastSettings], Quantified]:
    return lambda settings: Quantified(METHODS[name](settings), f"{settings.time_zone} {settings.season_seconds:g}")


REGISTRY: dict[str, Callable[[ForecastSettings], Quantified]] = {name: _quantified(name) for name in METHODS}
