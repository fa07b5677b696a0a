"""What a replaying policy replays: its trace found, read and made into a workload on the replay's own time.

Owns the reading of `demand.replay` and the rule that all replays of one process share a start and a speed.
It must not publish; `controlplane.services.collector` does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from controlplane.contracts.errors import PolicyError
from controlplane.contracts.fleet import Fleet
from controlplane.sim.workload import Workload, workload_of
from controlplane.traces.library import Trace, read_trace

FINE_STEP_SECONDS = 15.0
NOISE_SEED = 7


@dataclass(frozen=True, slots=True)
class Replay:
    """One fleet's replay. `speed` is trace seconds per wall-clock second; `loop`: from the start again at the end.

    `problems` are what is wrong with the trace's rows.
    """

    fleet: str
    workload: Workload
    interval_seconds: float
    start_unix: float
    speed: float
    loop: bool = False
    problems: tuple[str, ...] = ()


def is_replay(fleet: Fleet) -> bool:
    """Whether a fleet's demand comes out of a trace."""
    return fleet.demand_source.get("kind") == "replay"


def replay_of(fleet: Fleet, folders: tuple[Path, ...], trace: Trace | None = None, speed: float | None = None) -> Replay:
    """Return a fleet's replay; `trace` and `speed` stand in for the policy's. TraceError where the trace cannot be used."""
    source: Mapping[str, Any] = fleet.demand_source
    if trace is None:
        trace = read_trace(str(source["trace"]), folders, column=source.get("column"))
    interval = float(source["interval_seconds"])
    fine = min(FINE_STEP_SECONDS, interval)
    workload = workload_of(trace, np.random.default_rng(NOISE_SEED), step_seconds=fine, scale=float(source.get("scale") or 1.0))
    start = workload.start_unix + float(source.get("start_seconds") or 0.0)
    chosen = speed if speed is not None else float(source.get("speed") or 1.0)
    return Replay(fleet.name, workload, interval, start, chosen, bool(source.get("loop")), trace.problems)


def refuse_mixture(fleets: Sequence[Fleet]) -> None:
    """PolicyError where some fleets replay and others do not: one process has one time, and a replay's is not the wall's."""
    replaying = [fleet.name for fleet in fleets if is_replay(fleet)]
    live = [fleet.name for fleet in fleets if not is_replay(fleet)]
    if replaying and live:
        raise PolicyError(f"{', '.join(replaying)} replay a trace and {', '.join(live)} do not: run them in processes of their own")


def shared_time(replays: Sequence[Replay]) -> tuple[float, float]:
    """Return the start (unix seconds) and speed that all replays of a process have; PolicyError where they differ."""
    times = {(replay.start_unix, replay.speed) for replay in replays}
    if len(times) > 1:
        told = ", ".join(f"{replay.fleet} at {replay.speed:g}x" for replay in replays)
        raise PolicyError(f"replays of one process must start at the same trace time and share a speed, and these differ: {told}")
    return times.pop()
