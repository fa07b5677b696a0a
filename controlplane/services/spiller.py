"""The spiller: opens and closes the spill weight of a gateway that only knows weights, once a second, within every decision's allowance.

Owns what is heard of demand, capacity and allowance, and the loop; the rule is `actuators.spill_valve`'s, the gateway is behind a
port. A router that hears NATS itself needs none of this: docs/spill.md.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from nats.aio.client import Client

from actuators.spill_valve import Allowance, Load, SpillValve
from controlplane.bus.watch import watch
from controlplane.clocks import Clock
from controlplane.contracts.errors import SupplierError
from controlplane.contracts.events import Decision, Event, Observation, PoolStatus, Reason
from controlplane.contracts.fleet import Fleet, Mode
from controlplane.contracts.subjects import DECISION, INPUTS_STREAM, OBSERVATION, OUTPUTS_STREAM, POOL

SERVICE = "spiller"
PERIOD_SECONDS = 1.0
# What somebody else wrote over our weight is put right within this, even while nothing moves.
CONFIRM_SECONDS = 30.0
# Smaller moves than this are not worth a write, but for closing.
SMALLEST_MOVE = 0.005

log = structlog.get_logger(__name__)


class Router(Protocol):
    """A gateway whose share of spilled requests can be set."""

    async def set_share(self, share: float) -> bool:
        """Make the share be this; SupplierError where that fails."""
        ...


@dataclass(slots=True)
class Heard:
    """What events have said of one fleet."""

    fleet: Fleet
    allowance: Allowance = field(default_factory=Allowance)
    mode: Mode | None = None
    is_frozen: bool = False
    _ready: dict[str, int] = field(default_factory=dict)
    _demand_per_second: float | None = None
    _backlog: float = 0.0
    _capacity_share: float = 1.0

    def hear(self, event: Event) -> None:
        """Take an event in."""
        if isinstance(event, PoolStatus):
            self._ready[event.offer] = event.ready
        elif isinstance(event, Observation) and event.demand_per_second is not None:
            self._demand_per_second, self._backlog = event.demand_per_second, event.backlog or 0.0
        elif isinstance(event, Decision):
            until = 0.0 if event.spill_until is None else event.spill_until.timestamp()
            # A recommendation authorises nothing.
            self.mode = event.mode
            authorised = event.spill_per_second if event.mode is Mode.ACT else 0.0
            self.allowance = Allowance(authorised, until)
            self.is_frozen = Reason.FROZEN in event.reasons
            self._capacity_share = 1.0 if event.capacity_share is None else event.capacity_share

    @property
    def load(self) -> Load:
        """Return demand and what is ready to carry it; capacity is unknown until a pool has told of itself."""
        stated = sum(offer.capacity_per_second * self._ready.get(offer.name, 0) for offer in self.fleet.offers)
        return Load(self._demand_per_second, self._backlog, stated * self._capacity_share if self._ready else None)


class Spiller:
    """One fleet's spill weight while its lease is held. A policy in recommend mode touches nothing, and frozen it only ever lowers."""

    def __init__(self, client: Client, fleet: Fleet, router: Router, clock: Clock, period_seconds: float = PERIOD_SECONDS) -> None:
        self._client, self._router, self._clock, self._period_seconds = client, router, clock, period_seconds
        self._heard = Heard(fleet)
        self._valve = SpillValve()
        self._set: float | None = None
        self._set_unix = float("-inf")
        self._may_act = fleet.guard.mode is Mode.ACT
        self._is_frozen = fleet.guard.frozen
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Follow events until stopped; then close the spill, as nobody watches over it any more."""
        name = self._heard.fleet.name
        inputs = (OBSERVATION.format(fleet=name), *(POOL.format(fleet=name, offer=offer.name) for offer in self._heard.fleet.offers))
        outputs = (DECISION.format(fleet=name),)
        watches = [
            asyncio.ensure_future(watch(self._client, stream, subjects, self._heard.hear, first=subjects))
            for stream, subjects in ((INPUTS_STREAM, inputs), (OUTPUTS_STREAM, outputs))
        ]
        try:
            while not self._stopping.is_set():
                await self.step()
                try:
                    async with asyncio.timeout(self._period_seconds):
                        await self._stopping.wait()
                except TimeoutError:
                    continue
            if self._may_act and self._set:
                await self._turn(0.0)
        finally:
            for task in watches:
                task.cancel()
            await asyncio.gather(*watches, return_exceptions=True)

    def stop(self) -> None:
        """Let `run` end."""
        self._stopping.set()

    async def step(self) -> None:
        """Move the valve to now, and the weight with it."""
        load, now = self._heard.load, self._clock.now()
        self._valve = self._valve.step(load, self._heard.allowance, now)
        share = self._valve.share(load)
        if self._heard.mode is None or (self._heard.mode is Mode.RECOMMEND and not self._set):
            # What was there before the first decision, or is there beside a recommendation, is not ours.
            return
        if self._is_frozen or self._heard.is_frozen:
            if self._set is None:
                return
            share = min(share, self._set)
        moved = self._set is None or abs(share - self._set) >= SMALLEST_MOVE or (share == 0.0) != (self._set == 0.0)
        if self._may_act and (moved or now - self._set_unix >= CONFIRM_SECONDS):
            await self._turn(share)

    async def _turn(self, share: float) -> None:
        try:
            changed = await self._router.set_share(share)
        except SupplierError as error:
            log.warning("the spill weight is not set", fleet=self._heard.fleet.name, share=round(share, 4), reason=str(error))
            return
        self._set, self._set_unix = share, self._clock.now()
        if changed:
            log.info("spilling", fleet=self._heard.fleet.name, share=round(share, 4), work_per_second=round(self._valve.per_second, 3))
