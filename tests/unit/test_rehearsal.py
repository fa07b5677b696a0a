"""Head-room without spill is rehearsed: what every candidate rule would have missed and paid decides, under either kind of queue."""

from dataclasses import replace
from math import log
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from controlplane.contracts.fleet import Fleet, Spill
from controlplane.sim.router import route
from policies.decide import decide, start_memory
from policies.desire import desire
from policies.headroom import learn_headroom, start_headroom
from policies.rehearsal import COVERS, IN_USE, PRICES, RULES, choose, foreseen, rehearse, rule_in_use, serve, watch
from policies.view import Memory, Rehearsal
from tests.unit.decide_stories import BURST, DEARER, RESERVED, START, flat, fleet_of, view_of

MINUTE, DAY = 60.0, 86400.0
FLEET = fleet_of(BURST, spill=None, attainment=0.99)
FIFTH_COVER, FIFTH_PRICE = 4, len(COVERS) + 4


def rehearsed(missed: dict[int, float], paid: dict[int, float], column: int = 0) -> Rehearsal:
    """Return a rehearsal in which each column misses half of the work and pays 100, but for those that are named."""
    columns = np.full(IN_USE + 1, 0.5), np.full(IN_USE + 1, 100.0)
    for named, share in missed.items():
        columns[0][named] = share
    for named, capacity in paid.items():
        columns[1][named] = capacity
    nothing = np.zeros(IN_USE + 1)
    return Rehearsal(column, nothing, nothing, (START,), np.zeros((1, IN_USE + 1)), *columns)


def lived(fleet: Fleet, days: float, queues: bool, learning_days: float = 0.0) -> tuple[Memory, float, float]:
    """Live through bursts that nobody foresees, six minutes of every forty; return memory, and once it has learnt, late share and capacity.

    What is asked for is there a lead time later, in a world of one fluid queue with the patience of an unstated TTFT.
    """
    memory, random, asked = start_memory(START), Random(3), [13] * 9
    backlog = late = offered = held = 0.0
    late_share: float | None = None
    for minute in range(int(days * 1440)):
        demand = 100.0 * (1.35 if minute % 40 < 6 else 1.0) * random.uniform(0.98, 1.02)
        ready = min(asked[-9:])
        result = route(backlog, demand, 10.0 * ready, 10.0, 0.0, MINUTE, shed=not queues)
        backlog, late_share = result.backlog, result.late / (demand * MINUTE)
        if minute >= learning_days * 1440:
            late, offered, held = late + result.late, offered + demand * MINUTE, held + 10.0 * asked[-1] * MINUTE
        view = view_of(fleet, flat(100.0, 0.1), {"burst": ready}, pending={"burst": asked[-1] - ready}, minute=float(minute))
        verdict, memory = decide(replace(view, demand_per_second=demand, backlog=backlog, late_share=late_share), memory)
        asked.append(verdict.targets["burst"])
    return memory, late / offered, held / ((days - learning_days) * DAY)


@given(
    backlog=st.floats(0.0, 1e4), demand=st.floats(0.0, 1e3), capacity=st.floats(0.0, 1e3), patience=st.floats(0.5, 60.0), shed=st.booleans()
)
def test_the_model_serves_as_the_simulated_gateway_does(
    backlog: float, demand: float, capacity: float, patience: float, shed: bool
) -> None:
    """Without spill. A shedding gateway's queue is never longer than its patience."""
    if shed:
        backlog = min(backlog, capacity * patience)
    told = route(backlog, demand, capacity, patience, 0.0, MINUTE, shed)
    late, after = serve(np.array([backlog]), demand, np.array([capacity]), patience, MINUTE, np.array([not shed]))
    assert late[0] == pytest.approx(told.late, rel=1e-6, abs=1e-3)
    assert after[0] == pytest.approx(told.backlog, rel=1e-6, abs=1e-3)


def test_capacity_is_ready_once_it_was_held_for_a_lead_time() -> None:
    """Ten are held when demand doubles for good, unforeseen: the column that covers it by half is late until the lead time is over."""
    headroom = start_headroom(0.99, 100.0)
    known = rehearse(None, view_of(FLEET, flat(100.0)), headroom)
    late = []
    for minute in range(1, 30):
        view = view_of(FLEET, flat(200.0), minute=float(minute), demand_per_second=200.0)
        known = watch(known, view, headroom._replace(peak_per_second=200.0), MINUTE)
        assert known is not None
        late.append(bool(known.backlog[14] > 10.0 * known.slots[:, 14].min()))
        known = rehearse(known, view, headroom._replace(peak_per_second=200.0))
    assert COVERS[14] == pytest.approx(2.0, abs=0.1)
    assert late[0:8] == [True] * 8, "asked for in the first minute, there after eight"
    assert not any(late[12:])


@pytest.mark.parametrize(
    ("missed", "paid", "in_use", "chosen", "why"),
    [
        ({FIFTH_COVER: 0.001}, {FIFTH_COVER: 130.0}, 0, FIFTH_COVER, "the only one that keeps 99 %"),
        ({3: 0.001, FIFTH_COVER: 0.001}, {3: 120.0, FIFTH_COVER: 130.0}, FIFTH_COVER, 3, "the cheaper of its family"),
        ({FIFTH_COVER: 0.001, FIFTH_PRICE: 0.001}, {FIFTH_COVER: 130.0, FIFTH_PRICE: 120.0}, 0, FIFTH_PRICE, "a price that is cheaper"),
        ({FIFTH_COVER: 0.001, FIFTH_PRICE: 0.001}, {FIFTH_COVER: 130.0, FIFTH_PRICE: 128.0}, 0, FIFTH_COVER, "not for two percent"),
        ({FIFTH_COVER: 0.001, FIFTH_PRICE: 0.001}, {FIFTH_COVER: 128.0, FIFTH_PRICE: 130.0}, FIFTH_PRICE, FIFTH_PRICE, "nor back"),
    ],
)
def test_the_cheapest_rule_that_would_have_kept_the_slo_is_taken(
    missed: dict[int, float], paid: dict[int, float], in_use: int, chosen: int, why: str
) -> None:
    assert choose(rehearsed(missed, paid, in_use), start_headroom(0.99, 100.0), 0.99) == chosen, why


def test_where_no_rule_would_have_kept_the_slo_little_is_paid_for_little() -> None:
    """Six covers miss 5 % and ever more capacity would have missed 4.8 %: some hour was lost whatever was held."""
    missed = dict.fromkeys(range(4, 10), 0.05) | dict.fromkeys(range(10, 13), 0.048)
    known = rehearsed(missed, {column: 100.0 + column for column in range(13)})
    assert choose(known, start_headroom(0.99, 100.0), 0.99) == 4


def test_work_that_waits_and_work_that_is_shed_are_told_apart() -> None:
    headroom = start_headroom(0.99, 100.0)
    known = rehearse(None, view_of(FLEET, flat(100.0)), headroom)
    assert known is not None
    assert known.is_queueing, "until it is known, the worse"
    shed = watch(known, view_of(FLEET, flat(100.0), {"burst": 9}, minute=1.0, late_share=0.1, backlog=900.0), headroom, MINUTE)
    waits = watch(known, view_of(FLEET, flat(100.0), {"burst": 9}, minute=1.0, late_share=0.1, backlog=1500.0), headroom, MINUTE)
    assert shed is not None
    assert waits is not None
    assert not shed.is_queueing
    assert waits.is_queueing


@pytest.mark.parametrize("queues", [True, False], ids=["queue", "shed"])
def test_bursts_that_nobody_foresees_are_covered_to_the_slo_and_not_much_further(queues: bool) -> None:
    """A seventh of the time is a burst of 1.35 times: covered, it takes 14 replicas; left alone, 15 % and more would be late."""
    memory, late, held = lived(FLEET, 6.0, queues, learning_days=2.0)
    assert late < 0.01
    assert held < 150.0
    assert memory.rehearsal is not None
    assert memory.rehearsal.is_queueing == queues


def test_a_miss_that_the_rehearsal_foresaw_teaches_feedback_nothing() -> None:
    """Feedback follows surprise: the same lateness moves it where the model says none, and not where the model was as late."""
    known = start_headroom(0.99, 100.0)._replace(seen_seconds=DAY)
    as_foreseen = learn_headroom(known, MINUTE, 100.0, 0.5, 0.99, 480.0, (0.5, 0.0085))
    surprised = learn_headroom(known, MINUTE, 100.0, 0.5, 0.99, 480.0, (0.0, 0.0085))
    assert as_foreseen.log_factor == pytest.approx(known.log_factor)
    assert surprised.log_factor == pytest.approx(known.log_factor + 0.01 * 0.5)


def test_feedback_is_added_to_the_rule_and_stands_alone_where_nothing_can_be_rented() -> None:
    headroom = start_headroom(0.999, 100.0)
    more = headroom._replace(log_factor=headroom.log_factor + 0.1)
    covering, pricing = (
        replace(rehearsed({}, {}, column), neutral_log_factor=headroom.log_factor) for column in (FIFTH_COVER, RULES + FIFTH_PRICE)
    )
    covers, prices = rule_in_use(covering, more), rule_in_use(pricing, more)
    assert not covers.is_price
    assert covers.log_factor == pytest.approx(log(COVERS[4]) + 0.1)
    assert prices.is_price
    assert prices.log_factor == pytest.approx(log(PRICES[4]) + 0.5)
    assert rule_in_use(None, more).log_factor == more.log_factor
    floor_only = fleet_of(RESERVED, spill=None)
    assert rehearse(None, view_of(floor_only, flat(10.0)), headroom) is None
    assert foreseen(None) == (0.0, 0.0)


def test_a_rehearsal_comes_back_from_a_snapshot_as_it_was() -> None:
    memory, *_ = lived(FLEET, 0.2, queues=True)
    adapter = TypeAdapter(Memory)
    again = adapter.validate_json(adapter.dump_json(memory))
    assert again == memory
    assert memory.rehearsal is not None
    assert again != replace(memory, rehearsal=replace(memory.rehearsal, paid=memory.rehearsal.paid + 1.0))


def test_no_feedback_takes_the_price_of_a_miss_below_what_buys_anything() -> None:
    """A layer is worth nothing at less than its own rent, and without spill somebody would wait for ever."""
    headroom = start_headroom(0.99, 100.0)._replace(log_factor=log(0.6))
    assert rule_in_use(rehearsed({}, {}, RULES + len(COVERS)), headroom).log_factor == pytest.approx(log(2.0))


def test_a_small_cheap_offer_beside_a_dearer_one_does_not_end_what_the_rules_may_hold() -> None:
    fleet = fleet_of(replace(BURST, max_replicas=2), DEARER, spill=None, attainment=0.99)
    memory = start_memory(START)
    for minute in range(0, 2 * 1440, 5):
        demand = 135.0 if minute % 40 < 6 else 100.0
        view = view_of(fleet, flat(100.0, 0.1), {"burst": 2, "dearer": 12}, minute=float(minute), demand_per_second=demand)
        verdict, memory = decide(replace(view, late_share=0.0), memory)
    assert memory.rehearsal is not None
    assert memory.rehearsal.held.max() > 135.0, "two replicas carry 20"
    assert sum(verdict.targets.values()) >= 10


@pytest.mark.parametrize("jump", [10 * 60.0, -6 * 60.0], ids=["away for ten hours", "clock set back six hours"])
def test_a_gap_or_a_clock_that_goes_back_begins_with_empty_queues_and_what_was_known(jump: float) -> None:
    """Ten hours of the first reading, three times what is usual, would be a queue that lasts for days."""
    headroom = start_headroom(0.99, 100.0)
    known: Rehearsal | None = None
    for minute in range(600):
        view = view_of(FLEET, flat(100.0), minute=float(minute))
        known = rehearse(watch(known, view, headroom, MINUTE), view, headroom)
    assert known is not None
    view = view_of(FLEET, flat(100.0), minute=600.0 + jump, demand_per_second=300.0)
    after = rehearse(watch(known, view, headroom, max(jump, 0.0) * MINUTE), view, headroom)
    assert after is not None
    assert np.array_equal(after.missed, known.missed)
    assert np.array_equal(after.paid, known.paid)
    assert not after.backlog.any()
    assert after.slots_unix == (view.now_unix,)
    assert foreseen(replace(after, slots_unix=())) == (0.0, 0.0)


def test_what_was_kept_with_other_rules_is_rehearsed_anew() -> None:
    """As after an upgrade that has other rules: nothing raises, and it begins again."""
    fewer = np.zeros(7)
    known = Rehearsal(3, fewer, fewer, (START,), np.zeros((1, 7)), fewer, fewer)
    memory = replace(start_memory(START), rehearsal=known, headroom=start_headroom(0.99, 100.0))
    _, after = decide(view_of(FLEET, flat(100.0), {"burst": 10}, minute=1.0), memory)
    assert after.rehearsal is not None
    assert len(after.rehearsal.missed) == IN_USE + 1


def test_what_feedback_had_learnt_before_rehearsing_began_is_not_counted_twice() -> None:
    """A factor of 1.8 from a time without rehearsal is where feedback stands still, whatever attainment the policy asks for."""
    learnt = start_headroom(0.99, 100.0)._replace(log_factor=log(1.8))
    for attainment in (0.99, 0.999):
        known = rehearse(None, view_of(fleet_of(BURST, spill=None, attainment=attainment), flat(100.0)), learnt)
        assert known is not None
        assert known.column < len(COVERS)
        assert rule_in_use(known, learnt).log_factor == pytest.approx(log(COVERS[known.column]))


def test_a_price_of_a_miss_holds_the_layers_that_spill_at_that_price_would() -> None:
    """The rule in use reaches the decision: at four rents a quantile of demand is held, at a cover of two all of it twice."""
    outlook, headroom = flat(100.0, 0.5), start_headroom(0.99, 100.0)._replace(peak_per_second=1000.0)
    priced = rehearsed({}, {}, len(COVERS) + 2)
    at_price, _ = desire(view_of(FLEET, outlook), replace(start_memory(START), headroom=headroom, rehearsal=priced))
    hosted = Spill("hosted", PRICES[2] * 36.0 / (10.0 * 3600.0))
    as_spill, _ = desire(view_of(fleet_of(BURST, spill=hosted), outlook), start_memory(START))
    covered, _ = desire(view_of(FLEET, outlook), replace(start_memory(START), headroom=headroom, rehearsal=rehearsed({}, {}, 14)))
    assert PRICES[2] == pytest.approx(4.0)
    assert at_price == as_spill == {"burst": 12}, "0.75 of the time demand is below 125"
    assert covered["burst"] >= 20


def test_what_rules_hold_begins_at_the_floor_and_falls_only_well_below_what_was_needed() -> None:
    """Four floor replicas carry 40; covered as forecast, 100 need 100 and 90 keep them, and 70 keep what covers 84."""
    fleet, headroom = fleet_of(RESERVED, BURST, spill=None, attainment=0.99), start_headroom(0.99, 100.0)
    as_forecast = 6
    assert COVERS[as_forecast] == pytest.approx(1.055, abs=0.001)
    first = rehearse(None, view_of(fleet, flat(20.0)), headroom._replace(typical_per_second=20.0))
    assert first is not None
    assert first.held.min() == first.held[as_forecast] == 40.0
    known: Rehearsal | None = None
    for minute, level in enumerate((100.0, 90.0, 70.0)):
        view = view_of(fleet, flat(level), minute=float(minute))
        known = rehearse(watch(known, view, headroom, MINUTE), view, headroom._replace(typical_per_second=level))
        assert known is not None
        assert known.held[as_forecast] == (110.0, 110.0, 90.0)[minute]


def test_what_was_paid_and_missed_is_averaged_over_what_was_seen() -> None:
    """Half a day of belief and half a day of nothing missed leave half of it, and the capacity half-way."""
    headroom = start_headroom(0.99, 100.0)
    known = rehearse(None, view_of(FLEET, flat(100.0)), headroom)
    assert known is not None
    believed, held_first = known.missed[20], known.paid[20]
    known = replace(known, held=known.held * 3.0)
    for minute in range(1, 721):
        known = replace(known, slots_unix=(START + (minute - 1) * MINUTE,), slots=known.held[None, :])
        after = watch(known, view_of(FLEET, flat(100.0), minute=float(minute)), headroom, MINUTE)
        assert after is not None
        known = after
    assert known.missed[20] == pytest.approx(believed / 2.0, rel=0.01)
    assert known.paid[20] == pytest.approx(2.0 * held_first, rel=0.01)


def test_a_cheap_floor_that_may_be_given_back_does_not_set_the_price_of_a_miss() -> None:
    """At an opportunity of 1 USD/h ten times its worth would never rent anything for 36 USD/h."""
    metered = replace(RESERVED, min_replicas=0, opportunity_usd_per_replica_hour=1.0)
    fleet = fleet_of(metered, BURST, spill=None, attainment=0.99)
    verdict, _ = decide(view_of(fleet, flat(200.0), {"reserved": 4}), start_memory(START))
    assert verdict.targets["burst"] >= 16


def test_slots_stay_few_however_often_is_decided() -> None:
    headroom = start_headroom(0.99, 100.0)
    known: Rehearsal | None = None
    for second in range(0, 3600, 2):
        view = view_of(FLEET, flat(100.0), minute=second / 60.0)
        known = rehearse(watch(known, view, headroom, 2.0), view, headroom)
    assert known is not None
    assert len(known.slots_unix) == len(known.slots) <= 36
    assert known.seen_seconds == 3598.0
