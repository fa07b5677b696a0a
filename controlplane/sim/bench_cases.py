"""The cases that autoscalers are compared on: a trace, a lead time, tiers, the kind of queue, and perhaps a launch.

Owns how a trace becomes a fleet of comparable size and a workload; it must not run anything. `controlplane.sim.bench` runs cases.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np

from controlplane.contracts.events import Launch
from controlplane.contracts.fleet import Fleet, ForecastSettings, Offer, Slo, Spill, Tier, Unit
from controlplane.contracts.units import SECONDS_PER_HOUR, from_unix
from controlplane.sim.pools import Market
from controlplane.sim.workload import Workload, workload_of
from controlplane.sim.world import WorldSettings
from controlplane.traces.library import Trace, read_trace
from controlplane.traces.waves import Wave, mastodon_wave, multiply_wave

WEEK_TRACES = (
    "servegen_m-large_10min",
    "azure_llm_2024_code_week_10min",
    "nasa_http_1995_07_1min",
    "nyc_taxi_5months_30min",
    "aws_elb_requests_5min",
    "nab_twitter_mentions_5min#CRM",
)
LEADS_SECONDS = (480.0, 1800.0, 3600.0)
MEAN_REPLICAS = 20
FLOOR_QUANTILE = 0.2
BURST_USD_PER_HOUR = 60.0
FLOOR_USD_PER_HOUR = 20.0
SPILL_MULTIPLE = 3.0
TTFT_SECONDS = 5.0
HOLD_SECONDS = 600.0
START_FAILURE_SHARE = 0.02
ANNOUNCED_SECONDS = 86400.0
LAUNCH_AT_SHARE = 0.55


@dataclass(frozen=True, slots=True)
class Case:
    """One world to compare in. `attainment` is the policy's; `launch_multiple` 1 is no launch; `max_days` cuts a long trace."""

    trace: str
    lead_seconds: float = 480.0
    spill: bool = True
    shed: bool = False
    attainment: float = 0.995
    launch_multiple: float = 1.0
    announced: bool = False
    max_days: float = 14.0
    seed: int = 1

    @property
    def name(self) -> str:
        """A short name, such as `servegen_m-large_10min lead 8m 3-tier`."""
        tiers = "3-tier" if self.spill else f"2-tier {'shed' if self.shed else 'queue'} {100 * self.attainment:g} %"
        told = " announced" if self.announced else ""
        launch = f" launch ×{self.launch_multiple:g}{told}" if self.launch_multiple > 1 else ""
        return f"{self.trace} lead {self.lead_seconds / 60:g}m {tiers}{launch}"


@dataclass(frozen=True, slots=True)
class Built:
    """A case ready to run: `warm` burst replicas serve at the start."""

    case: Case
    fleet: Fleet
    workload: Workload
    settings: WorldSettings
    launches: tuple[Launch, ...]
    warm: int


def build(case: Case, folders: tuple[Path, ...]) -> Built:
    """Return the fleet, the workload and the world of a case; the same seed gives the same work for every scaler and every lead time."""
    trace = _cut(read_trace(case.trace, folders), case.max_days)
    fleet = fleet_for(trace, case)
    launches: tuple[Launch, ...] = ()
    if case.launch_multiple > 1:
        wave = mastodon_wave(case.launch_multiple, folders)
        starts = trace.start_unix + LAUNCH_AT_SHARE * trace.span_seconds
        trace = multiply_wave(trace, wave, starts)
        launches = (announcement(wave, fleet.name, starts),) if case.announced else ()
    workload = workload_of(trace, np.random.default_rng(case.seed))
    burst = fleet.tier(Tier.BURST)[0]
    floor = sum(offer.max_replicas for offer in fleet.tier(Tier.FLOOR))
    first = float(workload.offered_per_second[:4].mean()) / burst.capacity_per_second
    warm = max(0, math.ceil(first) - floor)
    initial = {offer.name: offer.max_replicas for offer in fleet.tier(Tier.FLOOR)} | {burst.name: warm}
    settings = WorldSettings(
        decision_seconds=60.0,
        shed=case.shed,
        markets={burst.name: Market(start_failure_share=START_FAILURE_SHARE)},
        initial=initial,
    )
    return Built(case, fleet, workload, settings, launches, warm)


def fleet_for(trace: Trace, case: Case) -> Fleet:
    """Return a fleet whose mean demand is twenty replicas, with a floor that is busy four fifths of the time."""
    mean = float(np.nanmean(trace.demand_per_second))
    capacity = mean / MEAN_REPLICAS
    floor = max(1, math.floor(float(np.nanquantile(trace.demand_per_second, FLOOR_QUANTILE)) / capacity))
    spill = Spill("hosted", SPILL_MULTIPLE * BURST_USD_PER_HOUR / SECONDS_PER_HOUR / capacity) if case.spill else None
    most = math.ceil(40 * MEAN_REPLICAS * max(1.0, case.launch_multiple / 5))
    return Fleet(
        name="bench",
        slo=Slo(case.attainment, ttft_seconds=TTFT_SECONDS),
        unit=Unit.REQUESTS,
        offers=(
            Offer("reserved", Tier.FLOOR, capacity, 0, floor, FLOOR_USD_PER_HOUR, 180.0),
            Offer("burst", Tier.BURST, capacity, 0, most, BURST_USD_PER_HOUR, case.lead_seconds, HOLD_SECONDS),
        ),
        spill=spill,
        forecast=ForecastSettings(),
        tick_seconds=60.0,
    )


def announcement(wave: Wave, fleet: str, starts_unix: float) -> Launch:
    """Return what a launch's owner would tell a day ahead: the start, the peak, the time to it, and how the excess halves after it."""
    peak = int(np.argmax(wave.multiple))
    after = slice(peak, None)
    excess, since = wave.multiple[after] - 1.0, wave.offset_seconds[after] - wave.offset_seconds[peak]
    usable = excess > 0.02 * excess[0]
    slope = float((since[usable] * np.log(excess[usable] / excess[0])).sum() / max(1.0, float((since[usable] ** 2).sum())))
    return Launch(
        time=from_unix(starts_unix) - timedelta(seconds=ANNOUNCED_SECONDS),
        fleet=fleet,
        name="launch",
        starts=from_unix(starts_unix),
        peak_multiple=wave.peak_multiple,
        ramp_seconds=float(wave.offset_seconds[peak]),
        half_life_seconds=max(3600.0, math.log(2.0) / -slope) if slope < 0 else None,
    )


def matrix(
    traces: Sequence[str] = WEEK_TRACES,
    leads_seconds: Sequence[float] = LEADS_SECONDS,
    attainments: Sequence[float] = (0.99, 0.995, 0.999),
    launches: Sequence[float] = (20.0, 50.0),
    max_days: float = 14.0,
) -> tuple[Case, ...]:
    """Return the full matrix: three tiers, two tiers in both queue worlds at each attainment, and launches on the first trace."""
    plain = [Case(trace, lead, max_days=max_days) for trace in traces for lead in leads_seconds]
    two = [
        replace(case, spill=False, shed=shed, attainment=attainment)
        for case in plain
        for shed in (False, True)
        for attainment in attainments
    ]
    waves = [
        Case(trace, lead, launch_multiple=multiple, announced=announced, max_days=max_days)
        for trace in traces[:1]
        for lead in leads_seconds
        for multiple in launches
        for announced in (False, True)
    ]
    return (*plain, *two, *waves)


def _cut(trace: Trace, max_days: float) -> Trace:
    rows = min(len(trace.time_unix), round(max_days * 86400.0 / trace.step_seconds))
    return replace(trace, time_unix=trace.time_unix[:rows], demand_per_second=trace.demand_per_second[:rows])
