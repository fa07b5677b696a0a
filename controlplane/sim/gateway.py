"""A simulated gateway in front of a fleet: turns offered work into what was served, late, spilled and waiting, as events say it.

Owns the fleet's ready capacity and spill allowance as last heard from PoolStatus and Decision, and the queue; the fluid law is
`router`. It must not decide, nor know a supplier. The replay collector asks it once per interval.
"""

from controlplane.contracts.events import Decision, Event, PoolStatus
from controlplane.contracts.fleet import Fleet
from controlplane.sim.router import route
from controlplane.sim.scaler import naive_spill

DEFAULT_PATIENCE_SECONDS = 10.0


class SimulatedGateway:
    """One fleet's front door on the bus's events. `serve` advances it by one interval."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._ready: dict[str, int] = {}
        # Until the first decision the gateway is on its own, as in `world`: what would miss the SLO is spilled.
        self._spill_per_second = naive_spill(fleet)
        self._spill_until_unix = float("inf")
        self.backlog = 0.0

    def hear(self, event: Event) -> None:
        """Take in what an offer holds now, or what may be spilled."""
        if isinstance(event, PoolStatus):
            self._ready[event.offer] = event.ready
        elif isinstance(event, Decision) and event.spill_until is not None:
            self._spill_per_second, self._spill_until_unix = event.spill_per_second, event.spill_until.timestamp()
        elif isinstance(event, Decision):
            self._spill_per_second = 0.0

    def serve(self, offered_per_second: float, seconds: float, now_unix: float) -> tuple[float, float, float]:
        """Serve one interval that ends at `now_unix`; return (on time, late, spilled) per second. An expired allowance spills nothing."""
        capacity = sum(offer.capacity_per_second * self._ready.get(offer.name, 0) for offer in self._fleet.offers)
        allowance = self._spill_per_second if now_unix < self._spill_until_unix and self._fleet.spill is not None else 0.0
        patience = self._fleet.slo.ttft_seconds or DEFAULT_PATIENCE_SECONDS
        served = route(self.backlog, offered_per_second, capacity, patience, allowance, seconds, shed=False)
        self.backlog = served.backlog
        return served.on_time / seconds, served.late / seconds, served.spilled / seconds
