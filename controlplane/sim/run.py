"""Run one scaler over one workload: the loop, and what came of it as plain numbers.

Owns the result and its totals; it must not know which scaler it runs. `controlplane.sim.world` is the world,
`controlplane.sim.report` shows results, `controlplane.sim.bench` compares many.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from controlplane.contracts.events import Launch
from controlplane.contracts.fleet import Fleet, Tier
from controlplane.contracts.frame import DecisionLine, Frame
from controlplane.sim.scaler import Scaler
from controlplane.sim.workload import Workload
from controlplane.sim.world import World, WorldSettings
from controlplane.traces.library import Array

TIERS = (Tier.FLOOR, Tier.BURST, Tier.SPILL)
DEFAULT_WORLD = WorldSettings()
OnStep = Callable[[Frame, DecisionLine, World], None]


@dataclass(frozen=True, slots=True)
class Steps:
    """One row per decision interval, f64[intervals] at its end. Capacity and spill by tier are work per second, cost is cumulative USD."""

    time_unix: Array
    demand_per_second: Array
    backlog: Array
    on_time: Array
    late: Array
    spilled_per_second: Array
    floor_per_second: Array
    burst_per_second: Array
    cost_usd: Array


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a scaler cost and achieved. Work is in the fleet's unit; spilled work counts as served within the SLO."""

    name: str
    fleet: str
    workload: str
    synthetic: bool
    seconds: float
    offered: float
    on_time: float
    late: float
    spilled: float
    cost_usd_by_tier: dict[str, float]
    replica_hours_by_offer: dict[str, float]
    gpu_hours: float
    scale_events: int
    decisions: int
    steps: Steps
    lines: tuple[DecisionLine, ...] = ()

    @property
    def cost_usd(self) -> float:
        """All tiers together."""
        return sum(self.cost_usd_by_tier.values())

    @property
    def attainment(self) -> float:
        """Share of offered work served within the SLO, spilled work included; 1 where nothing was offered."""
        return min((self.on_time + self.spilled) / self.offered, 1.0) if self.offered > 0 else 1.0

    @property
    def scale_events_per_day(self) -> float:
        """Changes of an offer's target per day, each tick and offer once."""
        return self.scale_events * 86400.0 / self.seconds if self.seconds else 0.0

    def summary(self) -> dict[str, object]:
        """Return the totals as plain data, for `--json`."""
        steps = {"steps": None, "lines": None}
        plain = {name: value for name, value in asdict(self).items() if name not in steps}
        plain |= {"cost_usd": self.cost_usd, "attainment": self.attainment, "scale_events_per_day": self.scale_events_per_day}
        return plain | {"spilled_share": self.spilled / self.offered if self.offered else 0.0}


def run(
    name: str,
    scaler: Scaler,
    fleet: Fleet,
    workload: Workload,
    settings: WorldSettings = DEFAULT_WORLD,
    *,
    seed: int = 0,
    launches: Sequence[Launch] = (),
    keep_lines: bool = False,
    on_step: OnStep | None = None,
) -> RunResult:
    """Run a scaler over a workload; the same seed gives the same result. A launch is announced at its own `time`."""
    world = World(fleet, workload, settings, np.random.default_rng(seed))
    waiting = sorted(launches, key=lambda launch: launch.time)
    rows: list[tuple[float, ...]] = []
    lines: list[DecisionLine] = []
    before: Mapping[str, int] = {pool.offer.name: pool.held for pool in world.pools}
    events = decisions = 0
    while not world.over:
        while waiting and waiting[0].time.timestamp() <= world.now_unix:
            scaler.announce(waiting.pop(0))
        world.advance()
        rows.append(_row(world))
        frame = world.frame()
        line = scaler.decide(frame)
        decisions += 1
        events += sum(before.get(offer, count) != count for offer, count in line.targets.items())
        before = {**before, **line.targets}
        world.apply(line)
        if keep_lines:
            lines.append(line)
        if on_step is not None:
            on_step(frame, line, world)
    return _result(name, world, rows, events, decisions, tuple(lines))


def _row(world: World) -> tuple[float, ...]:
    last = world.last
    rate = 1.0 / last.seconds
    floor, burst = world.capacity_per_second(Tier.FLOOR), world.capacity_per_second(Tier.BURST)
    cost = sum(world.paid_usd(tier) for tier in TIERS)
    return (world.now_unix, last.offered * rate, last.backlog, last.on_time, last.late, last.spilled * rate, floor, burst, cost)


def _result(
    name: str, world: World, rows: list[tuple[float, ...]], events: int, decisions: int, lines: tuple[DecisionLine, ...]
) -> RunResult:
    table = np.array(rows, dtype=np.float64).reshape(len(rows), 9).T
    steps = Steps(*table)
    seconds = world.workload.span_seconds
    interval = np.diff(steps.time_unix, prepend=world.workload.start_unix)
    return RunResult(
        name=name,
        fleet=world.fleet.name,
        workload=world.workload.name,
        synthetic=world.workload.synthetic,
        seconds=seconds,
        offered=float((steps.demand_per_second * interval).sum()),
        on_time=float(steps.on_time.sum()),
        late=float(steps.late.sum()),
        spilled=float((steps.spilled_per_second * interval).sum()),
        cost_usd_by_tier={tier.value: world.paid_usd(tier) for tier in TIERS},
        replica_hours_by_offer={pool.offer.name: pool.held_replica_hours for pool in world.pools},
        gpu_hours=sum(pool.held_replica_hours * pool.offer.accelerators_per_replica for pool in world.pools),
        scale_events=events,
        decisions=decisions,
        steps=steps,
        lines=lines,
    )
