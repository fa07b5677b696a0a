"""What head-room the last weeks would have needed: candidate rules, rehearsed side by side on a fluid model of the fleet.

Owns the model (one burst offer above a floor, its lead time, a queue), what each rule would have missed and paid in it, and the choice:
the cheapest that would have kept the SLO. It must not decide replicas: `policies.desire` carries the rule in use out, layer by layer.

Two families of rules, since what a miss costs depends on who waits. Where work that cannot be served in time is shed, every missed unit
costs the same, and the best rule is the newsvendor's: layers, to a price of a miss. Where it queues, one short deficit makes everything
behind it late, and a multiple of the forecast's body, covered as if it were certain, is mostly cheaper. Nobody states which it is: every
rule is rehearsed in both worlds, and what was late tells them apart.

Why rehearse. Demand does not depend on what is held, so one burst teaches every rule at once what it would have come to. Who learns from
the own misses alone must swing around the aim to find it. What the model does not know is left to feedback (`policies.headroom`), which
follows what was late beyond what the rule in use was late with here: a control variate, so that foreseen bursts move nothing.
"""

from bisect import bisect_right
from dataclasses import replace
from functools import lru_cache
from math import log
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlplane.contracts.fleet import Tier
from policies.headroom import MISSED_SECONDS, aimed_at, body_of, covered, lenience
from policies.layers import Worth
from policies.view import Array, Headroom, OfferView, Outlook, Rehearsal, View

# Rules by rising head-room: multiples of the forecast's body, and prices of a miss in rents of a unit of work.
COVERS = np.exp(np.linspace(log(0.65), log(4.5), 25))
PRICES = 2.0 * np.sqrt(2.0) ** np.arange(15)
# Columns are the rules in a world that queues, the same in one that sheds, and whichever was in use, in the world it seems to be.
RULES = len(COVERS) + len(PRICES)
IN_USE = 2 * RULES
# What is believed before anything was seen, for as much as half a day counts: misses fall with powers of a rule's factor.
PRIOR_SECONDS = 43200.0
_PRIOR_MISSED = np.concatenate((0.02 * COVERS**-6.0, 0.5 * PRICES**-1.1, 0.006 * COVERS**-6.0, 0.075 * PRICES**-1.2, (0.01,)))
# By these a price must rise by the fifth power to say as much as a multiple.
PRICE_EXPONENT = 5.0
# What covers is bought where a tenth of a lot is below the level, and let go once it is a fifth above. `policies.desire` keeps to these.
LEAST_OF_A_LOT = 0.1
KEEP_MARGIN = 1.2
# Waiting work is worked off within a minute of the first replica that can be had for it.
BACKLOG_DRAIN_SECONDS = 60.0
# The layers' rule in a word: what covers is bought over a lead time and a seventh, what pays over two and only well above its price.
COVER_SPAN, PRICE_SPAN, START_LEAN = 1.15, 2.0, 1.7
PATIENCE_SECONDS = 10.0
SLOTS_PER_LEAD = 16
# Who was away for longer, or whose clock was set back, begins with empty queues, knowing what it knew.
LONGEST_GAP_SECONDS = 3600.0
# So much late work speaks for a world that queues before any was seen.
BELIEVED_LATE_SECONDS = 5.0
# The other family must be so much cheaper to be changed to; where no rule keeps the SLO, the last tenth of misses is worth nothing.
SWITCH_BELOW = 0.97
WORTH_A_TENTH = 1.1

_LOG_COVERS = np.log(COVERS)
_QUEUES = np.arange(IN_USE) < RULES
_RULES = np.arange(IN_USE) % RULES
_NOTHING = np.zeros(IN_USE + 1)


class Rule(NamedTuple):
    """How head-room is held: `exp(log_factor)` multiplies the forecast's body, or is the price of a miss in rents of a unit of work."""

    is_price: bool = False
    log_factor: float = 0.0


def watch(known: Rehearsal | None, view: View, headroom: Headroom | None, seconds: float) -> Rehearsal | None:
    """Return the rehearsal after `seconds` of the demand that was seen: each column's queue, what it missed and what it paid for.

    One that was kept with other rules says nothing: None.
    """
    if known is None or len(known.missed) != len(_NOTHING):
        return None
    if headroom is None or view.demand_per_second is None or not known.slots_unix:
        return known
    if not 0.0 <= view.now_unix - known.slots_unix[-1] <= LONGEST_GAP_SECONDS:
        return replace(known, backlog=_NOTHING, slots_unix=(), late_share=0.0)
    if seconds <= 0.0:
        return known
    demand, typical = view.demand_per_second, headroom.typical_per_second
    queues = np.append(_QUEUES, known.is_queueing)
    late, backlog = serve(known.backlog, demand, np.minimum.reduce(known.slots, axis=0), _patience(view), seconds, queues)
    share = late / (demand * seconds) if demand > 0.0 else _NOTHING
    span = min(known.seen_seconds + PRIOR_SECONDS, MISSED_SECONDS)
    weight = min(seconds * demand / (typical * span), 1.0) if typical > 0.0 else 0.0
    queued_share, late_seconds = _told_apart(known, view, seconds)
    return replace(
        known,
        backlog=backlog,
        missed=known.missed + (share - known.missed) * weight,
        paid=known.paid + (known.held - known.paid) * min(seconds / span, 1.0),
        late_share=float(share[IN_USE]),
        queued_share=queued_share,
        late_seconds=late_seconds,
        seen_seconds=known.seen_seconds + seconds,
    )


def serve(
    backlog: Array, demand: float, ready: Array, patience_seconds: float, seconds: float, queues: NDArray[np.bool_]
) -> tuple[Array, Array]:
    """Return the late work of each column and its backlog after `seconds` of steady demand, f64[columns] in units of work.

    While the queue is longer than `patience_seconds` all that comes is late. Where columns do not queue, late work is gone at once, and
    a queue that is as long as patience stays so.
    """
    joins = np.where(queues, demand, 0.0)
    barrier, growth = ready * patience_seconds, demand - ready
    above = np.minimum(np.maximum(backlog - barrier, 0.0) / np.maximum(ready - joins, 1e-12), seconds)
    waiting = np.maximum(backlog + (joins - ready) * above, 0.0)
    left = seconds - above
    filling = np.where(growth > 0.0, np.minimum(np.maximum(barrier - waiting, 0.0) / np.maximum(growth, 1e-12), left), left)
    full = left - filling
    late = demand * above + np.where(queues, demand, growth) * full
    return late, np.maximum(waiting + growth * filling, 0.0) + np.where(queues, growth, 0.0) * full


def _told_apart(known: Rehearsal, view: View, seconds: float) -> tuple[float, float]:
    """Return the share of late work that waited on rather than being shed, and the seconds of work that were late.

    Nothing is learnt where the queue has drained by now: it may have been either.
    """
    late = (view.late_share or 0.0) * seconds
    ready = sum(seen.ready * seen.offer.capacity_per_second for seen in view.offers)
    if late <= 0.0 or (view.backlog < ready and (view.demand_per_second or 0.0) <= ready):
        return known.queued_share, known.late_seconds
    waits = 1.0 if view.backlog > 1.01 * _patience(view) * ready else 0.0
    late_seconds = known.late_seconds + late
    return known.queued_share + (waits - known.queued_share) * late / (late_seconds + BELIEVED_LATE_SECONDS), late_seconds


def _patience(view: View) -> float:
    return view.fleet.slo.ttft_seconds or PATIENCE_SECONDS


def foreseen(known: Rehearsal | None) -> tuple[float, float]:
    """Return the share of the last interval's work that the rule in use was late with here, and what it is late with on average."""
    return (known.late_share, float(known.missed[known.column])) if known is not None and known.slots_unix else (0.0, 0.0)


def rule_in_use(known: Rehearsal | None, headroom: Headroom) -> Rule:
    """Return the chosen rule with what feedback has added since rehearsing began; feedback alone where nothing could be rehearsed."""
    if known is None:
        return Rule(log_factor=headroom.log_factor)
    added = headroom.log_factor - known.neutral_log_factor
    number = known.column % RULES
    if number < len(COVERS):
        return Rule(log_factor=float(_LOG_COVERS[number]) + added)
    price = log(PRICES[number - len(COVERS)]) + PRICE_EXPONENT * added
    return Rule(is_price=True, log_factor=max(price, log(PRICES[0])))


def rehearse(known: Rehearsal | None, view: View, headroom: Headroom | None) -> Rehearsal | None:
    """Return the rehearsal with the rule chosen anew and each column's next decision taken; as it was where nothing can be rented."""
    rented = [seen for seen in view.offers if seen.offer.tier is Tier.BURST and seen.usd_per_replica_hour is not None]
    if headroom is None or view.outlook is None or not rented:
        return known
    if known is None:
        no_slots = np.zeros((0, IN_USE + 1))
        known = Rehearsal(0, _NOTHING, _NOTHING, (), no_slots, _PRIOR_MISSED, _NOTHING, neutral_log_factor=headroom.log_factor)
    cheapest = min(rented, key=lambda seen: seen.usd_per_unit)
    known = replace(known, column=choose(known, headroom, view.fleet.slo.attainment))
    need, most = _wanted(known, view, view.outlook, headroom, cheapest)
    return _holding(known, need, most, view, cheapest.offer.lead_time_seconds)


def choose(known: Rehearsal, headroom: Headroom, attainment: float) -> int:
    """Return the column of the cheapest rule that would have missed no more than is aimed at, in the world that it seems to be."""
    first = 0 if known.is_queueing else RULES
    missed = known.missed[first : first + RULES]
    goal = max(aimed_at(attainment) * lenience(headroom, attainment), WORTH_A_TENTH * float(missed.min()))
    is_price = np.arange(RULES) >= len(COVERS)
    favoured = np.where(is_price == (known.column % RULES >= len(COVERS)), SWITCH_BELOW, 1.0)
    return first + int(np.argmin(np.where(missed <= goal, favoured * known.paid[first : first + RULES], np.inf)))


def _wanted(known: Rehearsal, view: View, outlook: Outlook, headroom: Headroom, cheapest: OfferView) -> tuple[Array, Array]:
    """Return the capacity that each column asks for now and the most that it keeps, f64[columns]: whole lots above a floor."""
    offer, horizons, lead = cheapest.offer, outlook.horizons_seconds, cheapest.offer.lead_time_seconds
    first = min(int(np.searchsorted(horizons, lead - 1.0)), len(horizons) - 1)
    cover_end, price_end = (max(int(np.searchsorted(horizons, span * lead, side="right")), first + 1) for span in (COVER_SPAN, PRICE_SPAN))
    level = covered(body_of(outlook)[:cover_end], headroom, _LOG_COVERS)
    starts, stays = _blends(tuple(outlook.quantiles.tolist()))
    rules = np.append(_RULES, known.column % RULES)
    need = np.concatenate((level[first:].min(axis=0), (outlook.demand[first:price_end] @ starts).min(axis=0)))[rules]
    most = np.concatenate((KEEP_MARGIN * level.max(axis=0), (outlook.demand[: first + 1] @ stays).max(axis=0)))[rules]
    overdue = np.maximum(known.backlog - _patience(view) * known.held, 0.0) / BACKLOG_DRAIN_SECONDS
    size = offer.capacity_per_second * offer.replicas_per_lot
    floor = sum(seen.offer.capacity_per_second * seen.offer.max_replicas for seen in view.offers if seen.offer.tier is Tier.FLOOR)
    top = floor + sum(seen.offer.capacity_per_second * seen.offer.max_replicas for seen in view.offers if seen.offer.tier is Tier.BURST)
    need, most = (np.clip(np.ceil((rate + overdue - floor) / size - LEAST_OF_A_LOT) * size + floor, floor, top) for rate in (need, most))
    return need, np.maximum(need, most)


@lru_cache(maxsize=16)
def _blends(quantiles: tuple[float, ...]) -> tuple[Array, Array]:
    """Return f64[Q, prices] twice: how quantiles of demand blend into the one up to which a layer at each price is bought, and kept.

    A layer pays where it is used for more than 1 / price of the time.
    """
    kept_times = Worth(1.0).kept_times
    used = (np.clip(1.0 - times / PRICES, quantiles[0], quantiles[-1]) for times in (START_LEAN, 1.0 / kept_times))
    starts, stays = (np.array([np.interp(level, quantiles, row) for row in np.eye(len(quantiles))]) for level in used)
    return starts, stays


def _holding(known: Rehearsal, need: Array, most: Array, view: View, lead: float) -> Rehearsal:
    """Return what columns hold after this decision. Ready is the least that was held for a lead time: pending is cancelled first."""
    now, behavior = view.now_unix, view.fleet.behavior
    if not known.slots_unix:
        paid = known.paid if known.seen_seconds > 0.0 else need
        return replace(known, held=need, paid=paid, slots_unix=(now,), slots=need[None, :])
    held = np.minimum(np.maximum(known.held, need), most)
    tolerance = np.where(held > known.held, behavior.scale_up.tolerance, behavior.scale_down.tolerance)
    held = np.where(np.abs(held - known.held) <= tolerance * known.held, known.held, held)
    times, slots = known.slots_unix, known.slots
    if len(times) > 1 and now - times[-2] < lead / SLOTS_PER_LEAD:
        times, slots = times[:-1], np.vstack((slots[:-2], np.minimum(slots[-2], slots[-1]), held))
        times = (*times, now)
    else:
        times, slots = (*times, now), np.vstack((slots, held))
    past = max(bisect_right(times, now - lead) - 1, 0)
    return replace(known, held=held, slots_unix=times[past:], slots=slots[past:])
