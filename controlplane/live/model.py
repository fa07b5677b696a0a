"""What a watcher of one fleet knows: events off NATS folded into the numbers that a view shows. Pure; time is the events'.

Owns the fold and its own estimate of the cost; it must not draw, nor know where events come from. Replayed from the start of the
streams it gives the same numbers. `controlplane.live` draws it, `controlplane.demo.result` sums it up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from controlplane.contracts.events import Actuation, Decision, Event, Forecast, Observation, Outcome, PoolStatus, Quote, Reason
from controlplane.contracts.fleet import Fleet, Tier
from controlplane.contracts.frame import DecisionLine
from controlplane.contracts.units import SECONDS_PER_HOUR
from controlplane.sim.run import RunResult

BAND_LOW, BAND_MIDDLE, BAND_HIGH = 0.1, 0.5, 0.9
AHEAD_SECONDS = 6 * 3600.0
# These two go with nearly every decision and say nothing of what changed.
ALWAYS = frozenset({Reason.FLOOR_IS_SUNK, Reason.SPILL_OPEN})
WHY_GROWN = frozenset({Reason.LAYER_PAYS, Reason.BACKLOG, Reason.LAYER_HELD})
WHY_SHRUNK = frozenset({Reason.LAYER_RELEASED})


class Row(NamedTuple):
    """One interval, at its end: rates in work per second, capacity that was ready, and USD since the start by tier."""

    time_unix: float
    seconds: float
    demand: float
    backlog: float
    on_time: float
    late: float
    spilled: float
    floor_capacity: float
    burst_capacity: float
    floor_usd: float
    burst_usd: float
    spill_usd: float

    @property
    def usd(self) -> float:
        """All tiers together."""
        return self.floor_usd + self.burst_usd + self.spill_usd


class Band(NamedTuple):
    """What was forecast for a moment: two quantiles and the median, work per second."""

    time_unix: float
    low: float
    middle: float
    high: float


class Change(NamedTuple):
    """A decision that changed a target: (offer, before, after) each, why, and what asked for it."""

    time_unix: float
    moves: tuple[tuple[str, int, int], ...]
    reasons: tuple[str, ...]
    cause: str


class Remark(NamedTuple):
    """Something worth a line that is no decision: a refusal, a failure."""

    time_unix: float
    text: str


@dataclass(slots=True)
class Totals:
    """Work of all intervals so far, in units of work, and counts."""

    offered: float = 0.0
    on_time: float = 0.0
    late: float = 0.0
    spilled: float = 0.0
    observations: int = 0
    forecasts: int = 0
    decisions: int = 0
    scale_events: int = 0
    refusals: int = 0

    @property
    def attainment(self) -> float:
        """Share of the work served within the SLO, spilled work included; 1 before any."""
        return (self.on_time + self.spilled) / self.offered if self.offered > 0.0 else 1.0

    @property
    def spilled_share(self) -> float:
        """Share of the work that was spilled."""
        return self.spilled / self.offered if self.offered > 0.0 else 0.0


@dataclass(slots=True)
class ViewModel:
    """One fleet as heard so far. `hear` folds an event; everything else is read."""

    fleet: Fleet
    start_unix: float
    now_unix: float = 0.0
    rows: list[Row] = field(default_factory=list)
    bands: list[Band] = field(default_factory=list)
    ahead: tuple[Band, ...] = ()
    changes: list[Change] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    lines: list[DecisionLine] = field(default_factory=list)
    pools: dict[str, PoolStatus] = field(default_factory=dict)
    prices: dict[str, float] = field(default_factory=dict)
    targets: dict[str, int] = field(default_factory=dict)
    decision: Decision | None = None
    totals: Totals = field(default_factory=Totals)
    floor_usd: float = 0.0
    burst_usd: float = 0.0
    spill_usd: float = 0.0
    lead_seconds: float = 0.0

    def __post_init__(self) -> None:
        """Start at the start, at the policy's prices."""
        self.now_unix = self.start_unix
        for offer in self.fleet.offers:
            usd = offer.usd_per_replica_hour
            self.prices[offer.name] = (offer.ceiling_usd_per_replica_hour or 0.0) if usd is None else usd
        burst = self.fleet.tier(Tier.BURST)
        self.lead_seconds = min((offer.lead_time_seconds for offer in burst), default=600.0)

    @property
    def usd(self) -> float:
        """Everything paid so far, by this model's own estimate."""
        return self.floor_usd + self.burst_usd + self.spill_usd

    def held(self) -> Mapping[str, int]:
        """Return ready and pending replicas by offer, as last reported."""
        return {name: status.ready + status.pending for name, status in self.pools.items()}

    def hear(self, event: Event) -> None:
        """Fold one event of this fleet; events of others change nothing."""
        if getattr(event, "fleet", self.fleet.name) != self.fleet.name:
            return
        match event:
            case PoolStatus():
                self._pay_until(event.time.timestamp())
                self.pools[event.offer] = event
            case Quote():
                if event.usd_per_replica_hour is not None and event.offer in self.prices:
                    self._pay_until(event.time.timestamp())
                    self.prices[event.offer] = event.usd_per_replica_hour
            case Observation():
                self._observe(event)
            case Forecast():
                self._forecast(event)
            case Decision():
                self._decide(event)
            case Actuation() if event.outcome is Outcome.FAILED:
                self.totals.refusals += 1
                self.remarks.append(Remark(event.time.timestamp(), f"{event.offer}: {event.error}"))

    def _pay_until(self, now_unix: float) -> None:
        """Pay what is held up to a moment: the floor whole, the rest by replica; a past moment changes nothing."""
        hours = (now_unix - self.now_unix) / SECONDS_PER_HOUR
        if hours <= 0.0:
            return
        self.now_unix = now_unix
        for offer in self.fleet.offers:
            if offer.tier is Tier.FLOOR:
                self.floor_usd += hours * self.prices[offer.name] * offer.max_replicas
            elif (status := self.pools.get(offer.name)) is not None:
                self.burst_usd += hours * self.prices[offer.name] * (status.ready + status.pending)

    def _observe(self, seen: Observation) -> None:
        now = seen.time.timestamp()
        if self.rows and now <= self.rows[-1].time_unix:
            return
        self._pay_until(now)
        self.totals.observations += 1
        if seen.demand_per_second is None:
            return
        seconds = seen.interval_seconds or (now - self.rows[-1].time_unix if self.rows else 0.0)
        demand, spilled, late = seen.demand_per_second, seen.spilled_per_second or 0.0, seen.late_per_second or 0.0
        on_time = seen.served_per_second if seen.served_per_second is not None else max(demand - spilled - late, 0.0)
        if self.fleet.spill is not None:
            self.spill_usd += spilled * seconds * self.fleet.spill.usd_per_unit
        totals = self.totals
        totals.offered += demand * seconds
        totals.on_time += on_time * seconds
        totals.late += late * seconds
        totals.spilled += spilled * seconds
        floor, burst = self.capacity(Tier.FLOOR), self.capacity(Tier.BURST)
        work = Row(
            now, seconds, demand, seen.backlog or 0.0, on_time, late, spilled, floor, burst, self.floor_usd, self.burst_usd, self.spill_usd
        )
        self.rows.append(work)

    def capacity(self, tier: Tier) -> float:
        """Return what the ready replicas of a tier carry, work per second."""
        ready = {name: status.ready for name, status in self.pools.items()}
        return sum(offer.capacity_per_second * ready.get(offer.name, 0) for offer in self.fleet.tier(tier))

    def _forecast(self, made: Forecast) -> None:
        self.totals.forecasts += 1
        observed = made.observed.timestamp()
        columns = [_nearest(made.quantiles, quantile) for quantile in (BAND_LOW, BAND_MIDDLE, BAND_HIGH)]
        bands = [
            Band(observed + horizon, *(values[column] for column in columns))
            for horizon, values in zip(made.horizons_seconds, made.demand_per_second, strict=True)
        ]
        self.bands.append(bands[_nearest(made.horizons_seconds, self.lead_seconds)])
        self.ahead = tuple(band for band in bands if band.time_unix <= observed + AHEAD_SECONDS)

    def _decide(self, decision: Decision) -> None:
        self.totals.decisions += 1
        self.decision = decision
        moves = tuple(
            (offer, self.targets.get(offer, 0), target)
            for offer, target in decision.targets.items()
            if self.targets.get(offer, 0) != target
        )
        self.totals.scale_events += len(moves)
        self.targets = {**self.targets, **decision.targets}
        reasons = tuple(reason.value for reason in decision.reasons)
        self.lines.append(
            DecisionLine.model_construct(
                fleet=decision.fleet,
                time=decision.time,
                targets=dict(decision.targets),
                spill_per_second=decision.spill_per_second,
                reasons=reasons,
            )
        )
        if moves:
            told = tuple(reason.value for reason in decision.reasons if reason not in ALWAYS | _of_the_other_direction(moves)) or reasons
            self.changes.append(Change(decision.time.timestamp(), moves, told, decision.cause))


def _of_the_other_direction(moves: tuple[tuple[str, int, int], ...]) -> frozenset[Reason]:
    """Return the reasons that would contradict what is shown: why something grew where all shrank, and the other way round."""
    grew, shrank = any(after > before for _, before, after in moves), any(after < before for _, before, after in moves)
    return (frozenset() if grew else WHY_GROWN) | (frozenset() if shrank else WHY_SHRUNK)


def _nearest(values: tuple[float, ...], wanted: float) -> int:
    """Return the place of the value nearest to `wanted`."""
    return min(range(len(values)), key=lambda place: abs(values[place] - wanted))


def costs_at(compared: Sequence[RunResult], time_unix: float) -> list[tuple[RunResult, float]]:
    """Return what each comparison had paid at a moment, USD."""
    costs = []
    for result in compared:
        place = int(result.steps.time_unix.searchsorted(time_unix + 1e-6, side="right")) - 1
        costs.append((result, float(result.steps.cost_usd[place]) if place >= 0 else 0.0))
    return costs
