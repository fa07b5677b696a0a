"""What offers have taught: when one refused last, and how often its replicas are lost before their time.

Owns refusals with their growing pauses, and losses per replica-hour (interruptions and failed starts alike) as a surcharge on the price.
It must not choose an offer; `policies.desire` sees the world through `with_experience`.
"""

from collections.abc import Mapping
from dataclasses import replace

from policies.view import Experience, Memory, OfferView, View

FIRST_PAUSE_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 960.0
# What is assumed of an offer before anything is known: one replica lost in a thousand hours.
PRIOR_LOST, PRIOR_HOURS = 0.1, 100.0
# Losses are forgotten over a month, so that an offer that was bad gets another chance.
FORGET_SECONDS = 30 * 86400.0
SECONDS_PER_HOUR = 3600.0
NOTHING = Experience()


def learn_offers(memory: Memory, view: View) -> Mapping[str, Experience]:
    """Return what is known of each offer after what is seen now."""
    now = view.now_unix
    seconds = max(now - memory.metered_unix, 0.0) if memory.metered_unix is not None else 0.0
    return {
        seen.offer.name: _forget_held(memory.offers.get(seen.offer.name, NOTHING))
        if view.is_shadow or seen.untold
        else _learn(memory.offers.get(seen.offer.name, NOTHING), seen, memory, now, seconds)
        for seen in view.offers
    }


def _forget_held(known: Experience) -> Experience:
    """Return what is known where nobody says what is held: a shadow loses nothing, and what is seen next was not lost since."""
    return known if known.held is None else known._replace(held=None)


def _learn(known: Experience, seen: OfferView, memory: Memory, now: float, seconds: float) -> Experience:
    name, held = seen.offer.name, seen.held + seen.stuck
    before = known.held if known.held is not None else held
    lost = max(min(before, memory.targets.get(name, before)) - held, 0)
    refusals, until = known.refusals, known.refused_until_unix
    if held > before and not seen.unavailable:
        refusals, until = 0, 0.0
    elif seen.unavailable and memory.targets.get(name, before) > before and now >= until:
        # It was asked and refused; one that says by itself that it has nothing is taken at its word, and asked once it says otherwise.
        refusals = min(refusals + 1, 10)
        until = now + min(FIRST_PAUSE_SECONDS * 2.0 ** (refusals - 1), LONGEST_PAUSE_SECONDS)
    if held == 0 == known.held and not (lost or known.lost) and (refusals, until) == (known.refusals, known.refused_until_unix):
        return known
    faded = 1.0 - min(seconds / FORGET_SECONDS, 1.0)
    hours = known.replica_hours * faded + held * seconds / SECONDS_PER_HOUR
    return Experience(held, refusals, until, known.lost * faded + lost, hours)


def with_experience(view: View, memory: Memory, usd_per_unit_unserved: float) -> View:
    """Return the view in which offers that refused lately still do, and prices carry what losing a replica costs.

    A lost replica's work is served the next way until another has booted: at 36 USD/h, eight minutes of lead, spill at three times the
    price and a loss every ten hours, 14.40 USD a loss, 1.44 USD/h.
    """
    known = memory.offers.values()
    if all(each.lost <= 0.0 and each.refused_until_unix <= view.now_unix for each in known) and not any(
        seen.risk_usd_per_replica_hour for seen in view.offers
    ):
        return view
    offers = tuple(
        _seen_as(seen, memory.offers.get(seen.offer.name, NOTHING), view.now_unix, usd_per_unit_unserved) for seen in view.offers
    )
    return view if offers == view.offers else replace(view, offers=offers)


def _seen_as(seen: OfferView, known: Experience, now: float, usd_per_unit_unserved: float) -> OfferView:
    refuses = seen.unavailable or now < known.refused_until_unix
    price = seen.usd_per_replica_hour
    risk = 0.0
    if price is not None and known.lost > 0.0:
        lost_per_hour = (known.lost + PRIOR_LOST) / (known.replica_hours + PRIOR_HOURS)
        lead_hours = seen.offer.lead_time_seconds / SECONDS_PER_HOUR
        unserved = max(usd_per_unit_unserved * seen.offer.capacity_per_second * SECONDS_PER_HOUR, price)
        risk = lost_per_hour * lead_hours * unserved
    if refuses == seen.unavailable and risk == seen.risk_usd_per_replica_hour:
        return seen
    return replace(seen, unavailable=refuses, risk_usd_per_replica_hour=risk)
