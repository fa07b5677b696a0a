"""What the demo plays: the policy of the library, a week of a real trace with a launch wave, the cloud it buys from, the comparisons.

Owns these choices and their adaption to what is on this machine; deterministic, so that a resumed demo and the process that computes
the comparisons build the same again. It must not start anything; `controlplane.demo` plays a scenario.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from controlplane.config import load_fleets
from controlplane.contracts.errors import TraceError
from controlplane.contracts.fleet import Fleet, Tier
from controlplane.replay import Replay, replay_of
from controlplane.sim.baselines_hpa import Comparison, comparisons
from controlplane.sim.cloud_config import CloudConfig, cloud_config_of
from controlplane.sim.pools import Market
from controlplane.sim.workload import Workload
from controlplane.sim.world import WorldSettings
from controlplane.traces.library import Trace, read_trace
from controlplane.traces.waves import mastodon_wave, multiply_wave, synthetic_trace

POLICY = Path(__file__).resolve().parents[2] / "policies" / "library" / "replay-demo.yaml"
OTHER_TRACES = ("servegen_m-large_10min",)
DAY_SECONDS = 86400.0
WEEK_SECONDS = 7 * DAY_SECONDS
MEAN_PER_SECOND = 28.0
WAVE_PEAK_MULTIPLE = 8.0
LAUNCH_AFTER_SECONDS = 5.5 * DAY_SECONDS
SYNTHETIC_SEED = 7
CLOUD_SEED = 11
# The clock starts so much wall time before the week: at a thousandfold speed the services' own start would cost hours of it.
WARM_UP_SECONDS = 1.0
# The cheapest supplier has less than the policy would take, and some of its machines never come up.
CLOUD_STOCK = {"cloud-a": 28}
START_FAILURE_SHARE = {"cloud-a": 0.03}
LEAD_TIME_SIGMA = 0.15


@dataclass(frozen=True, slots=True)
class Scenario:
    """A demo to be played. `compared` are fleets with the same limits that the suppliers set to tidegate."""

    fleet: Fleet
    replay: Replay
    cloud: CloudConfig
    title: str
    synthetic: bool
    compared: tuple[Comparison, ...]
    world: WorldSettings

    @property
    def workload(self) -> Workload:
        """What is offered."""
        return self.replay.workload

    @property
    def start_unix(self) -> float:
        """When the week starts."""
        return self.workload.start_unix

    @property
    def end_unix(self) -> float:
        """When the week ends."""
        return self.workload.start_unix + self.workload.span_seconds


def scenario_of(folders: tuple[Path, ...], seconds: float) -> Scenario:
    """Return the demo that this machine's data allows, the week played in `seconds` of wall time."""
    (fleet,) = load_fleets([POLICY])
    trace, title = week_of(folders, str(fleet.demand_source["trace"]), fleet.demand_source.get("column"))
    launch = trace.start_unix + LAUNCH_AFTER_SECONDS
    wave = mastodon_wave(WAVE_PEAK_MULTIPLE, folders)
    trace = multiply_wave(trace, wave, launch)
    fleet = replace(fleet, launches=tuple(replace(plan, starts_unix=launch) for plan in fleet.launches))
    replay = replay_of(fleet, folders, trace, WEEK_SECONDS / seconds)
    replay = replace(replay, start_unix=replay.start_unix - WARM_UP_SECONDS * replay.speed)
    shape = "synthetic launch wave" if wave.synthetic else "sign-up wave"
    return Scenario(
        fleet=fleet,
        replay=replay,
        cloud=_cloud_of(fleet),
        title=f"{title}, {shape} ×{WAVE_PEAK_MULTIPLE:g}",
        synthetic=trace.synthetic,
        compared=_compared(fleet, replay.workload),
        world=_world(fleet),
    )


def week_of(folders: tuple[Path, ...], preferred: str, column: object) -> tuple[Trace, str]:
    """Return a week of the best trace at hand and what to call it; a synthetic one where there is none, and then it says so."""
    for name in (preferred, *OTHER_TRACES):
        try:
            trace = read_trace(name, folders, column=str(column) if column else None)
        except TraceError:
            continue
        if trace.span_seconds >= WEEK_SECONDS:
            return _first_week(trace, keep_scale=name == preferred), f"real {name.removesuffix('_10min')}"
    return synthetic_trace(SYNTHETIC_SEED, mean_per_second=MEAN_PER_SECOND), "synthetic demand (no trace data is at hand)"


def _first_week(trace: Trace, *, keep_scale: bool) -> Trace:
    """Cut a trace to its first week; one that the policy's sizes were not made for is scaled to the mean that they were made for."""
    rows = round(WEEK_SECONDS / trace.step_seconds)
    demand = trace.demand_per_second[:rows]
    scale = 1.0 if keep_scale else MEAN_PER_SECOND / float(np.nanmean(demand))
    return replace(trace, time_unix=trace.time_unix[:rows], demand_per_second=demand * scale)


def _cloud_of(fleet: Fleet) -> CloudConfig:
    overrides = {
        offer.name: {
            "lead_time_sigma": LEAD_TIME_SIGMA,
            "stock_replicas": CLOUD_STOCK.get(offer.name),
            "start_failure_share": START_FAILURE_SHARE.get(offer.name, 0.0),
        }
        for offer in fleet.tier(Tier.BURST)
    }
    return cloud_config_of(fleet, **overrides)


def _compared(fleet: Fleet, workload: Workload) -> tuple[Comparison, ...]:
    """Return the HPA over floor and burst, the same behind a naive spill router, and the same HPA renting everything."""
    limited = tuple(replace(offer, max_replicas=min(offer.max_replicas, CLOUD_STOCK.get(offer.name, 1 << 30))) for offer in fleet.offers)
    return tuple(made for made in comparisons(replace(fleet, offers=limited), workload) if "static" not in made.name)


def _world(fleet: Fleet) -> WorldSettings:
    """Return the world of the comparisons: the same lead times and failures as in the simulated cloud, the same decision interval."""
    markets = {
        offer.name: Market(lead_time_sigma=LEAD_TIME_SIGMA, start_failure_share=START_FAILURE_SHARE.get(offer.name, 0.0))
        for offer in fleet.tier(Tier.BURST)
    }
    return WorldSettings(markets=markets)
