"""The supplier of any GPU cloud that rents machine by machine: the cloud itself needs four short methods.

Owns the way from machines to replicas: marks of ownership, readiness, lots, partial purchases, quotes. It must not know a cloud's API,
which `cloud_http` speaks to.
To add a cloud, implement `GpuCloud` (see `lambda_cloud`, `runpod`), add it to `market_suppliers`, and give it a rig for the contract suite.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from actuators.api import Intent
from actuators.holdings import HoldingState, Listing, Owned
from actuators.lots import Rented, holdings_of, machine_of, machines_in, replicas_of
from actuators.readiness import Machine, ReadinessProbe
from controlplane.contracts.errors import InsufficientCapacity, SupplierError, SupplierUnavailable
from controlplane.contracts.events import Quote
from controlplane.contracts.fleet import Offer
from controlplane.contracts.units import from_unix

QUOTE_SECONDS = 30.0
QUOTE_LIFE_SECONDS = 300.0
# With an order under way when these are over, all of it is still well within the time that an actuator is given.
ORDERING_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Mark:
    """What is written on a machine when it is ordered, so that it can be told whose it is. Times are unix seconds."""

    fleet: str
    offer: str
    token: str
    requested_unix: float

    def fields(self) -> dict[str, str]:
        """Return the mark as names and values of tags."""
        requested = f"{self.requested_unix:.0f}"
        return {"tidegate-fleet": self.fleet, "tidegate-offer": self.offer, "tidegate-intent": self.token, "tidegate-requested": requested}

    @classmethod
    def read(cls, fields: Mapping[str, str]) -> "Mark | None":
        """Return the mark in some tags, None where they are not ours."""
        fleet, offer = fields.get("tidegate-fleet"), fields.get("tidegate-offer")
        if not fleet or not offer:
            return None
        requested = fields.get("tidegate-requested", "")
        return cls(fleet, offer, fields.get("tidegate-intent", ""), float(requested) if requested.isdigit() else 0.0)


@dataclass(frozen=True, slots=True)
class Listed:
    """One machine that carries our mark. `state` is READY where it runs, as far as the cloud knows; `usd_per_hour` is the machine's."""

    id: str
    mark: Mark
    state: HoldingState
    address: str = ""
    usd_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class Offered:
    """A machine's price and how many can be had now; None: the cloud does not say."""

    usd_per_hour: float | None
    machines: int | None


class GpuCloud(Protocol):
    """What a cloud must do. All methods raise `SupplierError` only, as its subclasses say."""

    remembers_tokens: bool

    async def machines(self) -> Sequence[Listed]:
        """Return every machine that carries our mark, whichever fleet's."""
        ...

    async def order(self, mark: Mark) -> str:
        """Order one machine and return its id. SupplierUnavailable: nobody knows; any other error: surely nothing was ordered."""
        ...

    async def end(self, machine: str) -> None:
        """Give a machine back; one that is gone already is fine."""
        ...

    async def offered(self) -> Offered:
        """Return price and stock now."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class RentingSupplier:
    """A Supplier over a GpuCloud. `clock` is unix seconds."""

    def __init__(self, cloud: GpuCloud, probe: ReadinessProbe, clock: Callable[[], float] = time.time) -> None:
        """Ask nothing yet."""
        self._cloud, self._probe, self._clock = cloud, probe, clock
        self.remembers_tokens = cloud.remembers_tokens
        self._offered: tuple[float, Offered] | None = None

    async def listing(self, fleet: str, offer: Offer) -> Listing:
        """Return the machines marked with this fleet and offer; one that runs counts once it serves."""
        with understood():
            listed = [one for one in await self._cloud.machines() if (one.mark.fleet, one.mark.offer) == (fleet, offer.name)]
        now = self._clock()
        running = [Machine(one.id, one.address, one.mark.requested_unix) for one in listed if one.state is HoldingState.READY]
        readiness = await self._probe.ask(running, now)
        overdue = self._probe.overdue((one.id for one in listed if one.state is HoldingState.PENDING), now)
        rented = []
        for one in listed:
            answer = readiness.get(one.id)
            state = HoldingState.FAILED if one.id in overdue else answer.state if answer is not None else one.state
            since = answer.since_unix if answer is not None else None
            rented.append(Rented(one.id, one.mark.token, state, one.mark.requested_unix, since, usd_per_hour=one.usd_per_hour))
        return Listing(now, tuple(holding for machine in rented for holding in holdings_of(machine, offer)))

    async def buy(self, intent: Intent, offer: Offer) -> tuple[str, ...]:
        """Order machine by machine; a refusal after the first is a smaller purchase, and so is what took `ORDERING_SECONDS`.

        An unknown outcome of one leaves the intent open. The others are ordered all the same: each is asked for once. A big order that
        was cut off in the middle would be of unknown size; its rest comes with the next round.
        """
        mark = Mark(intent.fleet, intent.offer, intent.token, self._clock())
        ordered: list[str] = []
        unknown: SupplierUnavailable | None = None
        began = self._clock()
        for _ in range(machines_in(intent.count, offer)):
            if (ordered or unknown is not None) and self._clock() - began >= ORDERING_SECONDS:
                break
            try:
                with understood():
                    ordered.append(await self._cloud.order(mark))
            except SupplierUnavailable as error:
                unknown = error
            except SupplierError:
                if not ordered and unknown is None:
                    raise
                break
        if unknown is not None:
            raise unknown
        if not ordered:
            raise InsufficientCapacity("less than a whole machine was asked for")
        return tuple(replica for machine in ordered for replica in replicas_of(machine, offer))

    async def release(self, fleet: str, offer: Offer, replica: str) -> None:
        """End the replica's machine."""
        del fleet, offer
        with understood():
            await self._cloud.end(machine_of(replica))

    async def owned(self) -> tuple[Owned, ...]:
        """Return every machine that carries our mark and is paid for."""
        with understood():
            paid = [one for one in await self._cloud.machines() if one.state is not HoldingState.GONE]
        return tuple(Owned(one.mark.fleet, one.mark.offer, one.id, one.mark.requested_unix) for one in paid)

    async def quote(self, offer: Offer) -> Quote | None:
        """Return a replica's price and stock, asked for at most every half minute."""
        now, lot = self._clock(), offer.replicas_per_lot
        if self._offered is None or not 0.0 <= now - self._offered[0] <= QUOTE_SECONDS:
            with understood():
                self._offered = (now, await self._cloud.offered())
        offered = self._offered[1]
        return Quote(
            time=from_unix(now),
            offer=offer.name,
            usd_per_replica_hour=None if offered.usd_per_hour is None else offered.usd_per_hour / lot,
            stock_replicas=None if offered.machines is None else offered.machines * lot,
            expires=from_unix(now + QUOTE_LIFE_SECONDS),
        )

    async def close(self) -> None:
        """Let go of connections."""
        await self._probe.close()
        await self._cloud.close()


@contextmanager
def understood() -> Iterator[None]:
    """Make an answer that does not read as documented the error of a supplier that does not answer: one must not stop the others."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise SupplierUnavailable(f"an answer that does not read as documented: {type(error).__name__} {error}") from error


def is_allowed(region: str, regions: Sequence[str]) -> bool:
    """Return whether a region's name begins with one that the policy allows; none named allows all."""
    return not regions or any(region.lower().startswith(allowed.lower()) for allowed in regions)
