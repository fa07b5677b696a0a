"""`tidegate sweep` and `tidegate capacity-block`: what a person does at suppliers, beside what the actuators do by themselves.

Owns finding what is marked as ours and belongs to no offer any more, and buying one priced capacity block by its name.
It must not decide how many replicas are wanted.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from actuators.aws_actuator import aws_supplier
from actuators.aws_api import AwsApi
from actuators.aws_blocks import BlockSupplier
from actuators.holdings import Owned, Supplier
from actuators.sold import Orphans, Sold, is_sold, one_per_address, orphans_among, sold_by, stand_in
from controlplane.bus.connect import Credentials, connect
from controlplane.bus.sold import SoldRecords
from controlplane.config import load_fleets, read_environment, read_secret
from controlplane.contracts.errors import PolicyError, SupplierError, TidegateError
from controlplane.contracts.units import from_unix

# Of the fleets in the policies at hand nothing else names an offer. Another fleet's counts as gone when nobody has run it for so long; and
# it is ended only after a day, as whoever runs it may be down.
GONE_SECONDS, SILENT_SECONDS = 900.0, 86400.0


async def sweep(paths: Sequence[Path], *, end: bool, nats_url: str | None = None) -> tuple[list[str], int]:
    """Return a line for each thing that is ours and unwanted, and the exit code: 1 where something unwanted is left.

    With NATS, suppliers that no policy names any more are asked too, and fleets that are in no policy here count where they were run.
    """
    fleets, now = load_fleets(paths), time.time()
    wanted = [one for fleet in fleets for one in sold_by(fleet, now)]
    records, ours = await _remembered(nats_url)
    fleets_here = {fleet.name for fleet in fleets}
    # What these policies do not name is gone, however lately another process named it.
    known = [*wanted, *(replace(one, seen_unix=0.0) if one.fleet in fleets_here else one for one in records)]
    asked = one_per_address([*wanted, *records])
    if not asked:
        raise PolicyError("no offer of these policies names a supplier that can be swept: aws, market, or simulated with a url")
    lines: list[str] = []
    found = left = 0
    ends = dict.fromkeys(fleets_here, end)
    for sold in asked:
        try:
            supplier = sold.supplier(read_secret)
        except PolicyError as error:
            lines.append(_unknown(sold, error))
            continue
        try:
            owned = await _owned(sold, supplier, lines)
            for orphans in orphans_among(owned, sold.place, known, ours, ends, now, GONE_SECONDS, SILENT_SECONDS):
                since = from_unix(orphans.since_unix).isoformat().replace("+00:00", "Z")
                may_end = end and (orphans.fleet in ends or orphans.is_silent)
                for name in orphans.ids:
                    ended = may_end and await _ended(supplier, orphans, name, lines)
                    found, left = found + 1, left + (not ended)
                    lines.append(f"{'ended' if ended else 'unwanted'} {name} of {orphans.fleet}/{orphans.offer}, held since {since}")
        finally:
            await supplier.close()
    unknown = sum(line.startswith("unknown") for line in lines)
    tended = sum(is_sold(offer) for fleet in fleets for offer in fleet.offers)
    alone = sum(is_sold(offer) for fleet in fleets for offer in fleet.ineligible_offers)
    lines.append(f"{found} unwanted, {found - left} ended; {tended} offers are looked after by their actuators")
    if alone:
        lines[-1] += f", {alone} are not eligible and left alone"
    return lines, 1 if left or unknown else 0


async def _remembered(nats_url: str | None) -> tuple[list[Sold], set[tuple[str, str]]]:
    """Return what was ever sold to this installation and to whom, nothing without NATS."""
    if nats_url is None:
        return [], set()
    client = await connect(nats_url, Credentials(creds_file=read_environment().nats_credentials_file))
    try:
        return await SoldRecords(client).all()
    finally:
        await client.close()


async def _owned(sold: Sold, supplier: Supplier, lines: list[str]) -> Sequence[Owned]:
    try:
        return await supplier.owned()
    except SupplierError as error:
        lines.append(_unknown(sold, error))
        return ()


def _unknown(sold: Sold, error: TidegateError) -> str:
    return f"unknown what the supplier of {sold.fleet}/{sold.offer} holds: {error}"


async def _ended(supplier: Supplier, orphans: Orphans, name: str, lines: list[str]) -> bool:
    try:
        await supplier.release(orphans.fleet, stand_in(orphans.offer), name)
    except SupplierError as error:
        lines.append(f"could not end {name}: {error}")
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
