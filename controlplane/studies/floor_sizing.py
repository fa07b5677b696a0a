"""How much of a fleet to reserve: a policy's offers and a history of demand, put to `policies.floor`, in whole lots of replicas.

Owns what a layer is compared with (the cheapest rented offer, and spill) and the reading of terms such as `1y=24.50`.
It must not print or draw: `commands.floor` and `floor_page` do.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from controlplane.contracts.errors import PolicyError, TidegateError
from controlplane.contracts.fleet import Fleet, Offer, Tier
from controlplane.contracts.units import SECONDS_PER_HOUR, parse_duration
from controlplane.traces.library import Array, Trace
from policies.advice import usd_per_unit
from policies.floor import FloorChoice, Instead, LayerUse, Term, layer_uses, parts_of, size_floor

YEAR_DAYS = 365
_TERM = re.compile(r"^(?:(?P<name>[^=:]+):)?(?P<length>[^=:]+)=(?P<usd>[0-9.]+)$")
_YEARS = re.compile(r"^(?P<years>[0-9]+(\.[0-9]+)?)y$")
# What nobody rents out costs more than any spill.
NEVER_USD_PER_HOUR = 1e15


@dataclass(frozen=True, slots=True)
class Sizing:
    """The answer for one fleet: choices, the best first, and per layer of one lot its use over all of the history and over its parts.

    Prices, savings and counts of `choices` are per lot of `lot` replicas; `held` is how many lots the policy's floor has now.
    """

    fleet: Fleet
    trace: Trace
    reserved: Offer
    rented: Offer | None
    lot: int
    held: int
    choices: tuple[FloorChoice, ...]
    use: LayerUse
    part_uses: tuple[LayerUse, ...]

    @property
    def best(self) -> FloorChoice:
        """Return the term that saves most."""
        return self.choices[0]

    def savings(self, use: LayerUse, choice: FloorChoice) -> Array:
        """Return USD per hour saved by reserving 0, 1, 2, … lots for a choice's term, f64[layers + 1]."""
        return np.concatenate(([0.0], np.cumsum(use.usd_per_hour - choice.term.usd_per_replica_hour)))


def size(fleet: Fleet, trace: Trace, scale: float, terms: Sequence[Term], offer: str | None = None) -> Sizing:
    """Return what to reserve of one offer (left out: the first of the floor, else the cheapest rented one).

    Terms are priced per replica. Without any, the offer's own price is taken for a year. PolicyError where nothing has a price.
    """
    rented = cheapest_rented(fleet)
    reserved = _reserved(fleet, rented, offer)
    lot = reserved.replicas_per_lot
    lot_terms = [Term(term.name, term.usd_per_replica_hour * lot, term.seconds) for term in terms or [_own_term(reserved)]]
    instead = _instead(fleet, reserved, rented)
    demand = trace.demand_per_second * scale
    use = layer_uses(demand, trace.step_seconds, instead)
    parts = tuple(layer_uses(part, trace.step_seconds, instead, len(use.used)) for part in parts_of(demand, trace.step_seconds))
    held = sum(one.max_replicas * one.capacity_per_second for one in fleet.tier(Tier.FLOOR)) / (instead.capacity_per_second * lot)
    choices = size_floor(demand, trace.step_seconds, lot_terms, instead)
    return Sizing(fleet, trace, reserved, rented, lot, round(held), choices, use, parts)


def cheapest_rented(fleet: Fleet) -> Offer | None:
    """Return the burst offer whose work is cheapest; None where none states a price."""
    priced = [(usd, offer) for offer in fleet.tier(Tier.BURST) if (usd := usd_per_unit(offer)) is not None]
    return min(priced, key=lambda pair: (pair[0], pair[1].name))[1] if priced else None


def read_term(text: str) -> Term:
    """Return the term that `[NAME:]LENGTH=USD` states, USD per replica-hour; a length is a duration or years, as in `1y=24.50`."""
    found = _TERM.match(text.strip())
    if found is None:
        raise TidegateError(f"--term {text}: write [NAME:]LENGTH=USD, USD per replica-hour, such as 1y=24.50 or block:14d=31")
    length = found["length"].strip()
    years = _YEARS.match(length)
    try:
        seconds = float(years["years"]) * YEAR_DAYS * 86400.0 if years else parse_duration(length)
        usd = float(found["usd"])
    except ValueError as error:
        raise TidegateError(f"--term {text}: {error}") from None
    if seconds <= 0.0:
        raise TidegateError(f"--term {text}: the length must be more than nothing")
    return Term((found["name"] or length).strip(), usd, seconds)


def _reserved(fleet: Fleet, rented: Offer | None, name: str | None) -> Offer:
    if name is not None:
        if name not in fleet.offer_by_name:
            raise PolicyError(f"fleet {fleet.name} has no offer {name}; it has {', '.join(fleet.offer_by_name)}")
        return fleet.offer_by_name[name]
    floor = fleet.tier(Tier.FLOOR)
    chosen = floor[0] if floor else rented
    if chosen is None:
        raise PolicyError(f"fleet {fleet.name} has neither a floor nor a burst offer with a price, so nothing can be sized")
    return chosen


def _own_term(reserved: Offer) -> Term:
    if reserved.usd_per_replica_hour is None or reserved.tier is not Tier.FLOOR:
        raise TidegateError(f"no committed price: give --term LENGTH=USD, USD per hour of one replica of {reserved.name}, such as 1y=24.50")
    return Term("as in the policy, 1y", reserved.usd_per_replica_hour, YEAR_DAYS * 86400.0)


def _instead(fleet: Fleet, reserved: Offer, rented: Offer | None) -> Instead:
    """Return how the work of one reserved lot is served otherwise: by the cheapest rented offer at its price per unit, or spilled."""
    if rented is None and fleet.spill is None:
        raise PolicyError(
            f"fleet {fleet.name} has no burst offer with a price and no spill: there is nothing to compare a reservation with"
        )
    capacity, lot = reserved.capacity_per_second, reserved.replicas_per_lot
    spill = fleet.spill.usd_per_unit if fleet.spill is not None else None
    if rented is None:
        return Instead(capacity, NEVER_USD_PER_HOUR, 0.0, 0.0, spill, lot)
    usd = (usd_per_unit(rented) or 0.0) * capacity * SECONDS_PER_HOUR
    return Instead(capacity, usd, rented.lead_time_seconds, rented.hold_seconds, spill, lot)
