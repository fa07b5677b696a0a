"""The other autoscalers, from their documented algorithms and constants, each with one knob: the share of capacity they aim to use.

Owns KEDA, Knative's KPA, Ray Serve, SkyServe, an AWS-like predictive policy and a Dynamo-like planner; it must not know a world.
All see offered and waiting work, which do not saturate, and count pending replicas, so that none buys twice: their best case.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from controlplane.contracts.events import Launch
from controlplane.contracts.fleet import Fleet
from controlplane.contracts.frame import DecisionLine, Frame
from controlplane.sim.baselines_hpa import Hpa, WindowMaximum, held_capacity, load_of, replica_capacity
from controlplane.sim.scaler import Scaler, ScalerFactory, answer, fill_offers, naive_spill

HOUR = 3600.0
DAY_HOURS = 24


class Sized:
    """What the peers share: work to carry at a target use, in whole replicas, and a gateway that spills naively."""

    def __init__(self, fleet: Fleet, target: float) -> None:
        self.fleet = fleet
        self.target = target
        self.unit = replica_capacity(fleet)
        self.spill = naive_spill(fleet)
        self.before_unix: float | None = None

    def replicas(self, work_per_second: float) -> int:
        """Return how many replicas carry the work at the target use."""
        return math.ceil(work_per_second / (self.target * self.unit) - 1e-9)

    def held(self, frame: Frame) -> float:
        """Return ready and pending, counted in replicas of the same size."""
        return held_capacity(self.fleet, frame) / self.unit

    def line(self, frame: Frame, replicas: float) -> DecisionLine:
        """Answer with the offers that hold so many replicas."""
        return answer(frame, fill_offers(self.fleet, replicas * self.unit), self.spill)

    def stay(self, frame: Frame) -> DecisionLine:
        """Answer a frame without a metric: nothing changes."""
        return answer(frame, {}, self.spill)

    def elapsed(self, now_unix: float, first: float = 15.0) -> float:
        """Return seconds since the previous frame."""
        passed = first if self.before_unix is None else now_unix - self.before_unix
        self.before_unix = now_unix
        return passed

    def announce(self, launch: Launch) -> None:
        """Know nothing of launches."""


class Keda(Sized):
    """An HPA on a metric that KEDA polls every 30 s. An empty answer of the metric's source counts as 0, as KEDA's default does."""

    POLL_SECONDS = 30.0

    def __init__(self, fleet: Fleet, target: float) -> None:
        super().__init__(fleet, target)
        self._hpa = Hpa(fleet, target)
        self._polled: tuple[float, float] | None = None

    def decide(self, frame: Frame) -> DecisionLine:
        """Answer one frame on the newest poll."""
        now = frame.time.timestamp()
        if self._polled is None or now - self._polled[0] >= self.POLL_SECONDS - 1e-6:
            self._polled = (now, load_of(frame) or 0.0)
        return self._hpa.decide(frame.model_copy(update={"demand": self._polled[1], "backlog": 0.0}))


class Kpa(Sized):
    """Knative's pod autoscaler: a 60 s stable window, panic on a 6 s one at twice what is ready, no shrinking in panic."""

    STABLE_SECONDS = 60.0
    PANIC_AT = 2.0
    MAX_SCALE_DOWN_RATE = 2.0

    def __init__(self, fleet: Fleet, target: float) -> None:
        super().__init__(fleet, target)
        self._window = Mean(self.STABLE_SECONDS)
        self._panicked_unix: float | None = None
        self._panic_replicas = 0

    def decide(self, frame: Frame) -> DecisionLine:
        """Answer one frame; its own mean is the panic window, which is never longer than a frame here."""
        now = frame.time.timestamp()
        passed = self.elapsed(now)
        load = load_of(frame)
        if load is None:
            return self.stay(frame)
        stable, panic = self.replicas(self._window.push(now, load, passed)), self.replicas(load)
        ready = max(1.0, sum(frame.ready.get(o.name, 0) * o.capacity_per_second for o in self.fleet.offers) / self.unit)
        stable = max(stable, math.floor(ready / self.MAX_SCALE_DOWN_RATE))
        if panic / ready >= self.PANIC_AT:
            self._panicked_unix = now
        elif self._panicked_unix is not None and now - self._panicked_unix > self.STABLE_SECONDS:
            self._panicked_unix, self._panic_replicas = None, 0
        if self._panicked_unix is None:
            return self.line(frame, stable)
        self._panic_replicas = max(self._panic_replicas, stable, panic)
        return self.line(frame, self._panic_replicas)


class Delayed(Sized):
    """Grows or shrinks once the wish to do so has lasted: the rule of Ray Serve and of SkyServe."""

    UP_SECONDS = 30.0
    DOWN_SECONDS = 600.0
    LOOK_BACK_SECONDS = 30.0

    def __init__(self, fleet: Fleet, target: float) -> None:
        super().__init__(fleet, target)
        self._window = Mean(self.LOOK_BACK_SECONDS)
        self._wish = 0
        self._lasted = 0.0

    def decide(self, frame: Frame) -> DecisionLine:
        """Answer one frame."""
        now = frame.time.timestamp()
        passed = self.elapsed(now)
        load = load_of(frame)
        if load is None:
            return self.stay(frame)
        wanted, current = self.replicas(self._window.push(now, load, passed)), self.held(frame)
        wish = (wanted > current + 1e-9) - (wanted < current - 1e-9)
        self._lasted = passed + (self._lasted if wish == self._wish else 0.0)
        self._wish = wish
        delay = self.UP_SECONDS if wish > 0 else self.DOWN_SECONDS
        if wish == 0 or self._lasted < delay - 1e-6:
            return self.stay(frame)
        self._lasted = 0.0
        return self.line(frame, wanted)


class RayServe(Delayed):
    """Ray Serve: up after 30 s, down after 600 s, on a look-back of 30 s."""


class SkyServe(Delayed):
    """SkyServe: up after 300 s, down after 1,200 s, on a minute's rate."""

    UP_SECONDS = 300.0
    DOWN_SECONDS = 1200.0
    LOOK_BACK_SECONDS = 60.0


class AwsPredictive(Sized):
    """Hourly forecasts from up to 14 days' history under target tracking: the forecast 300 s ahead never scales in.

    The hour's forecast is the mean of the same hour of earlier days, each day counting half as much as the next.
    """

    BUFFER_SECONDS = 300.0
    HISTORY_DAYS = 14
    SCALE_IN_SECONDS = 900.0

    def __init__(self, fleet: Fleet, target: float) -> None:
        super().__init__(fleet, target)
        self._tracking = WindowMaximum(self.SCALE_IN_SECONDS)
        self._hours: dict[int, list[float]] = {}

    def decide(self, frame: Frame) -> DecisionLine:
        """Answer one frame."""
        now = frame.time.timestamp()
        passed = self.elapsed(now)
        load = load_of(frame)
        if load is None:
            return self.stay(frame)
        total = self._hours.setdefault(int((now - passed / 2) // HOUR), [0.0, 0.0])
        total[0] += load * passed
        total[1] += passed
        tracked = self._tracking.push(now, float(self.replicas(load)))
        foreseen = max(self._forecast(int(now // HOUR)), self._forecast(int((now + self.BUFFER_SECONDS) // HOUR)))
        return self.line(frame, max(tracked, self.replicas(foreseen)))

    def _forecast(self, hour: int) -> float:
        weight = weighed = share = 0.0
        for day in range(1, self.HISTORY_DAYS + 1):
            seen = self._hours.get(hour - day * DAY_HOURS)
            if seen is not None and seen[1] > 0:
                share = 0.5**day
                weight += share
                weighed += share * seen[0] / seen[1]
        return weighed / weight if weight else 0.0


class DynamoLike(Sized):
    """A throughput loop every 180 s on the last value, and a load loop that adds one replica while demand exceeds what is held."""

    LOOP_SECONDS = 180.0

    def __init__(self, fleet: Fleet, target: float) -> None:
        super().__init__(fleet, target)
        self._window = Mean(self.LOOP_SECONDS)
        self._planned_unix: float | None = None
        self._replicas = 0

    def decide(self, frame: Frame) -> DecisionLine:
        """Answer one frame."""
        now = frame.time.timestamp()
        passed = self.elapsed(now)
        load = load_of(frame)
        if load is None:
            return self.stay(frame)
        mean = self._window.push(now, load, passed)
        if self._planned_unix is None or now - self._planned_unix >= self.LOOP_SECONDS - 1e-6:
            self._planned_unix = now
            self._replicas = self.replicas(mean)
        elif load > self._replicas * self.unit:
            self._replicas += 1
        return self.line(frame, self._replicas)


class Mean:
    """The time-weighted mean of the last `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._values: deque[tuple[float, float, float]] = deque()

    def push(self, now_unix: float, value: float, lasted: float) -> float:
        """Add the mean of the `lasted` seconds before now and return the window's mean."""
        self._values.append((now_unix, value, lasted))
        while len(self._values) > 1 and self._values[0][0] <= now_unix - self._seconds + 1e-6:
            self._values.popleft()
        return sum(value * lasted for _, value, lasted in self._values) / sum(lasted for _, _, lasted in self._values)


@dataclass(frozen=True, slots=True)
class Peer:
    """An autoscaler to compare with: `make(fleet, knob)`, and the knob that its documentation has by default."""

    name: str
    make: Callable[[Fleet, float], Scaler]
    default: float = 0.7

    def tuned(self, knob: float) -> ScalerFactory:
        """Return a factory at one setting of the knob."""
        return lambda fleet: self.make(fleet, knob)


PEERS: tuple[Peer, ...] = (
    Peer("HPA", Hpa),
    Peer("KEDA", Keda),
    Peer("Knative KPA", Kpa),
    Peer("Ray Serve", RayServe),
    Peer("SkyServe", SkyServe),
    Peer("AWS predictive", AwsPredictive),
    Peer("Dynamo-like", DynamoLike),
)
