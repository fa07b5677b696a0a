"""Compare autoscalers at equal attainment: each peer at its best knob in hindsight, against the clairvoyant's cost.

Owns the sweep, the interpolation to a stated attainment and the table; it must not tune the scaler under test, which runs once, untouched.
`controlplane.sim.bench_cases` builds the worlds, `controlplane.sim.clairvoyant` the bound.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from rich.table import Table

from controlplane.sim.baselines_peers import PEERS, Peer
from controlplane.sim.bench_cases import Built, Case, build
from controlplane.sim.clairvoyant import Clairvoyant, PlannedScaler, clairvoyant
from controlplane.sim.pools import Market
from controlplane.sim.report import percent
from controlplane.sim.run import RunResult, run
from controlplane.sim.scaler import ScalerFactory

SPILL_KNOBS = (1.4, 1.15, 0.95, 0.75, 0.55)
SLO_KNOBS = (1.1, 0.9, 0.72, 0.56, 0.42, 0.3, 0.2, 0.12)
GOALS = (0.99, 0.995, 0.999)
REFINEMENTS = 2
NOTHING_MISSED = 0.9999
HPA_NAME = "HPA"


@dataclass(frozen=True, slots=True)
class Point:
    """One run: its cost, what it achieved, and how often it changed a target. `knob` is None for the scaler under test."""

    name: str
    knob: float | None
    cost_usd: float
    attainment: float
    spilled_share: float
    scale_events_per_day: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """One case: the scaler under test, each peer's cheapest point that keeps the attainment (None: no knob does), and the clairvoyant.

    `reference_usd` is what ratios are over: the best plan's cost, or what carrying it out in that very world came to, whichever is less.
    """

    case: Case
    own: Point
    peers: tuple[Point | None, ...]
    bound: Clairvoyant
    reference_usd: float

    @property
    def best_peer(self) -> Point | None:
        """The cheapest peer in hindsight."""
        return min((point for point in self.peers if point is not None), key=lambda point: point.cost_usd, default=None)

    def ratio(self, point: Point) -> float:
        """Return a point's cost over the clairvoyant's."""
        return point.cost_usd / self.reference_usd

    def controllable(self, point: Point) -> float:
        """Return the same above the floor, which is paid either way."""
        return (point.cost_usd - self.bound.floor_usd) / max(1e-9, self.reference_usd - self.bound.floor_usd)

    @property
    def hpa(self) -> Point | None:
        """The Horizontal Pod Autoscaler at the same attainment: what changes per day are compared with."""
        return next((point for point in self.peers if point is not None and point.name == HPA_NAME), None)

    def row(self) -> dict[str, object]:
        """Return the outcome as plain data."""
        best = self.best_peer
        return {
            "case": self.case.name,
            "own_cost_usd": self.own.cost_usd,
            "own_attainment": self.own.attainment,
            "own_spilled_share": self.own.spilled_share,
            "own_ratio": self.ratio(self.own),
            "own_controllable": self.controllable(self.own),
            "own_scale_events_per_day": self.own.scale_events_per_day,
            "hpa_scale_events_per_day": self.hpa.scale_events_per_day if self.hpa else None,
            "peers": {p.name: [p.knob, self.ratio(p), self.controllable(p), p.attainment, p.scale_events_per_day] for p in self.peers if p},
            "best_peer": best.name if best else None,
            "best_peer_ratio": self.ratio(best) if best else None,
            "reference_usd": self.reference_usd,
            "bound_usd": self.bound.bound_usd,
            "plan_usd": self.bound.plan_usd,
            "floor_usd": self.bound.floor_usd,
        }


def bench(
    factory: ScalerFactory, cases: Iterable[Case], folders: tuple[Path, ...], *, peers: Sequence[Peer] = PEERS,
    on_outcome: Callable[[Outcome], None] | None = None,
) -> tuple[Outcome, ...]:  # fmt: skip
    """Run the scaler under test and every peer's sweep on each case. Two-tier cases that differ only in attainment share their sweeps."""
    swept: dict[Case, tuple[tuple[Point, ...], ...]] = {}
    outcomes = []
    for case in cases:
        built = build(case, folders)
        alike = replace(case, attainment=0.0, announced=False)
        if alike not in swept:
            swept[alike] = tuple(sweep(peer, built) for peer in peers)
        best = tuple(cheapest_at(points, case.attainment) for points in swept[alike])
        bound = clairvoyant(built.fleet, built.workload, warm=built.warm)
        outcome = Outcome(case, own_point(factory, built), best, bound, reference(built, bound))
        outcomes.append(outcome)
        if on_outcome is not None:
            on_outcome(outcome)
    return tuple(outcomes)


def reference(built: Built, known: Clairvoyant) -> float:
    """Return the clairvoyant's cost in a world: its plan's, or less where the world's queue lets the plan spill less than it foresaw.

    Lead times are exact and no start fails: knowing the future includes knowing those.
    """
    if built.fleet.spill is None:
        return known.plan_usd
    certain = {name: Market(lead_time_sigma=0.0) for name in built.settings.markets}
    scaler = PlannedScaler(built.fleet, built.workload, known.plan)
    done = run("clairvoyant", scaler, built.fleet, built.workload, replace(built.settings, markets=certain), seed=built.case.seed)
    return min(known.plan_usd, done.cost_usd)


def own_point(factory: ScalerFactory, built: Built, name: str = "tidegate") -> Point:
    """Run the scaler under test once."""
    scaler = factory(built.fleet)
    return _point(run(name, scaler, built.fleet, built.workload, built.settings, seed=built.case.seed, launches=built.launches), None)


def sweep(peer: Peer, built: Built, goals: Sequence[float] = GOALS) -> tuple[Point, ...]:
    """Run a peer at a few settings of its knob, then at finer ones around the cheapest (three tiers) or around each goal (two tiers)."""
    tried: dict[float, Point] = {}

    def attempt(knob: float) -> Point:
        scaler = peer.make(built.fleet, knob)
        tried[knob] = _point(run(peer.name, scaler, built.fleet, built.workload, built.settings, seed=built.case.seed), knob)
        return tried[knob]

    for knob in SLO_KNOBS if built.fleet.spill is None else SPILL_KNOBS:
        if attempt(knob).attainment >= NOTHING_MISSED and built.fleet.spill is None:
            break
    for _ in range(REFINEMENTS):
        points = _by_knob(tried)
        for knob in _between(points, goals) if built.fleet.spill is None else _around_cheapest(points):
            attempt(knob)
    return _by_knob(tried)


def _by_knob(tried: dict[float, Point]) -> tuple[Point, ...]:
    """Return points from lean to ample."""
    return tuple(tried[knob] for knob in sorted(tried, reverse=True))


def _around_cheapest(points: Sequence[Point]) -> list[float]:
    at = min(range(len(points)), key=lambda index: points[index].cost_usd)
    near = [points[index].knob for index in (at - 1, at + 1) if 0 <= index < len(points)]
    return [((points[at].knob or 0.0) + (knob or 0.0)) / 2 for knob in near]


def _between(points: Sequence[Point], goals: Sequence[float]) -> list[float]:
    """Return a knob for each goal that lies between two points, where a straight line in the log of what is missed puts it."""
    knobs = set()
    for lean, ample in pairwise(points):
        for goal in goals:
            if lean.attainment < goal <= ample.attainment:
                share = min(0.9, max(0.1, _place(lean, ample, goal)))
                knobs.add((lean.knob or 0.0) + share * ((ample.knob or 0.0) - (lean.knob or 0.0)))
    return sorted(knobs)


def _place(lean: Point, ample: Point, goal: float) -> float:
    """Return where between two points a goal lies, 0 to 1, by the log of what is missed."""
    low, high, wanted = (float(np.log(max(1e-7, 1.0 - share))) for share in (lean.attainment, ample.attainment, goal))
    return (wanted - low) / (high - low)


def cheapest_at(points: Sequence[Point], attainment: float) -> Point | None:
    """Return the cheapest point that keeps the attainment, between two knobs by interpolation (cost against the log of what is missed)."""
    keeping = [point for point in points if point.attainment >= attainment]
    if not keeping:
        return None
    best = min(keeping, key=lambda point: point.cost_usd)
    for lean, ample in pairwise(points):
        if lean.attainment < attainment < ample.attainment and lean.cost_usd < ample.cost_usd:
            share = _place(lean, ample, attainment)
            cost = lean.cost_usd + share * (ample.cost_usd - lean.cost_usd)
            if cost < best.cost_usd:
                knob = (lean.knob or 0.0) + share * ((ample.knob or 0.0) - (lean.knob or 0.0))
                best = replace(ample, cost_usd=cost, knob=knob, attainment=attainment)
    return best


def outcomes_table(outcomes: Sequence[Outcome]) -> Table:
    """Return the comparison for a terminal: cost over the clairvoyant's, the part above the floor in brackets."""
    names = [point.name for point in next((o.peers for o in outcomes if all(o.peers)), ()) if point]
    table = Table(
        header_style="bold", caption="cost ÷ clairvoyant; in brackets without the floor's sunk cost; peers at their best knob in hindsight"
    )
    for column in ("case", "tidegate", "within SLO", "changes/day", "HPA's", "best peer", *names):
        table.add_column(column, justify="left" if column in ("case", "best peer") else "right")
    for outcome in outcomes:
        own, best = outcome.own, outcome.best_peer
        by_name = {point.name: point for point in outcome.peers if point}
        cells = [f"{outcome.ratio(own):.3f} ({outcome.controllable(own):.3f})", percent(own.attainment), f"{own.scale_events_per_day:.0f}"]
        cells.append(f"{outcome.hpa.scale_events_per_day:.0f}" if outcome.hpa else "–")
        cells.append(f"{outcome.ratio(best):.3f} {best.name}" if best else "none")
        cells += [f"{outcome.ratio(by_name[name]):.3f}" if name in by_name else "–" for name in names]
        table.add_row(outcome.case.name, *cells)
    return table


def _point(result: RunResult, knob: float | None) -> Point:
    spilled = result.spilled / result.offered if result.offered else 0.0
    return Point(result.name, knob, result.cost_usd, result.attainment, spilled, result.scale_events_per_day)
