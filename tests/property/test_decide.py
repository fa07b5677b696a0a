"""What holds of every decision, whatever the world does: bounds, budgets, doubt, holds, steps, order, determinism.

Worlds are drawn small and whole: fleets of one to four offers with any limits, any forecast, any history of what the pools did.
The long profile (HYPOTHESIS_PROFILE=long) draws 10,000 of each.
"""

from dataclasses import replace
from itertools import pairwise
from math import inf, isfinite

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from controlplane.contracts.fleet import Behavior, Budget, Direction, Offer, StepKind, Tier
from policies.decide import decide, start_memory
from policies.desire import desire
from policies.layers import Worth, grid_of, kept, priced, started
from policies.stabilize import young
from policies.view import Headroom, Memory, OfferView, Outlook, Targets, View
from tests.property.decide_worlds import DIRECTIONS, histories, offers, outlooks, views
from tests.unit.decide_stories import HORIZONS, QUANTILES, START, fleet_of

SPENT_USD = 500.0


@given(histories())
def test_targets_stay_within_limits_stock_and_ceiling(world: tuple[View, Memory]) -> None:
    view, memory = world
    verdict, _ = decide(view, memory)
    frozen = view.frozen
    for seen in view.offers:
        target = verdict.targets[seen.offer.name]
        assert target >= 0
        if frozen:
            assert target == seen.held
            continue
        assert target <= seen.offer.max_replicas
        if seen.stock is not None:
            assert target <= seen.held + seen.stock
        if seen.unavailable or (seen.usd_per_replica_hour is None and seen.offer.tier is Tier.BURST):
            assert target <= seen.held
        if (seen.usd_per_replica_hour or 0.0) > (seen.offer.ceiling_usd_per_replica_hour or inf):
            assert target <= seen.held
        if target > seen.held:
            assert target % seen.offer.replicas_per_lot == 0
    ceiling = view.fleet.guard.max_total_replicas
    assert frozen or ceiling is None or sum(verdict.targets.values()) <= ceiling


@given(histories())
def test_nothing_is_ever_infinite_or_nan(world: tuple[View, Memory]) -> None:
    verdict, memory = decide(*world)
    assert isfinite(verdict.spill_per_second)
    assert verdict.spill_per_second >= 0.0
    assert memory.headroom is None or all(isfinite(figure) for figure in memory.headroom)
    assert memory.spent_usd_today >= 0.0
    assert all(isinstance(target, int) for target in verdict.targets.values())


@given(histories())
def test_an_hours_budget_covers_all_that_is_paid_and_all_that_may_be_spilled(world: tuple[View, Memory]) -> None:
    """Machines that fail, drain, are given back or are on their way included. Above it already: nothing is bought and nothing spilled."""
    view, memory = world
    limit = view.fleet.guard.budget.usd_per_hour
    assume(limit is not None)
    verdict, _ = decide(view, memory)
    paid = sum(_paid_usd_per_hour(seen, view.now_unix, memory) for seen in view.offers if seen.offer.tier is Tier.BURST)
    bought = sum(_bought_usd_per_hour(seen, verdict.targets, view.now_unix, memory) for seen in view.offers)
    spilled = verdict.spill_per_second * view.fleet.spill.usd_per_unit * 3600.0 if view.fleet.spill else 0.0
    assert paid + bought + spilled <= max(limit or 0.0, paid) * (1.0 + 1e-9) + 1e-6


def _paid_usd_per_hour(seen: OfferView, now_unix: float, memory: Memory) -> float:
    """Return what an offer costs whatever is decided: as told, else at its price; all that an untold one may hold; what is on its way."""
    usd = _price(seen)
    if seen.untold:
        return usd * seen.offer.max_replicas
    at_price = usd * (seen.ready + seen.pending + seen.unserving)
    paid = at_price if seen.paid_usd_per_hour is None else seen.paid_usd_per_hour
    return paid + usd * max(_on_their_way(seen, now_unix, memory) - seen.held, 0)


def _bought_usd_per_hour(seen: OfferView, targets: Targets, now_unix: float, memory: Memory) -> float:
    if seen.offer.tier is not Tier.BURST or seen.untold:
        return 0.0
    return _price(seen) * max(targets[seen.offer.name] - max(seen.held, _on_their_way(seen, now_unix, memory)), 0)


def _on_their_way(seen: OfferView, now_unix: float, memory: Memory) -> int:
    asked = memory.asked.get(seen.offer.name)
    return asked.replicas if asked is not None and now_unix - asked.since_unix < 30.0 and not seen.unavailable else 0


def _price(seen: OfferView) -> float:
    known = (seen.usd_per_replica_hour, seen.offer.ceiling_usd_per_replica_hour, seen.offer.usd_per_replica_hour)
    return next((price for price in known if price is not None), 1e9)


@given(histories())
def test_held_replicas_above_an_hours_budget_go_but_for_holds_that_run(world: tuple[View, Memory]) -> None:
    view, memory = world
    limit = view.fleet.guard.budget.usd_per_hour
    assume(limit is not None and not view.frozen)
    # Spared what is not by the hour: a day's money may be short too.
    told = tuple(replace(seen, paid_usd_per_hour=None, unserving=0, untold=False) for seen in view.offers)
    verdict, after = decide(replace(view, offers=told), memory)
    rented = [seen for seen in told if seen.offer.tier is Tier.BURST]
    kept = sum(_price(seen) * verdict.targets[seen.offer.name] for seen in rented)
    holds = sum(_price(seen) * min(young(seen, view.now_unix, after), seen.held) for seen in rented)
    assert kept <= max(limit or 0.0, holds) + 1e-6


@given(histories())
def test_a_days_budget_once_spent_buys_and_spills_nothing(world: tuple[View, Memory]) -> None:
    view, memory = world
    guard = replace(view.fleet.guard, budget=replace(view.fleet.guard.budget, usd_per_day=SPENT_USD), frozen=False)
    view = replace(view, fleet=replace(view.fleet, guard=guard), frozen=False)
    memory = replace(memory, day=int(view.now_unix // 86400), spent_usd_today=SPENT_USD, metered_unix=view.now_unix)
    verdict, after = decide(view, memory)
    assert after.spent_usd_today >= SPENT_USD
    for seen in view.offers:
        if seen.offer.tier is Tier.BURST and (seen.usd_per_replica_hour or 0.0) > 0.0:
            assert verdict.targets[seen.offer.name] <= young(seen, view.now_unix, after)
    if view.fleet.spill is not None and view.fleet.spill.usd_per_unit > 0.0:
        assert verdict.spill_per_second == 0.0


@given(histories())
def test_doubt_never_shrinks_but_for_ceiling_and_budget(world: tuple[View, Memory]) -> None:
    view, memory = world
    assume(view.poke or view.implausible or view.demand_age_seconds > view.fleet.guard.stale_after_seconds)
    fleet = replace(view.fleet, guard=replace(view.fleet.guard, budget=Budget(), max_total_replicas=None))
    verdict, _ = decide(replace(view, fleet=fleet), memory)
    for seen in view.offers:
        lot = seen.offer.replicas_per_lot
        assert verdict.targets[seen.offer.name] >= min(seen.held, seen.offer.max_replicas // lot * lot)


@given(histories())
def test_a_running_hold_is_kept_but_for_ceilings(world: tuple[View, Memory]) -> None:
    view, memory = world
    assume(view.fleet.guard.max_total_replicas is None)
    verdict, after = decide(view, memory)
    for seen in view.offers:
        most = seen.offer.max_replicas // seen.offer.replicas_per_lot * seen.offer.replicas_per_lot
        assert verdict.targets[seen.offer.name] >= min(young(seen, view.now_unix, after), seen.held, most)


@given(histories())
def test_the_same_again_gives_the_same(world: tuple[View, Memory]) -> None:
    view, memory = world
    first, second = decide(view, memory), decide(view, memory)
    assert first == second


@given(histories(late_share=None))
def test_asking_twice_at_once_changes_nothing_and_pays_nothing(world: tuple[View, Memory]) -> None:
    """A repeated tick with the same picture: the same targets, no further step, no second hold, no second bill.

    Where nobody holds more than an offer's maximum or less than its minimum: those moves come on top of what a step allows.
    """
    view, memory = world
    lawful = (
        replace(seen, offer=replace(seen.offer, min_replicas=0), ready=min(seen.held, seen.offer.max_replicas // 8 * 8), pending=0)
        for seen in view.offers
    )
    view = replace(view, offers=tuple(lawful))
    first, once = decide(view, memory)
    second, twice = decide(view, once)
    assert twice.spent_usd_today == once.spent_usd_today
    assert all(young(seen, view.now_unix, twice) == young(seen, view.now_unix, once) for seen in view.offers)
    budget = view.fleet.guard.budget
    if budget.usd_per_day is None and all(window.usd is None for window in budget.windows):
        assert second.targets == first.targets


@given(histories(), st.randoms(use_true_random=False))
def test_the_order_of_offers_never_matters(world: tuple[View, Memory], random: object) -> None:
    view, memory = world
    shuffled = list(view.offers)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    here, _ = decide(view, memory)
    there, _ = decide(replace(view, offers=tuple(shuffled)), memory)
    assert here.targets == there.targets
    assert abs(here.spill_per_second - there.spill_per_second) <= 1e-9 * (1.0 + here.spill_per_second)


@given(histories(frozen=False, lift_replicas=0, poke=False), st.floats(1.0, 5.0))
def test_more_demand_never_asks_for_less_of_one_offer(world: tuple[View, Memory], factor: float) -> None:
    """Of the layers of one offer: of several with different sizes and prices only the capacity of equals can be compared."""
    view, _ = world
    assume(view.outlook is not None)
    outlook = view.outlook
    assert outlook is not None
    more = replace(outlook, demand=outlook.demand * factor, peak=outlook.peak * factor)
    worth = Worth(0.003)
    for seen in view.offers:
        low, high = grid_of(outlook), grid_of(more)
        assert kept(seen, priced(low, worth), 0.0) <= kept(seen, priced(high, worth), 0.0)
        assert started(seen, priced(low, worth), 0.0, 40) <= started(seen, priced(high, worth), 0.0, 40)


@given(outlooks(), st.floats(1.0, 5.0), st.data())
def test_more_demand_never_asks_for_less_of_equals(outlook: Outlook, factor: float, data: st.DataObject) -> None:
    """The whole fleet, where replicas of all offers carry and cost the same, whatever their leads and limits: the total never falls.

    Nothing boots: while it does, what it will replace is held too, for as long as that takes.
    """
    count = data.draw(st.integers(1, 4))
    same = [
        replace(data.draw(offers(index, st.just(1))), tier=Tier.BURST, capacity_per_second=10.0, usd_per_replica_hour=36.0)
        for index in range(count)
    ]
    view = data.draw(views(fleet_of(*same), demand_age_seconds=0.0, backlog=0.0))
    view = replace(view, offers=tuple(replace(seen, pending=0, usd_per_replica_hour=36.0) for seen in view.offers))
    more = replace(outlook, demand=outlook.demand * factor, peak=outlook.peak * factor)
    memory = Memory(headroom=Headroom(0.2, 50.0, 200.0, 1e6))
    low, _ = desire(replace(view, outlook=outlook), memory)
    high, _ = desire(replace(view, outlook=more), memory)
    assert sum(low.values()) <= sum(high.values())


@given(st.lists(st.tuples(st.floats(0.0, 400.0), st.sampled_from([5.0, 15.0, 60.0])), min_size=2, max_size=12), DIRECTIONS, DIRECTIONS)
def test_step_limits_and_cooldowns_are_kept_over_time(told: list[tuple[float, float]], up: Direction, down: Direction) -> None:
    """In a world that obeys at once, no total is further from that at a period's start than its widest limit allows."""
    offer = Offer("only", Tier.BURST, 10.0, 0, 60, 36.0, 0.0, scale_up_cooldown_seconds=30.0, scale_down_cooldown_seconds=60.0)
    fleet = fleet_of(offer, behavior=Behavior(up, down))
    memory, now, held, moves = start_memory(START), START, 10, [(float("-inf"), 10)]
    for demand, seconds in told:
        level = np.full((len(HORIZONS), len(QUANTILES)), demand)
        view = View(now, fleet, (OfferView(offer, held, 0, 36.0),), Outlook(HORIZONS, QUANTILES, level, level), demand, 0.0)
        verdict, memory = decide(view, memory)
        held = verdict.targets["only"]
        moves.append((now, held))
        now += seconds
    ups = [at for (at, new), (_, old) in zip(moves[1:], moves, strict=False) if new > old]
    downs = [at for (at, new), (_, old) in zip(moves[1:], moves, strict=False) if new < old]
    assert all(later - earlier >= 30.0 for earlier, later in pairwise(ups))
    assert all(later - earlier >= 60.0 for earlier, later in pairwise(downs))
    for side, sign in ((up, 1), (down, -1)):
        if not side.steps or any(step.kind is not StepKind.REPLICAS for step in side.steps):
            continue
        for (_, old), (at, new) in pairwise(moves):
            starts = [next(held for when, held in reversed(moves) if when <= at - step.period_seconds) for step in side.steps]
            furthest = max(sign * start + step.value for start, step in zip(starts, side.steps, strict=True))
            assert sign * (new - old) <= 0 or sign * new <= max(furthest, sign * old + 1)


@given(histories(length=8))
def test_memory_stays_bounded(world: tuple[View, Memory]) -> None:
    _, memory = decide(*world)
    assert len(memory.recommendations) <= 66
    assert len(memory.changes) <= 66
    assert all(len(cohorts) <= 66 for cohorts in memory.cohorts.values())
    names = {seen.offer.name for seen in world[0].offers}
    assert set(memory.targets) == names
    assert set(memory.raised_unix) | set(memory.lowered_unix) <= names


@given(histories())
def test_cohorts_are_what_is_held(world: tuple[View, Memory]) -> None:
    view, memory = world
    _, after = decide(view, memory)
    for seen in view.offers:
        if seen.offer.hold_seconds > 0.0:
            assert sum(cohort.replicas for cohort in after.cohorts[seen.offer.name]) == seen.held


@given(histories())
def test_a_snapshot_of_memory_decides_as_if_nothing_had_happened(world: tuple[View, Memory]) -> None:
    from pydantic import TypeAdapter

    view, memory = world
    adapter = TypeAdapter(Memory)
    again = adapter.validate_json(adapter.dump_json(memory))
    assert decide(view, again)[0] == decide(view, memory)[0]
