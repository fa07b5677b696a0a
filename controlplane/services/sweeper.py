"""The sweeper: finds what suppliers still hold for offers that nobody names any more, says so, and ends it where the policy says so.

Owns the pace and the report: an Actuation whose decision is "sweep" for each such offer, a line in the log, and from these a metric.
One process sweeps for all; each keeps a record of every supplier that its policies name (`keep_named`), so that what another process runs
is not taken for gone, and one which none names any more is asked all the same. It must not touch what an offer wants: its actuator does.
`actuators.sold` says what is orphaned.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog
from pydantic import ValidationError

from actuators.holdings import Owned, Supplier
from actuators.sold import Orphans, Sold, ends_orphans, one_per_address, orphans_among, sold_by, stand_in
from controlplane.bus.publish import PublishError
from controlplane.clocks import Clock
from controlplane.contracts.errors import BusError, PolicyError, SupplierError
from controlplane.contracts.events import SWEEP, Actuation, Outcome
from controlplane.contracts.fleet import Fleet
from controlplane.contracts.units import from_unix
from controlplane.services.reconciler import Publish

SERVICE = "sweeper"
ALL_FLEETS = "all-fleets"
PERIOD_SECONDS, RETRY_SECONDS = 300.0, 5.0
# An offer that no policy has named for so long is gone; where another process may have named it, that one may only be down.
GONE_SECONDS = 900.0
SILENT_SECONDS = 86400.0
NAMED_AT_MOST = 20

log = structlog.get_logger(__name__)


class Records(Protocol):
    """What is remembered of suppliers: `controlplane.bus.sold`."""

    async def note(self, sold: Sold) -> None:
        """Write that an offer is named now."""
        ...

    async def forget(self, sold: Sold) -> None:
        """Drop a record."""
        ...

    async def all(self) -> tuple[list[Sold], set[tuple[str, str]]]:
        """Return every record, and each (fleet, offer) that anything was ever bought for."""
        ...


async def keep_named(
    fleets: Sequence[Fleet], records: Records, clock: Clock, stopping: asyncio.Event, retry_seconds: float = RETRY_SECONDS
) -> None:
    """Write now and again that these fleets' offers are named, until stopped; whoever holds the sweep's lease.

    After an outage that is done within seconds: what could not be named for so long is taken for gone by the next sweep.
    """
    while not stopping.is_set():
        pause = PERIOD_SECONDS
        try:
            await _name(fleets, records, clock.now())
        except BusError as error:
            log.warning("offers are not named", reason=str(error))
            pause = retry_seconds
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await stopping.wait()


async def _name(fleets: Sequence[Fleet], records: Records, now_unix: float) -> None:
    for sold in (sold for fleet in fleets for sold in sold_by(fleet, now_unix)):
        await records.note(sold)


class Sweeper:
    """Sweeps for all fleets of this process, and for those that none runs any more, while its lease is held."""

    def __init__(
        self,
        fleets: Sequence[Fleet],
        records: Records,
        clock: Clock,
        publish: Publish,
        supplier_of: Callable[[Sold], Supplier],
        period_seconds: float = PERIOD_SECONDS,
    ) -> None:
        self._fleets, self._records, self._clock, self._publish = fleets, records, clock, publish
        self._supplier_of, self._period_seconds = supplier_of, period_seconds
        self._said: dict[tuple[str, str], int] = {}
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Sweep until stopped."""
        while not self._stopping.is_set():
            try:
                await self.sweep()
            except (BusError, PublishError) as error:
                log.warning("the sweep waits", reason=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._period_seconds):
                    await self._stopping.wait()

    def stop(self) -> None:
        """Let `run` end."""
        self._stopping.set()

    async def sweep(self) -> None:
        """Look once at every supplier that is named or was."""
        now = self._clock.now()
        # Again, as what is of no record is judged below, and a first sweep may come before the first round of `keep_named`.
        await _name(self._fleets, self._records, now)
        records, ours = await self._records.all()
        ends = {fleet.name: ends_orphans(fleet) for fleet in self._fleets}
        found: dict[tuple[str, str], int] = {}
        heard = set()
        for sold in one_per_address(records):
            supplier = await self._opened(sold)
            if supplier is None:
                continue
            try:
                owned = await self._owned(sold, supplier)
                if owned is None:
                    continue
                heard.add(sold.address)
                for orphans in orphans_among(owned, sold.place, records, ours, ends, now, GONE_SECONDS, SILENT_SECONDS):
                    left = await self._treat(orphans, supplier)
                    key = (orphans.fleet, orphans.offer)
                    found[key] = found.get(key, 0) + left
            finally:
                await supplier.close()
        await self._tell_what_is_gone(found)
        await self._forget(records, found, heard, now)

    async def _opened(self, sold: Sold) -> Supplier | None:
        try:
            return self._supplier_of(sold)
        except PolicyError as error:
            log.warning("a supplier cannot be swept", fleet=sold.fleet, offer=sold.offer, reason=str(error))
            return None

    async def _owned(self, sold: Sold, supplier: Supplier) -> Sequence[Owned] | None:
        try:
            return await supplier.owned()
        except SupplierError as error:
            log.warning("nobody knows what a supplier holds", fleet=sold.fleet, offer=sold.offer, reason=str(error))
            return None

    async def _treat(self, orphans: Orphans, supplier: Supplier) -> int:
        """End what may be ended, say what was found, and return how many are left."""
        ended, failed = 0, ""
        for name in orphans.ids if orphans.may_end else ():
            try:
                await supplier.release(orphans.fleet, stand_in(orphans.offer), name)
                ended += 1
            except SupplierError as error:
                failed = failed or f"{name} could not be ended: {error}"
        count = len(orphans.ids)
        if ended or failed or self._said.get((orphans.fleet, orphans.offer)) != count:
            log.warning(
                "machines are held that no offer wants",
                fleet=orphans.fleet,
                offer=orphans.offer,
                machines=count,
                ended=ended,
                failed=failed,
            )
        names = ", ".join(orphans.ids[:NAMED_AT_MOST])
        since = from_unix(orphans.since_unix).isoformat().replace("+00:00", "Z")
        outcome = Outcome.FAILED if failed else Outcome.APPLIED if ended else Outcome.SKIPPED
        await self._say(orphans.fleet, orphans.offer, outcome, count, -ended, f"no offer wants these, held since {since}: {names}", failed)
        return count - ended

    async def _tell_what_is_gone(self, found: Mapping[tuple[str, str], int]) -> None:
        """Say of what was orphaned at the last sweep and is held no longer that it is gone."""
        for fleet, offer in [key for key, count in self._said.items() if count and key not in found]:
            await self._say(fleet, offer, Outcome.SKIPPED, 0, 0, "nothing is held any more that no offer wants", "")
        self._said = dict(found)

    async def _forget(self, records: Sequence[Sold], found: Mapping[tuple[str, str], int], heard: set[str], now: float) -> None:
        """Drop the records of offers that are long gone and hold nothing, as far as their suppliers answered."""
        for sold in records:
            if now - sold.seen_unix > SILENT_SECONDS and sold.address in heard and (sold.fleet, sold.offer) not in found:
                await self._records.forget(sold)

    async def _say(self, fleet: str, offer: str, outcome: Outcome, held: int, change: int, reason: str, error: str) -> None:
        try:
            event = Actuation(
                time=from_unix(self._clock.now()),
                fleet=fleet,
                offer=offer,
                decision=SWEEP,
                outcome=outcome,
                target=0,
                before=held,
                change=change,
                reason=reason,
                error=error,
            )
        except ValidationError:
            # Somebody else's marks may hold any text; a subject cannot.
            log.warning("a mark that is no name", fleet=fleet, offer=offer)
            return
        await self._publish(event)
