"""From requests to the fleet's unit of work, and from a reading to the Observation that everybody else sees.

Owns the conversions (requests, output tokens, weighted tokens) and what demand is made of: arrivals at the engines, plus what the gateway
spilled or shed. It must not read anything; `prometheus` and `scrape` bring readings.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from controlplane.collectors.api import Reading
from controlplane.collectors.gateway import Diverted
from controlplane.contracts.events import Flag, Observation
from controlplane.contracts.fleet import Fleet, Unit
from controlplane.contracts.units import from_unix

LENGTHS_HALF_LIFE_SECONDS = 300.0
REQUESTS_FOR_LENGTHS = 20.0
IMPLAUSIBLE_MULTIPLE = 1000.0
IMPLAUSIBLE_FROM_READINGS = 5


@dataclass(frozen=True, slots=True)
class Gpus:
    """How busy and how full the fleet's GPUs are, 0 to 1; None: not known."""

    used_share: float | None = None
    memory_used_share: float | None = None


class Lengths:
    """The mean request of late, in tokens: what finished requests had, fading with a half-life; the policy's until 20 were seen."""

    def __init__(self, input_tokens: float, output_tokens: float) -> None:
        self._stated = (input_tokens, output_tokens)
        self._sums = (0.0, 0.0, 0.0)
        self._time_unix: float | None = None

    def learn(self, reading: Reading) -> None:
        """Take in one reading."""
        elapsed = reading.time_unix - self._time_unix if self._time_unix is not None else 0.0
        kept = 0.5 ** (max(elapsed, 0.0) / LENGTHS_HALF_LIFE_SECONDS)
        added = (reading.input_tokens, reading.output_tokens, reading.finished)
        old_input, old_output, old_count = (kept * known for known in self._sums)
        self._sums = (old_input + added[0], old_output + added[1], old_count + added[2])
        self._time_unix = reading.time_unix

    @property
    def measured(self) -> tuple[float, float] | None:
        """Return input and output tokens per request, None while too few were seen."""
        inputs, outputs, count = self._sums
        return (inputs / count, outputs / count) if count >= REQUESTS_FOR_LENGTHS and outputs > 0.0 else None

    @property
    def mean(self) -> tuple[float, float]:
        """Return input and output tokens per request: as measured, else as the policy states them."""
        return self.measured or self._stated


class Composer:
    """Makes one fleet's Observations. `overrides` are the results of the policy's own queries, already in the fleet's unit."""

    def __init__(self, fleet: Fleet, source: str, *, has_gateway: bool = False) -> None:
        options = fleet.demand_source
        self._fleet, self._source, self._has_gateway = fleet, source, has_gateway
        self._weight = float(str(options.get("input_token_weight") or 0.0))
        self.lengths = Lengths(float(str(options.get("input_tokens") or 1024.0)), float(str(options.get("output_tokens") or 1024.0)))
        self._usual = 0.0
        self._readings = 0
        self._known_unix: float | None = None

    @property
    def work_per_request(self) -> float:
        """Return units of work in the mean request of late."""
        inputs, outputs = self.lengths.mean
        if self._fleet.unit is Unit.REQUESTS:
            return 1.0
        return outputs if self._fleet.unit is Unit.OUTPUT_TOKENS else outputs + self._weight * inputs

    def compose(
        self,
        reading: Reading,
        diverted: Diverted | None = None,
        gpus: Gpus | None = None,
        overrides: Mapping[str, float | None] | None = None,
        clock_offset_seconds: float | None = None,
    ) -> Observation:
        """Return the observation of one interval."""
        self.lengths.learn(reading)
        own = overrides or {}
        measured, work, gpus = self.lengths.measured, self.work_per_request, gpus or Gpus()
        diverted = diverted or Diverted()
        flags = set(reading.flags)
        spilled = own["spilled"] if "spilled" in own else _times(diverted.spilled_per_second, work)
        shed = _times(diverted.shed_per_second, work)
        on_time, late = self._by_slo(reading, shed)
        demand = own["demand"] if "demand" in own else self._offered(reading, spilled, shed, diverted, flags, own)
        self._check(demand, flags)
        if "demand" in own:
            flags = flags - {Flag.STALE} if demand is not None else flags | {Flag.STALE}
        return Observation(
            fleet=self._fleet.name,
            time=from_unix(reading.time_unix),
            interval_seconds=self._interval(reading, demand),
            demand_per_second=demand,
            backlog=own.get("backlog", _times(reading.waiting, work)),
            served_per_second=own.get("served", on_time),
            late_per_second=own.get("late", late),
            spilled_per_second=spilled,
            ttft_seconds_p95=own.get("ttft", reading.ttft.seconds_p95),
            itl_seconds_p95=own.get("itl", reading.itl.seconds_p95),
            ttft_attained_share=reading.ttft.attained_share,
            itl_attained_share=reading.itl.attained_share,
            kv_cache_used_share=reading.kv_cache_used_share,
            input_tokens_mean=measured[0] if measured else None,
            output_tokens_mean=measured[1] if measured else None,
            running_requests=reading.running,
            startup_seconds=reading.startup_seconds,
            weight_load_seconds=reading.weight_load_seconds,
            gpu_used_share=gpus.used_share,
            gpu_memory_used_share=gpus.memory_used_share,
            age_seconds=reading.age_seconds,
            clock_offset_seconds=clock_offset_seconds,
            coverage=reading.coverage,
            flags=tuple(sorted(flags)),
            source=self._source,
        )

    def _offered(
        self,
        reading: Reading,
        spilled: float | None,
        shed: float | None,
        diverted: Diverted,
        flags: set[Flag],
        own: Mapping[str, float | None],
    ) -> float | None:
        """Return arrivals at the engines plus what the gateway kept from them. A gateway gone silent makes demand unknown."""
        if reading.requests_per_second is None:
            return None
        if (self._has_gateway or "spilled" in own) and spilled is None:
            flags.add(Flag.PARTIAL)
            if diverted.was_heard or "spilled" in own:
                return None
        return reading.requests_per_second * self.work_per_request + (spilled or 0.0) + (shed or 0.0)

    def _by_slo(self, reading: Reading, shed: float | None) -> tuple[float | None, float | None]:
        """Return work per second within the SLO and outside it, shed work included, by the share of first tokens that were in time.

        Times between tokens are left out: some are long on an idle engine too, which no replica more would mend.
        """
        attained, finished = reading.ttft.attained_share, reading.finished_per_second
        if attained is None or finished is None:
            return None, shed
        done = finished * self.work_per_request
        return done * attained, done * (1.0 - attained) + (shed or 0.0)

    def _interval(self, reading: Reading, demand: float | None) -> float:
        """Return what the demand is the mean of: after intervals in which it was not known, all the time since it was."""
        interval = reading.interval_seconds
        if demand is not None:
            if self._known_unix is not None:
                interval = max(interval, reading.time_unix - self._known_unix)
            self._known_unix = reading.time_unix
        return interval

    def _check(self, demand: float | None, flags: set[Flag]) -> None:
        """Doubt a figure a thousand times what is usual: a launch is not that, a unit or a query gone wrong is."""
        if demand is None:
            return
        if self._readings >= IMPLAUSIBLE_FROM_READINGS and self._usual > 0.0 and demand > IMPLAUSIBLE_MULTIPLE * self._usual:
            flags.add(Flag.IMPLAUSIBLE)
            return
        self._readings += 1
        self._usual = max(demand, 0.99 * self._usual)


def nothing_heard(fleet: Fleet, now_unix: float, interval_seconds: float, source: str, age_seconds: float | None) -> Observation:
    """Return the observation of an interval in which nothing could be read: demand is not known, and that is said."""
    return Observation(
        fleet=fleet.name,
        time=from_unix(now_unix),
        interval_seconds=interval_seconds,
        demand_per_second=None,
        age_seconds=age_seconds,
        flags=(Flag.STALE,),
        source=source,
    )


def as_history(observation: Observation) -> Observation:
    """Return an observation marked as history: learnt from, never decided on."""
    return observation.model_copy(update={"flags": tuple(sorted({*observation.flags, Flag.HISTORY}))})


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
