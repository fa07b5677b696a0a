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
        now = frame.time.timestamp()
        forecasting, planning = state.forecasting, state.planning
        if frame.demand is not None and (forecasting.observed_unix is None or now > forecasting.observed_unix):
            combination = self.forecasting.combination
            forecasting, made = self.forecasting.learn(forecasting, now, frame.demand)
            outlook: Outlook | None = Outlook(combination.horizons_seconds, combination.quantiles, made.demand[0], made.peak[0])
        else:
            outlook = planning.outlook
        history = _history(frame)
        pools = self._pools(frame) if frame.unavailable or not history else {}
        quoted = {name: Price(usd) for name, usd in frame.prices.items()}
        prices = {**planning.prices, **quoted} if quoted else planning.prices
        work = Work(frame.demand, frame.backlog, frame.late, frame.spilled)
        seen = self.planning.seen(planning, now, work)
        planning = replace(planning, outlook=outlook, pools=pools, prices=prices, **seen)
        if self.planning.learning and pools and not history:
            planning = self.planning.see_starts(planning, pools, now)
        if self.fleet.corrects_capacity:
            planning = self.planning.see_carried(planning, work, now)
        view = self.planning.view(planning, now, shadow=history and bool(planning.memory.targets))
        planning, verdict = self.planning.decide(planning, view)
        return PipeState(forecasting, planning), verdict

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
