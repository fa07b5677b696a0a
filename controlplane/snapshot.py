"""States to bytes and back: what a restart resumes from, as if it had never stopped.

Owns the schema version of both halves of the pipeline; a snapshot of another version is refused with SnapshotError, and its owner
rebuilds from history. Where the bytes are kept (KV bucket or file) is `controlplane.bus` and `controlplane.pipe`.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import ConfigDict, TypeAdapter, ValidationError

from controlplane.contracts.errors import SnapshotError
from controlplane.contracts.fleet import LaunchPlan
from controlplane.forecasting import Forecasting, ForecastState, waves_anew
from controlplane.pipeline import PipeState
from controlplane.planning import PlanState
from forecasters.rewind import Rewindable

SCHEMA_VERSION = 2


@dataclass(frozen=True, slots=True)
class _ForecastSnapshot:
    version: int
    methods: str
    waves: dict[str, LaunchPlan]
    observed_unix: float | None
    # What the policy itself announced then, so that a later one is known from what was said of it since.
    planned: dict[str, LaunchPlan] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _PlanSnapshot:
    # Infinity is a number here (a price that never expires); JSON's null could not be read back as one.
    __pydantic_config__ = ConfigDict(ser_json_inf_nan="constants")

    version: int
    state: PlanState


_FORECAST = TypeAdapter(_ForecastSnapshot)
_PLAN = TypeAdapter(_PlanSnapshot)
_FILE = TypeAdapter(dict[str, tuple[str, str]])


def dump_forecast(forecasting: Forecasting, state: ForecastState) -> bytes:
    """Return the forecaster's half of one fleet."""
    methods = base64.b64encode(forecasting.combination.dump(state.methods)).decode()
    snapshot = _ForecastSnapshot(SCHEMA_VERSION, methods, dict(state.waves), state.observed_unix, forecasting.planned)
    return _FORECAST.dump_json(snapshot)


def load_forecast(forecasting: Forecasting, snapshot: bytes) -> ForecastState:
    """Return the state in a snapshot, with the launches of today's policy; SnapshotError where it is of another version or not one."""
    read = _read(_FORECAST, snapshot)
    _require_version(read.version)
    methods = forecasting.combination.load(base64.b64decode(read.methods))
    learnt = Rewindable(forecasting.combination, methods)
    return ForecastState(learnt, waves_anew(read.waves, read.planned, forecasting.planned), read.observed_unix)


def dump_plan(state: PlanState) -> bytes:
    """Return the planner's half of one fleet."""
    return _PLAN.dump_json(_PlanSnapshot(SCHEMA_VERSION, state))


def load_plan(snapshot: bytes) -> PlanState:
    """Return the state in a snapshot; SnapshotError where it is of another version or not one."""
    read = _read(_PLAN, snapshot)
    _require_version(read.version)
    return read.state


def dump_pipes(states: Mapping[str, PipeState], forecastings: Mapping[str, Forecasting]) -> bytes:
    """Return all fleets of a pipe as one file's content."""
    return _FILE.dump_json(
        {
            name: (dump_forecast(forecastings[name], state.forecasting).decode(), dump_plan(state.planning).decode())
            for name, state in states.items()
        }
    )


def load_pipes(content: bytes, forecastings: Mapping[str, Forecasting]) -> dict[str, PipeState]:
    """Return the fleets in a file that `dump_pipes` made; those that the policies no longer name are left out."""
    return {
        name: PipeState(load_forecast(forecastings[name], forecast.encode()), load_plan(plan.encode()))
        for name, (forecast, plan) in _read(_FILE, content).items()
        if name in forecastings
    }


def _read[T](adapter: TypeAdapter[T], content: bytes) -> T:
    try:
        return adapter.validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise SnapshotError(f"not a snapshot of this version ({where}: {first['msg']}); it is rebuilt from history") from error


def _require_version(version: int) -> None:
    if version != SCHEMA_VERSION:
        raise SnapshotError(f"snapshot version {version}, this is version {SCHEMA_VERSION}; it is rebuilt from history")
