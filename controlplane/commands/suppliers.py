"""`tidegate sweep` and `tidegate capacity-block`: what a person does at suppliers, beside what the actuators do by themselves.

Owns finding what is marked as ours and belongs to no offer any more, and buying one priced capacity block by its name.
It must not decide how many replicas are wanted.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from actuators.aws import AwsSupplier
from actuators.aws_actuator import aws_supplier
from actuators.aws_api import AwsApi
from actuators.aws_blocks import BlockSupplier
from actuators.holdings import Owned, Supplier
from actuators.market import part_of
from actuators.market_suppliers import supplier_of
from actuators.readiness import probe_of
from actuators.simulated import pool_of, simulated_supplier
from controlplane.config import load_fleets, read_secret
from controlplane.contracts.errors import PolicyError, SupplierError, TidegateError
from controlplane.contracts.fleet import Fleet, Offer
from controlplane.contracts.units import from_unix


@dataclass(frozen=True, slots=True)
class Sold:
    """A supplier that a fleet buys from, under the name that its purchases carry."""

    fleet: str
    offer: Offer
    supplier: Supplier


def sold_by(fleet: Fleet) -> list[Sold]:
    """Return every supplier that a fleet's offers name."""
    found: list[Sold] = []
    for offer in fleet.offers:
        options = offer.actuator_options
        if offer.actuator == "aws":
            # Whatever the offer buys, all that an offer which is no more may have bought in the region is looked for.
            found.append(Sold(fleet.name, offer, AwsSupplier(AwsApi(str(options["region"])), options, probe_of(options), None)))
        elif offer.actuator == "simulated" and options.get("url"):
            found.append(Sold(fleet.name, replace(offer, name=pool_of(offer)), simulated_supplier(str(options["url"]))))
        elif offer.actuator == "market":
            names = [str(name) for name in options["suppliers"]]  # type: ignore[attr-defined]
            found += [Sold(fleet.name, part_of(offer, name), supplier_of(name, options, read_secret)) for name in names]
    return found


@asynccontextmanager
async def opened(fleets: Sequence[Fleet]) -> AsyncIterator[list[Sold]]:
    """Hand out all suppliers, and close them at the end."""
    sold = [one for fleet in fleets for one in sold_by(fleet)]
    try:
        yield sold
    finally:
        for one in sold:
            await one.supplier.close()


async def sweep(paths: Sequence[Path], *, end: bool) -> tuple[list[str], int]:
    """Return a line for each thing that is ours and unwanted, and the exit code: 1 where something unwanted is left."""
    fleets = load_fleets(paths)
    names = {fleet.name for fleet in fleets}
    lines: list[str] = []
    left = 0
    async with opened(fleets) as sold:
        if not sold:
            raise PolicyError("no offer of these policies names a supplier that can be swept: aws, market, or simulated with a url")
        wanted = {(one.fleet, one.offer.name) for one in sold}
        seen: set[str] = set()
        for one in sold:
            for owned in await _owned(one, lines):
                if owned.id in seen or owned.fleet not in names or (owned.fleet, owned.offer) in wanted:
                    continue
                seen.add(owned.id)
                ended = end and await _ended(one, owned, lines)
                left += not ended
                since = from_unix(owned.requested_unix).isoformat().replace("+00:00", "Z")
                lines.append(f"{'ended' if ended else 'unwanted'} {owned.id} of {owned.fleet}/{owned.offer}, held since {since}")
    unknown = sum(line.startswith("unknown") for line in lines)
    lines.append(f"{len(seen)} unwanted, {len(seen) - left} ended; {len(wanted)} offers are looked after by their actuators")
    return lines, 1 if left or unknown else 0


async def _owned(sold: Sold, lines: list[str]) -> Sequence[Owned]:
    try:
        return await sold.supplier.owned()
    except SupplierError as error:
        lines.append(f"unknown what the supplier of {sold.fleet}/{sold.offer.name} holds: {error}")
        return ()


async def _ended(sold: Sold, owned: Owned, lines: list[str]) -> bool:
    try:
        await sold.supplier.release(owned.fleet, replace(sold.offer, name=owned.offer, replicas_per_lot=1), owned.id)
    except SupplierError as error:
        lines.append(f"could not end {owned.id}: {error}")
        return False
    return True


async def capacity_block(path: Path, offer_name: str, machines: int, buy: str | None, max_usd: float | None) -> list[str]:
    """Return a line for each block on offer; with `buy`, purchase that one within `max_usd` and say so."""
    loaded = load_fleets([path])
    fleets = [fleet for fleet in loaded if offer_name in fleet.offer_by_name]
    if len(fleets) != 1:
        offers = ", ".join(f"{fleet.name}/{name}" for fleet in loaded for name in fleet.offer_by_name)
        raise PolicyError(f"{path} has {len(fleets)} fleets with an offer {offer_name!r}, and one is needed; its offers are {offers}")
    if buy is not None and max_usd is None:
        raise TidegateError("--buy needs --max-usd: the most that may be spent on blocks held together, USD")
    offer = fleets[0].offer_by_name[offer_name]
    if offer.actuator != "aws" or offer.actuator_options.get("purchase") != "capacityBlock":
        raise PolicyError(f"the offer {offer_name} is not bought as a capacity block; set aws.purchase: capacityBlock")
    supplier = aws_supplier(offer.actuator_options, AwsApi(str(offer.actuator_options["region"])))
    assert isinstance(supplier, BlockSupplier)
    try:
        found = await supplier.offerings(machines)
        if buy is None or max_usd is None:
            return [_priced(block) for block in found] or [f"no block of {machines} machines is on offer"]
        chosen = next((block for block in found if block["CapacityBlockOfferingId"] == buy), None)
        if chosen is None:
            raise TidegateError(f"the block {buy} is no longer on offer; list the blocks again without --buy")
        await supplier.purchase(chosen, fleets[0].name, offer, f"by-hand.{buy}"[:64], max_usd)
        return [f"bought {_priced(chosen)}"]
    finally:
        await supplier.close()


def _priced(block: dict[str, object]) -> str:
    begins = str(block["StartDate"])
    return (
        f"{block['CapacityBlockOfferingId']}: {block['InstanceCount']} × {block['InstanceType']} in {block['AvailabilityZone']} "
        f"from {begins}, {block['CapacityBlockDurationHours']} h, {float(str(block['UpfrontFee'])):.2f} USD"
    )
