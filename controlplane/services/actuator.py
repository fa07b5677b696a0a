"""The actuator service: hears a fleet's decisions through FastStream, and keeps a reconciler per offer.

Owns which actuator each offer gets, and that the newest decision is known after a restart. It must not act itself.
"""

import asyncio
from collections.abc import Mapping

import structlog
from nats.aio.client import Client

from actuators.api import Actuator
from actuators.wrappers import DryRun
from controlplane.bus.broker import build_broker, on_decisions, service_app
from controlplane.bus.publish import Publisher
from controlplane.bus.watch import newest
from controlplane.clocks import Clock
from controlplane.contracts.events import Decision
from controlplane.contracts.fleet import Fleet, Mode
from controlplane.contracts.subjects import DECISION, OUTPUTS_STREAM
from controlplane.services.reconciler import PERIOD_SECONDS, Reconciler

SERVICE = "actuator"

log = structlog.get_logger(__name__)


class FleetActuator:
    """One fleet's offers while its lease is held. `actuators` maps an offer to its actuator; an offer without one is left alone.

    In recommend mode and while the policy is frozen nothing is touched, whatever a decision says: the newest one may have been made
    before this process was told to keep its hands off, or by a planner with another policy.
    `refresh_seconds`, wall time: how often the newest decision is asked for, beside being told of each.
    """

    def __init__(
        self, client: Client, fleet: Fleet, actuators: Mapping[str, Actuator], clock: Clock, refresh_seconds: float = PERIOD_SECONDS
    ) -> None:
        self._client, self._fleet, self._refresh_seconds = client, fleet, refresh_seconds
        publish = Publisher(client, f"tidegate/{SERVICE}/{fleet.name}").publish
        if fleet.guard.mode is not Mode.ACT or fleet.guard.frozen:
            actuators = {name: DryRun(actuator) for name, actuator in actuators.items()}
        self._reconcilers = [
            Reconciler(fleet.name, offer, actuators[offer.name], clock, publish) for offer in fleet.offers if offer.name in actuators
        ]
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Follow decisions until stopped."""
        broker = build_broker(self._client, SERVICE)
        on_decisions(broker, self._follow, self._fleet.name)
        app = service_app(broker)
        await app.start()
        loops = [asyncio.ensure_future(loop) for loop in (self._refresh(), *(reconciler.run() for reconciler in self._reconcilers))]
        ending = asyncio.ensure_future(self._stopping.wait())
        try:
            done, _ = await asyncio.wait({*loops, ending}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (*loops, ending):
                task.cancel()
            await asyncio.gather(*loops, ending, return_exceptions=True)
            await app.stop()

    def stop(self) -> None:
        """Let `run` end; what is bought stays as it is."""
        self._stopping.set()

    async def _refresh(self) -> None:
        """Ask for the newest decision at the start and then now and again: a consumer that the server lost tells of none any more."""
        while True:
            last = await newest(self._client, OUTPUTS_STREAM, DECISION.format(fleet=self._fleet.name))
            if isinstance(last, Decision):
                await self._follow(last)
            await asyncio.sleep(self._refresh_seconds)

    async def _follow(self, decision: Decision) -> None:
        for reconciler in self._reconcilers:
            reconciler.follow(decision)
