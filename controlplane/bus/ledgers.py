"""Ledgers of what offers cost, in KV, one text per fleet and offer, behind `actuators.ledger.LedgerStore`.

Owns only their storage; a ledger that cannot be written is written with the next listing, as it holds everything since.
"""

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client

from controlplane.contracts.errors import SupplierUnavailable
from controlplane.contracts.subjects import LEDGER_BUCKET

log = structlog.get_logger(__name__)


class KvLedgerStore:
    """A LedgerStore over the bucket of ledgers."""

    def __init__(self, client: Client) -> None:
        self._js = client.jetstream()

    async def read(self, fleet: str, offer: str) -> str | None:
        """Return what was written last; SupplierUnavailable while NATS is away, as going on from nothing would lose the past."""
        try:
            entry = await (await self._js.key_value(LEDGER_BUCKET)).get(f"{fleet}.{offer}")
        except (nats.js.errors.KeyNotFoundError, nats.js.errors.KeyDeletedError):
            return None
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise SupplierUnavailable(f"the ledger of {fleet}/{offer} cannot be read: {str(error) or type(error).__name__}") from error
        return (entry.value or b"").decode()

    async def write(self, fleet: str, offer: str, text: str) -> None:
        """Write it."""
        try:
            await (await self._js.key_value(LEDGER_BUCKET)).put(f"{fleet}.{offer}", text.encode())
        except (nats.errors.Error, OSError, TimeoutError) as error:
            log.warning("the ledger is not written", fleet=fleet, offer=offer, reason=str(error) or type(error).__name__)
