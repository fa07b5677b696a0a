"""What EC2 says of price and room before anything is asked for: spot price history, Service Quotas, vCPUs in use.

Owns quotes, kept for a while because the calls are throttled; it must not buy. A price that EC2 does not tell is left out, so the
policy's counts; a quota that may not be read is left out too, and the purchase is refused by EC2 itself where it is used up.
https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from actuators.aws_api import AwsApi
from controlplane.contracts.errors import SupplierError, SupplierUnavailable, Throttled
from controlplane.contracts.events import Quote
from controlplane.contracts.fleet import Offer
from controlplane.contracts.units import from_unix

PRICE_SECONDS = 60.0
QUOTA_SECONDS = 120.0
QUOTE_LIFE_SECONDS = 600.0
LINUX = "Linux/UNIX"
# A value and when it was read, unix seconds.
Read = tuple[float, float | None]
ALIVE = {"Name": "instance-state-name", "Values": ["pending", "running"]}
# Families that share one quota of vCPUs: (on demand, spot).
QUOTA_CODES: Mapping[str, tuple[str, str]] = {
    "p": ("L-417A185B", "L-7212CCBC"),
    "g": ("L-DB2E81BA", "L-3819A6DF"),
    "vt": ("L-DB2E81BA", "L-3819A6DF"),
    "trn": ("L-2C3B7624", "L-6B0D517C"),
    "inf": ("L-1945791B", "L-B5D1601B"),
    "dl": ("L-6E869C2A", "L-85EED4F7"),
}


def family_of(instance_type: str) -> str:
    """Return the letters that a type begins with: `p` of p5en.48xlarge."""
    size = next((at for at, letter in enumerate(instance_type) if not letter.isalpha()), len(instance_type))
    return instance_type[:size]


class AwsQuotes:
    """Quotes of one offer's instance types."""

    def __init__(self, api: AwsApi, options: Mapping[str, Any], clock: Callable[[], float]) -> None:
        """Ask nothing yet."""
        self._api, self._clock = api, clock
        self._types: tuple[str, ...] = tuple(options["instance_types"])
        self._spot = options["purchase"] == "spot"
        self._usd: Read | None = None
        self._room: Read | None = None

    async def quote(self, offer: Offer) -> Quote | None:
        """Return price and room, None where neither is known. What cannot be read now keeps its last value until that has expired."""
        now = self._clock()
        if self._spot and self._is_due(self._usd, now, PRICE_SECONDS):
            self._usd = await self._read(self._read_usd(now), self._usd, now)
        if self._is_due(self._room, now, QUOTA_SECONDS):
            self._room = await self._read(self._read_room(), self._room, now)
        known = [read for read in (self._usd, self._room) if read is not None and now - read[0] < QUOTE_LIFE_SECONDS]
        usd = self._usd[1] if self._usd in known and self._usd is not None else None
        machines = self._room[1] if self._room in known and self._room is not None else None
        if usd is None and machines is None:
            return None
        return Quote(
            time=from_unix(now),
            offer=offer.name,
            usd_per_replica_hour=None if usd is None else usd / offer.replicas_per_lot,
            stock_replicas=None if machines is None else int(machines) * offer.replicas_per_lot,
            expires=from_unix(min(read[0] for read in known) + QUOTE_LIFE_SECONDS),
        )

    @staticmethod
    def _is_due(read: Read | None, now: float, seconds: float) -> bool:
        return read is None or not 0.0 <= now - read[0] <= seconds

    async def _read(self, question: Awaitable[float | None], last: Read | None, now: float) -> Read | None:
        """Return a new value with its time, the last one while AWS does not answer, nothing where it may not be read."""
        try:
            return now, await question
        except (Throttled, SupplierUnavailable):
            return last
        except SupplierError:
            return now, None

    async def _read_usd(self, now: float) -> float | None:
        """Return the price of the dearest pool that the fleet may land in, so that a budget counts no less than what is paid."""
        history = await self._api.pages(
            "ec2",
            "describe_spot_price_history",
            "SpotPriceHistory",
            InstanceTypes=list(self._types),
            ProductDescriptions=[LINUX],
            StartTime=from_unix(now),
            EndTime=from_unix(now),
        )
        newest: dict[tuple[str, str], tuple[Any, float]] = {}
        for entry in history:
            pool = (entry["InstanceType"], entry["AvailabilityZone"])
            newest[pool] = max(newest.get(pool, (entry["Timestamp"], 0.0)), (entry["Timestamp"], float(entry["SpotPrice"])))
        return max((usd for _, usd in newest.values()), default=None)

    async def _read_room(self) -> int | None:
        """Return how many machines of the largest type fit into what is left of the quota, None for a family without one of its own."""
        family = family_of(self._types[0])
        codes = QUOTA_CODES.get(family)
        if codes is None or any(QUOTA_CODES.get(family_of(kind)) != codes for kind in self._types):
            return None
        answer = await self._api.call("service-quotas", "get_service_quota", ServiceCode="ec2", QuotaCode=codes[self._spot])
        quota = int(answer["Quota"]["Value"])
        running = [
            instance["InstanceType"]
            for reservation in await self._api.pages("ec2", "describe_instances", "Reservations", Filters=[ALIVE])
            for instance in reservation["Instances"]
            if (instance.get("InstanceLifecycle") == "spot") == self._spot and QUOTA_CODES.get(family_of(instance["InstanceType"])) == codes
        ]
        vcpus = await self._vcpus({*self._types, *running})
        left = quota - sum(vcpus[kind] for kind in running)
        return max(0, left) // max(vcpus[kind] for kind in self._types)

    async def _vcpus(self, types: set[str]) -> dict[str, int]:
        found = await self._api.pages("ec2", "describe_instance_types", "InstanceTypes", InstanceTypes=sorted(types))
        return {entry["InstanceType"]: entry["VCpuInfo"]["DefaultVCpus"] for entry in found}
