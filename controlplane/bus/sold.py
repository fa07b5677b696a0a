"""Records of what is bought from whom, in KV: what a sweep asks when the policy that named a supplier is gone.

Owns their storage only, behind `actuators.sold`; one record for each fleet, offer and place, renewed while a policy names it.
"""

import nats.errors
from nats.aio.client import Client

from actuators.sold import Sold
from controlplane.bus.keys import entries
from controlplane.contracts.errors import BusError
from controlplane.contracts.subjects import INTENT_BUCKET, SUPPLIER_BUCKET


class SoldRecords:
    """The bucket of suppliers. BusError while NATS does not answer."""

    def __init__(self, client: Client) -> None:
        self._js = client.jetstream()

    async def note(self, sold: Sold) -> None:
        """Write that an offer is named now."""
        try:
            await (await self._js.key_value(SUPPLIER_BUCKET)).put(sold.key, sold.dump().encode())
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise BusError(f"the record of {sold.fleet}/{sold.offer} is not written: {str(error) or type(error).__name__}") from error

    async def forget(self, sold: Sold) -> None:
        """Drop the record of an offer of which nothing is held there any more."""
        try:
            await (await self._js.key_value(SUPPLIER_BUCKET)).purge(sold.key)
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise BusError(f"the record of {sold.fleet}/{sold.offer} is not dropped: {str(error) or type(error).__name__}") from error

    async def all(self) -> tuple[list[Sold], set[tuple[str, str]]]:
        """Return every record, and each (fleet, offer) that anything was ever bought for."""
        try:
            records = [Sold.load((each.value or b"").decode()) for each in await entries(self._js, SUPPLIER_BUCKET)]
            ours = [str(each.key).split(".", 1) for each in await entries(self._js, INTENT_BUCKET)]
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise BusError(f"the records of suppliers cannot be read: {str(error) or type(error).__name__}") from error
        return records, {(fleet, offer) for fleet, offer in ours}
