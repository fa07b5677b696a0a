"""Moving a fleet's total without choosing again: keep more of what is held, or ask for less of what is new, in whole lots.

Owns the operations that every later stage uses to bend per-offer targets, always dropping the dearest work first and restoring
the cheapest first. It decides nothing; `policies.stabilize` and `policies.guard` say how far.
"""

from collections.abc import Sequence

from controlplane.contracts.fleet import Offer, Tier
from policies.view import OfferView, Targets


def total(targets: Targets) -> int:
    """Return the replicas of all offers together."""
    return sum(targets.values())


def held_of(offers: Sequence[OfferView]) -> Targets:
    """Return what is held of every offer, ready and pending together."""
    return {seen.offer.name: seen.ready + seen.pending for seen in offers}


def by_price(offers: Sequence[OfferView]) -> list[OfferView]:
    """Return offers cheapest per unit of work first: sunk floors, then metered floors, then rented offers."""
    return sorted(offers, key=_price_key) if len(offers) > 1 else list(offers)


def _price_key(seen: OfferView) -> tuple[bool, float, float, str]:
    offer = seen.offer
    given_up = offer.opportunity_usd_per_replica_hour / offer.capacity_per_second
    return offer.tier is not Tier.FLOOR, given_up, seen.usd_per_unit, offer.name


def lots_up(count: int, offer: Offer) -> int:
    """Return the next whole number of lots, in replicas."""
    lot = offer.replicas_per_lot
    return -(-count // lot) * lot


def lots_down(count: int, offer: Offer) -> int:
    """Return the last whole number of lots, in replicas."""
    return count // offer.replicas_per_lot * offer.replicas_per_lot


def keep_more(targets: Targets, offers: Sequence[OfferView], least: int) -> Targets:
    """Give back fewer held replicas, cheapest first, until the total is `least` or nothing held is given back any more."""
    missing = least - total(targets)
    if missing <= 0:
        return targets
    result = dict(targets)
    for seen in by_price(offers):
        back = max(min(lots_up(missing, seen.offer), seen.held - result[seen.offer.name]), 0)
        result[seen.offer.name] += back
        missing -= back
    return result


def ask_less(targets: Targets, offers: Sequence[OfferView], most: int) -> Targets:
    """Ask for fewer new replicas, dearest first, until the total is `most` or nothing new is asked for."""
    excess = total(targets) - most
    if excess <= 0:
        return targets
    result = dict(targets)
    for seen in reversed(by_price(offers)):
        less = max(min(lots_up(excess, seen.offer), result[seen.offer.name] - seen.held), 0)
        result[seen.offer.name] -= less
        excess -= less
    return result


def add_new(targets: Targets, offers: Sequence[OfferView], least: int) -> Targets:
    """Ask for more, cheapest available offer first within its limits, until the total is `least`."""
    result = dict(keep_more(targets, offers, least))
    missing = least - total(result)
    for seen in by_price(offers):
        if missing <= 0:
            break
        more = max(min(lots_up(missing, seen.offer), most_of(seen) - result[seen.offer.name]), 0)
        result[seen.offer.name] += more
        missing -= more
    return result


def cut(targets: Targets, offers: Sequence[OfferView], most: int) -> Targets:
    """Drop replicas, new ones first, then held ones too, dearest first, until the total is `most`."""
    result = dict(ask_less(targets, offers, most))
    excess = total(result) - most
    for seen in reversed(by_price(offers)):
        less = max(min(lots_up(excess, seen.offer), result[seen.offer.name]), 0)
        result[seen.offer.name] -= less
        excess -= less
    return result


def move_less(targets: Targets, held: Targets, offers: Sequence[OfferView], excess: int, sign: int) -> Targets:
    """Add (sign +1) or take away (-1) `excess` replicas fewer, beginning with the cheapest that come and the dearest that go.

    Whole lots move; one that does not fit into what may move leaves it to a smaller one.
    """
    result = dict(targets)
    left = sum(max(sign * (target - held[name]), 0) for name, target in targets.items()) - excess
    for seen in by_price(offers)[::sign]:
        name = seen.offer.name
        moving = max(sign * (result[name] - held[name]), 0)
        back = min(lots_up(max(moving - left, 0), seen.offer), moving)
        result[name] -= sign * back
        left -= moving - back
    return result


def most_of(seen: OfferView) -> int:
    """Return the largest target an offer can have now, in whole lots: its limit and its stock, and nothing new where it refuses, has no
    price or costs more than its ceiling.

    What is held beyond that may stay, up to the offer's limit.
    """
    offer, held = seen.offer, seen.held
    most = lots_down(offer.max_replicas, offer)
    kept = min(held, most)
    if seen.unavailable or seen.is_too_dear or (seen.usd_per_replica_hour is None and offer.tier is not Tier.FLOOR):
        return kept
    if seen.stock is not None:
        most = min(most, lots_down(held + seen.stock, offer))
    return max(most, kept)
