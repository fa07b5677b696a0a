"""tidegate without a network: the pure steps (state, event) -> (state, outputs). A new reader starts here.

    Observation, Launch ──▶ Forecasting.step ──▶ Forecast ─┐
    Observation, PoolStatus, Quote, Launch, Alert, Tick ───┴──▶ Planning.step ──▶ Decision (one for each Tick)

Production folds the stream TIDEGATE_INPUTS through these two (`controlplane.forecasting`, `controlplane.planning`); the pipe and the
simulator fold frames through both at once, here. Time is always the event's. Go on to `policies.decide` for what a Tick decides.
"""

from dataclasses import dataclass, replace

from controlplane.contracts.events import Alert, Launch
from controlplane.contracts.fleet import Fleet
from controlplane.contracts.frame import Frame
from controlplane.forecasting import Forecasting, ForecastState, see_launch
from controlplane.planning import Planning, PlanState, Pool, Price
from policies.carried import Work
from policies.decide import Verdict
from policies.view import Outlook


@dataclass(frozen=True, slots=True)
class PipeState:
    """Both halves of one fleet."""

    forecasting: ForecastState
    planning: PlanState


class Pipeline:
    """The whole of one fleet on frames, in event time: what the pipe, the simulator and a backtest run."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.forecasting = Forecasting(fleet)
        self.planning = Planning(fleet)

    def start(self) -> PipeState:
        """Return the state that has seen nothing."""
        return PipeState(self.forecasting.start(), self.planning.start())

    def frame(self, state: PipeState, frame: Frame) -> tuple[PipeState, Verdict]:
        """Fold one frame as the Observation, PoolStatus, Quotes and Tick that it stands for."""
        forecasting, outlook = self.foresee(state.forecasting, frame)
        planning, verdict = self.plan(state.planning, frame, outlook)
        return PipeState(forecasting, planning), verdict

    def foresee(self, state: ForecastState, frame: Frame) -> tuple[ForecastState, Outlook | None]:
        """Fold a frame's demand, and forecast; None where it says none, or none that is newer."""
        now = frame.time.timestamp()
        if frame.demand is None or (state.observed_unix is not None and now <= state.observed_unix):
            return state, None
        combination = self.forecasting.combination
        state, made = self.forecasting.learn(state, now, frame.demand)
        return state, Outlook(combination.horizons_seconds, combination.quantiles, made.demand[0], made.peak[0])

    def plan(self, state: PlanState, frame: Frame, outlook: Outlook | None) -> tuple[PlanState, Verdict]:
        """Fold a frame and the forecast from it, and decide."""
        now = frame.time.timestamp()
        history = _history(frame)
        pools = self._pools(frame) if frame.unavailable or not history else {}
        quoted = {name: Price(usd) for name, usd in frame.prices.items()}
        prices = {**state.prices, **quoted} if quoted else state.prices
        work = Work(frame.demand, frame.backlog, frame.late, frame.spilled)
        seen = self.planning.seen(state, now, work)
        state = replace(state, outlook=outlook or state.outlook, pools=pools, prices=prices, **seen)
        if self.planning.learning and pools and not history:
            state = self.planning.see_starts(state, pools, now)
        if self.fleet.corrects_capacity:
            state = self.planning.see_carried(state, work, now)
        view = self.planning.view(state, now, shadow=history)
        return self.planning.decide(state, view)

    def _pools(self, frame: Frame) -> dict[str, Pool]:
        """Return what each offer holds by a frame; an offer that it leaves out has nothing."""
        return {
            offer.name: Pool(
                frame.ready.get(offer.name, 0),
                frame.pending.get(offer.name, 0),
                offer.name in frame.unavailable,
                usd_per_hour=frame.paid_usd_per_hour.get(offer.name),
            )
            for offer in self.fleet.offers
        }

    def tell(self, state: PipeState, event: Launch | Alert) -> PipeState:
        """Fold a launch or an alert; it is decided on with the next frame."""
        if isinstance(event, Launch):
            return replace(state, forecasting=see_launch(state.forecasting, event))
        planning, _ = self.planning.step(state.planning, event)
        return replace(state, planning=planning)


def _history(frame: Frame) -> bool:
    """Whether a frame says nothing at all about replicas: an exported history of demand, decided for on a shadow pool."""
    return "ready" not in frame.model_fields_set and "pending" not in frame.model_fields_set
