"""What the fields of an aws, market or gateway block must agree on, checked on plain data.

Owns these errors only; `check` asks for them beside its own.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from controlplane.contracts.units import parse_duration
from policies.problems import Finding, Path, nearest, value_at
from policies.schema_suppliers import SUPPLIERS

DAY_SECONDS = 86400.0


def check_rented(path: Path, offer: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what is wrong with an offer's aws or market block."""
    aws, market = offer.get("aws"), offer.get("market")
    if isinstance(aws, Mapping):
        yield from _check_aws((*path, "aws"), aws)
    if isinstance(market, Mapping):
        yield from _check_market((*path, "market"), market)


def _check_aws(path: Path, aws: Mapping[str, Any]) -> Iterator[Finding]:
    purchase, types = aws.get("purchase"), aws.get("instanceTypes")
    if purchase == "capacityBlock" and "capacityBlock" not in aws:
        yield Finding((*path, "capacityBlock"), "is required with purchase capacityBlock: give it `maxUsd`, the most money for blocks")
    if purchase != "capacityBlock" and "capacityBlock" in aws:
        yield Finding((*path, "capacityBlock"), "is only for purchase capacityBlock; remove it or change the purchase")
    if purchase == "capacityReservation" and "availabilityZone" not in aws:
        yield Finding((*path, "availabilityZone"), "is required with purchase capacityReservation, such as us-east-1a")
    if purchase in ("capacityReservation", "capacityBlock") and isinstance(types, list) and len(types) > 1:
        yield Finding((*path, "instanceTypes"), f"names {len(types)} types; purchase {purchase} takes exactly one")
    yield from _check_days((*path, "capacityBlock", "duration"), value_at(aws, ("capacityBlock", "duration")))
    queue = aws.get("noticesQueue")
    if queue is not None and purchase != "spot":
        yield Finding((*path, "noticesQueue"), "is only for purchase spot: nothing else is interrupted; remove it")


def _check_days(path: Path, duration: object) -> Iterator[Finding]:
    try:
        seconds = parse_duration(duration) if isinstance(duration, str) else 0.0
    except ValueError:
        return
    if seconds % DAY_SECONDS:
        yield Finding(path, "is not whole days: AWS sells blocks of 1 to 14 days, such as 2d, and of whole weeks beyond")


def _check_market(path: Path, market: Mapping[str, Any]) -> Iterator[Finding]:
    named = market.get("suppliers")
    clouds = market.get("simulated")
    known = {*SUPPLIERS, *(clouds if isinstance(clouds, Mapping) else ())}
    for index, name in enumerate(named if isinstance(named, list) else []):
        if isinstance(name, str) and name not in known:
            hint = nearest(name, known) or f"; known here: {', '.join(sorted(known))}"
            yield Finding((*path, "suppliers", index), f"is no supplier that tidegate knows{hint}")
    if isinstance(named, list):
        for name in sorted((known & market.keys() | set(clouds if isinstance(clouds, Mapping) else ())) - set(map(str, named))):
            where = name if name in market else "simulated"
            yield Finding((*path, where), f"configures {name}, which is not among suppliers; add it there, or remove this")
