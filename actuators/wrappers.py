"""What any actuator can be wrapped in: dry run, a time limit, a record of every attempt.

Owns behaviour that is the same for all kinds; it must not know a kind. Wrap as `Recorded(TimeLimited(actuator, …), …)`, and
`DryRun` around that where a fleet is in recommend mode, or frozen.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from actuators.api import Actuator, Failed, Result, Skipped, Watching, failed
from controlplane.contracts.errors import SupplierError, SupplierUnavailable
from controlplane.contracts.events import PoolStatus, Quote
from controlplane.contracts.fleet import Offer


class _Wrapper:
    """Passes everything on."""

    def __init__(self, inner: Actuator) -> None:
        self._inner = inner

    async def observe(self, fleet: str, offer: Offer) -> PoolStatus:
        """Return what the wrapped actuator observes."""
        return await self._inner.observe(fleet, offer)

    async def apply(self, fleet: str, offer: Offer, target: int) -> Result:
        """Return what the wrapped actuator did."""
        return await self._inner.apply(fleet, offer, target)

    async def quote(self, offer: Offer) -> Quote | None:
        """Return the wrapped actuator's quote."""
        return await self._inner.quote(offer)

    def on_change(self, fleet: str, offer: Offer, wake: Callable[[], None]) -> None:
        """Pass the wish on to one that is told of changes; nothing comes of it elsewhere."""
        if isinstance(self._inner, Watching):
            self._inner.on_change(fleet, offer, wake)

    async def close(self) -> None:
        """Close the wrapped actuator."""
        await self._inner.close()


class DryRun(_Wrapper):
    """Hands off: observes and quotes, and never acts; `apply` makes no call at all."""

    async def apply(self, fleet: str, offer: Offer, target: int) -> Result:
        """Answer what would be aimed at."""
        return Skipped(f"dry run: the target of {fleet}/{offer.name} would be {target}")


class TimeLimited(_Wrapper):
    """Gives each call `seconds` of wall time. A purchase that is cut off has an unknown outcome, which its intent settles."""

    def __init__(self, inner: Actuator, seconds: float) -> None:
        super().__init__(inner)
        self._seconds = seconds

    async def observe(self, fleet: str, offer: Offer) -> PoolStatus:
        """Return what is observed in time; SupplierUnavailable otherwise."""
        try:
            async with asyncio.timeout(self._seconds):
                return await self._inner.observe(fleet, offer)
        except TimeoutError as error:
            raise SupplierUnavailable(f"observing {offer.name} took longer than {self._seconds:g} s") from error

    async def apply(self, fleet: str, offer: Offer, target: int) -> Result:
        """Return what was done in time; a retryable failure otherwise."""
        try:
            async with asyncio.timeout(self._seconds):
                return await self._inner.apply(fleet, offer, target)
        except TimeoutError:
            return Failed(f"no answer within {self._seconds:g} s: the outcome is not known yet", retryable=True)

    async def quote(self, offer: Offer) -> Quote | None:
        """Return the quote in time; SupplierUnavailable otherwise."""
        try:
            async with asyncio.timeout(self._seconds):
                return await self._inner.quote(offer)
        except TimeoutError as error:
            raise SupplierUnavailable(f"the quote of {offer.name} took longer than {self._seconds:g} s") from error


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of `apply`, as it went. `seconds` is by the clock that the recorder was given."""

    fleet: str
    offer: str
    target: int
    seconds: float
    result: Result


class Recorded(_Wrapper):
    """Turns what nobody expected into values, so that one broken actuator never stops the others, and records every attempt.

    `apply` answers an unexpected exception with a retryable Failed; `observe` and `quote` raise SupplierUnavailable for it.
    """

    def __init__(self, inner: Actuator, record: Callable[[Attempt], None], clock: Callable[[], float]) -> None:
        super().__init__(inner)
        self._record, self._clock = record, clock

    async def observe(self, fleet: str, offer: Offer) -> PoolStatus:
        """Return what is observed, with typed errors only."""
        try:
            return await self._inner.observe(fleet, offer)
        except SupplierError:
            raise
        except Exception as error:
            raise SupplierUnavailable(_unexpected(error)) from error

    async def apply(self, fleet: str, offer: Offer, target: int) -> Result:
        """Return what was done; any exception is a Failed."""
        started = self._clock()
        try:
            result = await self._inner.apply(fleet, offer, target)
        except SupplierError as error:
            result = failed(error)
        except Exception as error:
            result = Failed(_unexpected(error), retryable=True)
        self._record(Attempt(fleet, offer.name, target, self._clock() - started, result))
        return result

    async def quote(self, offer: Offer) -> Quote | None:
        """Return the quote, with typed errors only."""
        try:
            return await self._inner.quote(offer)
        except SupplierError:
            raise
        except Exception as error:
            raise SupplierUnavailable(_unexpected(error)) from error


def _unexpected(error: Exception) -> str:
    return f"unexpected {type(error).__name__}: {error}"
