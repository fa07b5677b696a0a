"""What is known of each fleet now, and lately: folded from events, read by the status API and the dashboard.

Owns bounded memories of decisions, pools, prices, alerts and actuations. It must not be asked by anything that decides.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from controlplane.contracts.events import Actuation, Alert, Decision, Event, Forecast, Launch, Observation, PoolStatus, Quote
from controlplane.contracts.fleet import Fleet, Tier
from controlplane.contracts.reasons import REASON_WORDS
from forecasters.watch import LONGEST_SECONDS

POINTS = 720
DECISIONS = 50
ACTUATIONS = 50
ALERTS = 100
BAND = ("0.05", "0.5", "0.95")


@dataclass(slots=True)
class FleetBoard:
    """One fleet. `points` is the past, one for each decision; `decisions` are those that changed a target or had a cause."""

    fleet: Fleet
    decision: Decision | None = None
    observation: Observation | None = None
    forecast: Forecast | None = None
    pools: dict[str, PoolStatus] = field(default_factory=dict)
    alerts: dict[str, Alert] = field(default_factory=dict)
    launches: dict[str, Launch] = field(default_factory=dict)
    points: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=POINTS))
    decisions: deque[Decision] = field(default_factory=lambda: deque(maxlen=DECISIONS))
    actuations: deque[Actuation] = field(default_factory=lambda: deque(maxlen=ACTUATIONS))

    def hear(self, event: Event) -> None:
        """Fold one event of this fleet."""
        match event:
            case Observation():
                self.observation = event
            case PoolStatus():
                self.pools[event.offer] = event
            case Decision():
                self._decided(event)
            case Forecast():
                self.forecast = event
            case Actuation():
                self.actuations.append(event)
            case Launch():
                self._announced(event)
            case Alert():
                self.alerts.pop(event.name, None)
                if event.status == "firing":
                    self.alerts[event.name] = event
                while len(self.alerts) > ALERTS:
                    del self.alerts[next(iter(self.alerts))]
            case _:
                pass

    def _announced(self, launch: Launch) -> None:
        """Take in a launch and forget those that began longer ago than any wave is followed; before the first observation, none."""
        if self.observation is not None:
            oldest = self.observation.time.timestamp() - LONGEST_SECONDS
            self.launches = {name: told for name, told in self.launches.items() if told.starts.timestamp() > oldest}
        self.launches[launch.name] = launch

    def _decided(self, decision: Decision) -> None:
        before = self.decision
        if before is None or before.targets != decision.targets or decision.cause != "schedule" or before.reasons != decision.reasons:
            self.decisions.append(decision)
        self.decision = decision
        self.points.append(self._point(decision))

    def _point(self, decision: Decision) -> dict[str, Any]:
        capacity = {tier.value: 0.0 for tier in (Tier.FLOOR, Tier.BURST)}
        for offer in self.fleet.offers:
            pool = self.pools.get(offer.name)
            ready = pool.ready if pool is not None else 0
            capacity[offer.tier.value] += ready * offer.capacity_per_second
        quantiles = decision.demand_quantiles
        return {
            "time": decision.time.timestamp(),
            "demand": decision.demand_per_second,
            "capacity": capacity,
            "spilled": self.observation.spilled_per_second if self.observation is not None else None,
            "spill_allowed": decision.spill_per_second,
            "targets": sum(decision.targets.values()),
            "usd_per_hour": decision.usd_per_hour,
            "ahead_seconds": decision.horizon_seconds,
            "band": [quantiles.get(name) for name in BAND],
        }


class Board:
    """All fleets of this server."""

    def __init__(self, fleets: Mapping[str, Fleet]) -> None:
        self._fleets = {name: FleetBoard(fleet) for name, fleet in fleets.items()}
        self._quotes: dict[str, Quote] = {}

    def hear(self, event: Event) -> None:
        """Fold one event; what is of no fleet here is passed over."""
        if isinstance(event, Quote):
            self._quotes[event.offer] = event
            return
        board = self._fleets.get(getattr(event, "fleet", None) or "")
        if board is not None:
            board.hear(event)

    def summary(self, name: str, now_unix: float) -> dict[str, Any]:
        """Return one fleet in a few figures, as plain data, with the alerts that still act."""
        board = self._fleets[name]
        decision = board.decision
        return {
            "fleet": name,
            "model": board.fleet.model,
            "unit": board.fleet.unit.value,
            "mode": board.fleet.guard.mode.value,
            "offers": [self._offer(board, offer) for offer in board.fleet.offers],
            "spill": self._spill(board),
            "slo": self._slo(board),
            "demand_per_second": decision.demand_per_second if decision else None,
            "decision": decision.model_dump(mode="json", exclude={"stages"}) if decision else None,
            "alerts": [alert.model_dump(mode="json") for alert in board.alerts.values() if _acts(alert, now_unix)],
        }

    def detail(self, name: str, now_unix: float) -> dict[str, Any]:
        """Return one fleet with its stages, forecast and past, as plain data."""
        board = self._fleets[name]
        return {
            **self.summary(name, now_unix),
            "decision": board.decision.model_dump(mode="json") if board.decision else None,
            "observation": board.observation.model_dump(mode="json") if board.observation else None,
            "forecast": board.forecast.model_dump(mode="json") if board.forecast else None,
            "launches": [launch.model_dump(mode="json") for launch in board.launches.values()],
            "decisions": [decision.model_dump(mode="json", exclude={"demand_quantiles"}) for decision in reversed(board.decisions)],
            "actuations": [actuation.model_dump(mode="json") for actuation in reversed(board.actuations)],
            "points": list(board.points),
            "reason_words": {reason.value: words for reason, words in REASON_WORDS.items()},
        }

    def _offer(self, board: FleetBoard, offer: Any) -> dict[str, Any]:
        pool, quote = board.pools.get(offer.name), self._quotes.get(offer.name)
        target = board.decision.targets.get(offer.name) if board.decision else None
        quoted = quote.usd_per_replica_hour if quote is not None else None
        return {
            "name": offer.name,
            "tier": offer.tier.value,
            "target": target,
            "ready": pool.ready if pool else None,
            "pending": pool.pending if pool else None,
            "draining": pool.draining if pool else None,
            "unavailable": pool.unavailable if pool else None,
            "message": pool.message if pool else "",
            "capacity_per_second": offer.capacity_per_second,
            "min_replicas": offer.min_replicas,
            "max_replicas": offer.max_replicas,
            "usd_per_replica_hour": quoted if quoted is not None else offer.usd_per_replica_hour,
            "stock_replicas": quote.stock_replicas if quote else None,
        }

    def _slo(self, board: FleetBoard) -> dict[str, Any]:
        """Return what is promised, and the shares of the newest interval that kept it; None where nobody measures them."""
        slo, seen = board.fleet.slo, board.observation
        return {
            "attainment": slo.attainment,
            "ttft_seconds": slo.ttft_seconds,
            "itl_seconds": slo.itl_seconds,
            "ttft_attained_share": seen.ttft_attained_share if seen else None,
            "itl_attained_share": seen.itl_attained_share if seen else None,
        }

    def _spill(self, board: FleetBoard) -> dict[str, Any] | None:
        spill, decision = board.fleet.spill, board.decision
        if spill is None:
            return None
        allowed = decision.spill_per_second if decision else None
        spilled = board.observation.spilled_per_second if board.observation else None
        return {"name": spill.name, "usd_per_unit": spill.usd_per_unit, "allowed_per_second": allowed, "spilled_per_second": spilled}


def _acts(alert: Alert, now_unix: float) -> bool:
    return alert.expires is None or alert.expires.timestamp() > now_unix
