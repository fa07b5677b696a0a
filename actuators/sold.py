"""What is bought from whom: each supplier of each offer as a record that outlives the offer, and what is still held of those that are gone.

Owns the records and the pure choice of what is orphaned; it must not end anything. `controlplane.services.sweeper` and the command
`sweep` act on it. A record holds addresses and names of variables and files, never a secret.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any

from actuators.cloud_http import Secret
from actuators.holdings import RESERVATION, SLOT, Owned, Supplier
from actuators.market import part_of
from actuators.market_suppliers import supplier_of
from actuators.simulated import pool_of, simulated_supplier
from controlplane.contracts.fleet import Fleet, Mode, Offer, Tier

# What the actuators of AWS's purchase options look after, where it is not instances of all kinds.
KEPT: Mapping[str, tuple[str, ...]] = {"capacityReservation": ("", SLOT, RESERVATION), "capacityBlock": (SLOT,)}
# All that it takes to look for machines and to end them; what is rented, and what it is started with, is no business of a record.
AWS_WAY_IN, CLOUD_WAY_IN = ("region", "purchase", "instance_types"), ("url", "api_key_env", "api_key_file")


@dataclass(frozen=True, slots=True)
class Sold:
    """One supplier of one offer. `offer` is the name that its purchases carry, `name` the supplier's within a market.

    `ends_orphans`: what the policy that named it last says of machines that nobody wants. `seen_unix` is when it named it last.
    """

    fleet: str
    offer: str
    kind: str
    name: str
    options: Mapping[str, Any]
    ends_orphans: bool = False
    seen_unix: float = 0.0

    @property
    def place(self) -> str:
        """Where its machines are, whichever way leads there: machines of one place are never those of another."""
        if self.kind == "aws":
            return f"aws {self.options['region']}"
        block = self._block
        if isinstance(block, Mapping):
            return f"{self.name} {str(block.get('url')).rstrip('/')}"
        return f"simulated {str(block).rstrip('/')}"

    @property
    def address(self) -> str:
        """The way there, by which all that is ours is listed at once: two offers of one region, or of one account's key, are one."""
        return self.place if self.kind == "aws" else f"{self.name} {json.dumps(self._block, sort_keys=True, default=str)}"

    @property
    def _block(self) -> Any:
        if self.kind == "simulated":
            return self.options["url"]
        clouds = self.options.get("simulated") or {}
        return self.options.get(f"{self.name}_") or self.options.get(self.name) or clouds.get(self.name)

    @property
    def key(self) -> str:
        """The record's name: an offer that moves leaves a record of the place that it was at."""
        return f"{self.fleet}.{self.offer}.{blake2b(self.place.encode(), digest_size=8).hexdigest()}"

    def keeps(self, one: Owned) -> bool:
        """Return whether this offer's actuator looks after such a thing, were it the offer's."""
        return self.kind != "aws" or one.form in KEPT.get(str(self.options.get("purchase")), ("", SLOT))

    def dump(self) -> str:
        """Return it as JSON."""
        return json.dumps({**asdict(self), "options": dict(self.options)}, default=dict)

    @classmethod
    def load(cls, text: str) -> "Sold":
        """Return what `dump` wrote."""
        return cls(**json.loads(text))

    def supplier(self, secret: Secret) -> Supplier:
        """Return the supplier, to be closed by the caller; PolicyError where it cannot be made."""
        if self.kind == "aws":
            # A heavy SDK, which many never need.
            from actuators.aws import AwsSupplier
            from actuators.aws_api import AwsApi
            from actuators.readiness import probe_of

            # Whatever the offer bought, all that an offer which is no more may have bought in the region is looked for.
            return AwsSupplier(AwsApi(str(self.options["region"])), self.options, probe_of(self.options), None)
        if self.kind == "simulated":
            return simulated_supplier(str(self.options["url"]))
        return supplier_of(self.name, self.options, secret)


def ends_orphans(fleet: Fleet) -> bool:
    """Return whether a fleet ends its orphans: where its policy says so, acts, and is not frozen."""
    return fleet.guard.ends_orphans and fleet.guard.mode is Mode.ACT and not fleet.guard.frozen


def is_sold(offer: Offer) -> bool:
    """Return whether an offer is bought from a supplier that can be asked what is ours."""
    return offer.actuator in ("aws", "market") or (offer.actuator == "simulated" and bool(offer.actuator_options.get("url")))


def sold_by(fleet: Fleet, now_unix: float = 0.0) -> list[Sold]:
    """Return every supplier that a fleet's offers name, those too that cannot serve it now: what these hold is left alone."""
    ends, found = ends_orphans(fleet), []
    for offer in (*fleet.offers, *fleet.ineligible_offers):
        if not is_sold(offer):
            continue
        options = offer.actuator_options
        if offer.actuator == "aws":
            found.append(Sold(fleet.name, offer.name, "aws", "", _some(options, AWS_WAY_IN), ends, now_unix))
        elif offer.actuator == "simulated":
            found.append(Sold(fleet.name, pool_of(offer), "simulated", "", _some(options, ("url",)), ends, now_unix))
        else:
            for name in options["suppliers"]:  # type: ignore[attr-defined]
                part, way = part_of(offer, str(name)).name, _way_in(str(name), options)
                found.append(Sold(fleet.name, part, "market", str(name), way, ends, now_unix))
    return found


def _some(options: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: options[name] for name in names if name in options}


def _way_in(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what leads to one supplier of a market."""
    clouds = options.get("simulated") or {}
    if name in clouds:
        return {"simulated": {name: clouds[name]}}
    return {field: _some(block, CLOUD_WAY_IN) for field in (f"{name}_", name) if (block := options.get(field))}


def stand_in(offer: str) -> Offer:
    """Return an offer of this name, for giving back what it bought when nothing else is known of it."""
    return Offer(offer, Tier.BURST, 1.0, 0, 0, None, 0.0)


def one_per_address(sold: Iterable[Sold]) -> list[Sold]:
    """Return one of those that list the same things: the one that was named last, as its way in is the likeliest to work."""
    newest: dict[str, Sold] = {}
    for one in sold:
        known = newest.get(one.address)
        if known is None or one.seen_unix > known.seen_unix:
            newest[one.address] = one
    return list(newest.values())


@dataclass(frozen=True, slots=True)
class Orphans:
    """What is still held for one offer that nobody names any more. `may_end`: the policy that named it last says so, and it is time.

    `is_silent`: nobody has named it for so long that no process which runs it can only be down.
    """

    fleet: str
    offer: str
    ids: tuple[str, ...]
    since_unix: float
    may_end: bool
    is_silent: bool


def orphans_among(
    owned: Iterable[Owned],
    place: str,
    records: Collection[Sold],
    ours: Collection[tuple[str, str]],
    policies: Mapping[str, bool],
    now_unix: float,
    gone_seconds: float,
    silent_seconds: float,
) -> list[Orphans]:
    """Return what no offer wants of what is held at a place, by offer.

    What carries the name of a fleet that this installation never had is somebody else's. `ours` are (fleet, offer) that purchases were made
    for, `policies` whether each fleet of this process ends its orphans. An offer counts as gone from a place when nobody has named it there
    for `gone_seconds`; one that is named elsewhere and never was there has left nothing there. Where its fleet is not in this process's
    policies another process may run it, which may be down, so nothing of it is ended before it has been silent for `silent_seconds`.
    """
    by_key = {(one.fleet, one.offer): one for one in sorted(records, key=lambda one: one.seen_unix) if one.place == place}
    fresh = [one for one in records if now_unix - one.seen_unix <= gone_seconds]
    elsewhere = {(one.fleet, one.offer) for one in fresh} - by_key.keys()
    fleets = {one.fleet for one in records} | {fleet for fleet, _ in ours} | policies.keys()
    found: dict[tuple[str, str], list[Owned]] = {}
    for one in owned:
        key = (one.fleet, one.offer)
        record = by_key.get(key)
        is_wanted = key in elsewhere if record is None else record in fresh and record.keeps(one)
        if one.fleet in fleets and not is_wanted:
            found.setdefault(key, []).append(one)
    orphans = []
    for (fleet, offer), machines in sorted(found.items()):
        record = by_key.get((fleet, offer))
        ends = policies.get(fleet, record is not None and record.ends_orphans)
        silent = record is not None and now_unix - record.seen_unix > silent_seconds
        since = min(one.requested_unix for one in machines)
        # What was just bought may be of an offer whose record is still being written.
        old = now_unix - max(one.requested_unix for one in machines) > gone_seconds
        may_end = ends and old and (fleet in policies or silent)
        orphans.append(Orphans(fleet, offer, tuple(one.id for one in machines), since, may_end, silent))
    return orphans
