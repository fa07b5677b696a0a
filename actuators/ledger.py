"""What each offer has cost, day by day: leases as suppliers list them, charged from their request on, at least for their minimum hold.

Owns the reckoning, pure but for the port to where it is kept (NATS KV in production). It must not bound anything: the planner's budget
does. A lease that is gone is charged until midway between when it was last listed and when it was missed.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

from actuators.api import Intent
from actuators.holdings import Holding, HoldingState, Listing
from controlplane.contracts.units import SECONDS_PER_HOUR

DAYS_KEPT = 62
SECONDS_PER_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Lease:
    """One paid replica. `until_unix` is how far it is charged; the others are as its supplier told them, USD per hour and unix seconds."""

    since_unix: float
    until_unix: float
    usd_per_hour: float
    held_until_unix: float


@dataclass(frozen=True, slots=True)
class Ledger:
    """One offer's leases that are open, and what was charged by UTC day."""

    leases: Mapping[str, Lease] = field(default_factory=dict)
    usd_by_day: Mapping[str, float] = field(default_factory=dict)

    @property
    def usd(self) -> float:
        """Return all that was charged, within the days that are kept."""
        return sum(self.usd_by_day.values())

    def see(self, listing: Listing, hold_seconds: float, usd_per_hour: float | None) -> "Ledger":
        """Return the ledger after a listing. `usd_per_hour` is for a supplier that does not tell what a replica costs."""
        now = listing.now_unix
        paid = {one.id: one for one in listing.holdings if one.state is not HoldingState.GONE}
        leases: dict[str, Lease] = {}
        by_day = dict(self.usd_by_day)
        for name, lease in self.leases.items():
            if name in paid:
                leases[name] = lease
            else:
                _charge(by_day, lease, max((lease.until_unix + now) / 2.0, lease.held_until_unix))
        for name, one in paid.items():
            price = one.usd_per_hour or usd_per_hour or 0.0
            until = max(one.held_until_unix, one.requested_unix + hold_seconds)
            lease = leases.get(name) or Lease(one.requested_unix, one.requested_unix, price, until)
            _charge(by_day, lease, now)
            leases[name] = replace(lease, until_unix=max(now, lease.until_unix))
        return Ledger(leases, dict(sorted(by_day.items())[-DAYS_KEPT:]))

    def listing(self, now_unix: float, intent: Intent) -> Listing:
        """Return the open leases as a listing, all of them pending; those since an intent was opened are of its purchase.

        By whole seconds, as suppliers tell when a machine was requested. Else they would count twice, as leases and as promised.
        """
        return Listing(
            now_unix,
            tuple(
                Holding(
                    id=name,
                    lot=name,
                    token=intent.token if lease.since_unix >= int(intent.opened_unix) else "",
                    state=HoldingState.PENDING,
                    requested_unix=lease.since_unix,
                    held_until_unix=lease.held_until_unix,
                    usd_per_hour=lease.usd_per_hour,
                )
                for name, lease in self.leases.items()
            ),
        )

    def dump(self) -> str:
        """Return it as JSON."""
        return json.dumps({"leases": {name: asdict(lease) for name, lease in self.leases.items()}, "usd_by_day": dict(self.usd_by_day)})

    @classmethod
    def load(cls, text: str | None) -> "Ledger":
        """Return what `dump` wrote, an empty ledger for None."""
        if text is None:
            return cls()
        body = json.loads(text)
        return cls({name: Lease(**lease) for name, lease in body["leases"].items()}, body["usd_by_day"])


def _charge(usd_by_day: dict[str, float], lease: Lease, until_unix: float) -> None:
    """Add what a lease costs until a time, to the UTC days that it falls into."""
    at = lease.until_unix
    while at < until_unix:
        end = min(until_unix, (at // SECONDS_PER_DAY + 1.0) * SECONDS_PER_DAY)
        day = datetime.fromtimestamp(at, UTC).date().isoformat()
        usd_by_day[day] = usd_by_day.get(day, 0.0) + (end - at) / SECONDS_PER_HOUR * lease.usd_per_hour
        at = end


class LedgerStore(Protocol):
    """Where ledgers are kept: one text per fleet and offer. Whoever holds the actuator's lease writes."""

    async def read(self, fleet: str, offer: str) -> str | None:
        """Return what was written last, None where nothing was."""
        ...

    async def write(self, fleet: str, offer: str, text: str) -> bool:
        """Write it, and return whether that could be done; each text holds everything since, so the next one makes up for it."""
        ...


class Books:
    """The ledgers of one actuator: read once after a start, written after each listing."""

    def __init__(self, store: LedgerStore | None) -> None:
        """Keep no books where there is no store."""
        self._store = store
        self._ledgers: dict[tuple[str, str], Ledger] = {}

    async def note(self, fleet: str, offer: str, listing: Listing, hold_seconds: float, usd_per_hour: float | None) -> None:
        """Take a listing into an offer's ledger."""
        if self._store is None:
            return
        key = (fleet, offer)
        if key not in self._ledgers:
            self._ledgers[key] = Ledger.load(await self._store.read(fleet, offer))
        self._ledgers[key] = self._ledgers[key].see(listing, hold_seconds, usd_per_hour)
        await self._store.write(fleet, offer, self._ledgers[key].dump())
