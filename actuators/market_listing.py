"""A supplier that remembers its last listing: what a market goes on counting while the supplier is silent.

Owns that memory only, and passes everything on; `market` reads it.
"""

from actuators.api import Intent
from actuators.holdings import Listing, Owned, Supplier
from controlplane.contracts.events import Quote
from controlplane.contracts.fleet import Offer


class Watched:
    """A Supplier that remembers its last listing."""

    def __init__(self, inner: Supplier) -> None:
        """Pass everything on."""
        self._inner = inner
        self.remembers_tokens = inner.remembers_tokens
        self.last: Listing | None = None

    async def listing(self, fleet: str, offer: Offer) -> Listing:
        """Return the listing, and keep it."""
        self.last = await self._inner.listing(fleet, offer)
        return self.last

    async def buy(self, intent: Intent, offer: Offer) -> tuple[str, ...]:
        """Return what was bought."""
        return await self._inner.buy(intent, offer)

    async def release(self, fleet: str, offer: Offer, replica: str) -> None:
        """Give a replica back."""
        await self._inner.release(fleet, offer, replica)

    async def owned(self) -> tuple[Owned, ...]:
        """Return what is marked as ours."""
        return await self._inner.owned()

    async def quote(self, offer: Offer) -> Quote | None:
        """Return the price and stock now."""
        return await self._inner.quote(offer)

    async def close(self) -> None:
        """Let go of connections."""
        await self._inner.close()
