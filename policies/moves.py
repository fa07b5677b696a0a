"""Moving a fleet's total without choosing again: keep more of what is held, or ask for less of what is new.

Owns the two operations that every later stage uses to bend per-offer targets, always dropping the dearest work first and restoring
the cheapest first. It decides nothing; `policies.stabilize` and `policies.guard` say how far.
"""

from collections.abc import Sequence

from policies.view import OfferView, Targets


def total(targets: Targets) -> int:
    """Return the replicas of all offers together."""
    return sum(targets.values())


def by_price(offers: Sequence[OfferView]) -> list[OfferView]:
    """Return offers cheapest per unit of work first; a floor, being committed, comes before any rented offer."""
    return sorted(offers, key=lambda view: (view.offer.tier != "floor", view.usd_per_unit, view.offer.name))


def keep_more(targets: Targets, offers: Sequence[OfferView], least: int) -> Targets:
    """Give back fewer held replicas, cheapest first, until the total is `least` or nothing held is given back any more."""
    missing = least - total(targets)
    if missing <= 0:
        return targets
    result = dict(targets)
    for view in by_price(offers):
        back = min(missing, max(view.held - result[view.offer.name], 0))
        result[view.offer.name] += back
        missing -= back
    return result


def ask_less(targets: Targets, offers: Sequence[OfferView], most: int) -> Targets:
    """Ask for fewer new replicas, dearest first, until the total is `most` or nothing new is asked for."""
    excess = total(targets) - most
    if excess <= 0:
        return targets
    result = dict(targets)
    for view in reversed(by_price(offers)):
        less = min(excess, max(result[view.offer.name] - view.held, 0))
        result[view.offer.name] -= less
        excess -= less
    return result


def add_new(targets: Targets, offers: Sequence[OfferView], least: int) -> Targets:
    """Ask for more, cheapest available offer first within its limits, until the total is `least`."""
    result = keep_more(targets, offers, least)
    missing = least - total(result)
    for view in by_price(offers):
        if missing <= 0:
            break
        room = most_of(view) - result[view.offer.name]
        more = min(missing, max(room, 0))
        result[view.offer.name] += more
        missing -= more
    return result


def most_of(view: OfferView) -> int:
    """Return the largest target an offer can have now: its limit, its stock, and nothing new where it refuses or has no price."""
    most = view.offer.max_replicas
    if view.stock is not None:
        most = min(most, view.held + view.stock)
    if view.unavailable or view.usd_per_replica_hour is None:
        most = min(most, view.held)
    return most
