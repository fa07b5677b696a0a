"""Texts in KV, one per fleet and offer: ledgers of what offers cost, and how far suppliers are trusted.

Owns only their storage, behind `actuators.ledger.LedgerStore`; what cannot be written now is written the next time, as each text holds
everything since.
"""

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client

from controlplane.contracts.errors import SupplierUnavailable
from controlplane.contracts.subjects import LEDGER_BUCKET

log = structlog.get_logger(__name__)


class KvLedgerStore:
    """A LedgerStore over a bucket, that of ledgers where none is named."""

    def __init__(self, client: Client, bucket: str = LEDGER_BUCKET) -> None:
        self._js, self._bucket = client.jetstream(), bucket

    async def read(self, fleet: str, offer: str) -> str | None:
        """Return what was written last; SupplierUnavailable while NATS is away, as going on from nothing would lose the past."""
        try:
            entry = await (await self._js.key_value(self._bucket)).get(f"{fleet}.{offer}")
        except (nats.js.errors.KeyNotFoundError, nats.js.errors.KeyDeletedError):
            return None
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise SupplierUnavailable(f"{self._bucket} of {fleet}/{offer} cannot be read: {str(error) or type(error).__name__}") from error
        return (entry.value or b"").decode()

    async def write(self, fleet: str, offer: str, text: str) -> bool:
        """Write it, and return whether that could be done; why not is logged."""
        try:
            await (await self._js.key_value(self._bucket)).put(f"{fleet}.{offer}", text.encode())
        except (nats.errors.Error, OSError, TimeoutError) as error:
            log.warning("a record is not written", bucket=self._bucket, fleet=fleet, offer=offer, reason=str(error) or type(error).__name__)
            return False
        return True
