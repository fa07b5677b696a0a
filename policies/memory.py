"""How memory moves from one decision to the next: windows, changes, cohorts, the day's spend and the price of a miss.

Owns every update of `Memory`, and nothing else writes it. It must not decide; `policies.decide` calls it before and after.
"""

from dataclasses import replace

from policies.guard import SECONDS_PER_DAY, price_of, rented
from policies.stabilize import age_cohorts
from policies.view import Memory, Targets, View

MISS_GAIN = 4.0
MISS_MULTIPLE_RANGE = (1.5, 2000.0)


def forget_and_meter(memory: Memory, view: View) -> Memory:
    """Return memory brought to now: replicas seen joined to cohorts, rent since the last time added to the day's spend."""
    cohorts = {
        seen.offer.name: age_cohorts(memory.cohorts.get(seen.offer.name, ()), seen.held, view.now_unix, seen.offer.hold_seconds)
        for seen in view.offers
    }
    day = int(view.now_unix // SECONDS_PER_DAY)
    spent = memory.spent_usd_today if day == memory.day else 0.0
    if memory.metered_unix is not None and day == memory.day:
        seconds = max(view.now_unix - memory.metered_unix, 0.0)
        per_hour = _spill_usd_per_hour(view) + sum(price_of(seen) * seen.held for seen in rented(view) if seen.held)
        spent += per_hour * seconds / 3600.0
    return replace(memory, cohorts=cohorts, day=day, spent_usd_today=spent, metered_unix=view.now_unix)


def _spill_usd_per_hour(view: View) -> float:
    return view.spilled_per_second * view.fleet.spill.usd_per_unit * 3600.0 if view.fleet.spill else 0.0


def learn_miss_price(memory: Memory, view: View) -> Memory:
    """Return memory with the price of a miss moved towards the one that keeps the policy's attainment.

    A multiple of the cheapest rent per unit; it starts at the newsvendor's 1/(1 - attainment) and moves by the log-gradient rule
    of adaptive conformal inference (Gibbs and Candes 2021): up while more is missed than allowed, slowly down while less is.
    """
    allowed = max(1.0 - view.fleet.slo.attainment, 1e-4)
    multiple = memory.miss_multiple if memory.miss_multiple is not None else min(1.0 / allowed, MISS_MULTIPLE_RANGE[1])
    if view.late_share is not None:
        step = MISS_GAIN * (view.late_share - allowed)
        multiple *= 2.718281828459045 ** max(min(step, 0.5), -0.5)
    low, high = MISS_MULTIPLE_RANGE
    return replace(memory, miss_multiple=min(max(multiple, low), high))


def miss_usd_per_unit(view: View, memory: Memory) -> float:
    """Return what a missed unit of work counts for, USD, where nothing else can serve it."""
    prices = [seen.usd_per_unit for seen in rented(view) if seen.usd_per_replica_hour is not None]
    cheapest = min(prices, default=0.0)
    return cheapest * (memory.miss_multiple or 1.0)


def remember(memory: Memory, view: View, targets: Targets, wanted: int) -> Memory:
    """Return memory after a decision: the recommendation for the windows, the change for the step limits, the moment per offer."""
    behavior, now = view.fleet.behavior, view.now_unix
    window = max(behavior.scale_up.stabilization_window_seconds, behavior.scale_down.stabilization_window_seconds)
    recommendations = tuple(entry for entry in memory.recommendations if now - entry[0] < window)
    if window > 0.0:
        recommendations = (*recommendations, (now, wanted))
    period = max([step.period_seconds for side in (behavior.scale_up, behavior.scale_down) for step in side.steps], default=0.0)
    changes = tuple(entry for entry in memory.changes if now - entry[0] < period)
    raised, lowered = dict(memory.raised_unix), dict(memory.lowered_unix)
    for seen in view.offers:
        delta = targets[seen.offer.name] - seen.held
        if delta > 0:
            raised[seen.offer.name] = now
        if delta < 0:
            lowered[seen.offer.name] = now
        if delta and period > 0.0:
            changes = (*changes, (now, delta))
    return replace(
        memory, recommendations=recommendations, changes=changes, raised_unix=raised, lowered_unix=lowered, targets=dict(targets)
    )
