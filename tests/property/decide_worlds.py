"""Worlds that decisions are tried in: fleets of one to four offers with any limits, any forecast, any pools, any history.

Owns Hypothesis strategies only; `test_decide` says what holds in all of them.
"""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from controlplane.contracts.fleet import (
    EVERY_DAY,
    Behavior,
    Budget,
    BudgetWindow,
    Direction,
    Fleet,
    Offer,
    Select,
    Spill,
    StepKind,
    StepLimit,
    Tier,
)
from policies.decide import decide, start_memory
from policies.view import Memory, OfferView, Outlook, View
from tests.unit.decide_stories import HORIZONS, QUANTILES, START, fleet_of

SPANS = st.sampled_from([0.0, 60.0, 300.0, 600.0])
LOTS = st.sampled_from([1, 1, 1, 4, 8])
PRICES = st.sampled_from([None, 0.0, 1.0, 20.0, 36.0, 48.0, 90.0, 120.0])


def offers(index: int, lots: st.SearchStrategy[int] = LOTS) -> st.SearchStrategy[Offer]:
    """Return offers by index, so that names differ."""
    return st.builds(
        Offer,
        name=st.just(f"offer-{index}"),
        tier=st.sampled_from([Tier.FLOOR, Tier.BURST, Tier.BURST]),
        capacity_per_second=st.sampled_from([5.0, 10.0, 25.0]),
        min_replicas=st.integers(0, 3),
        max_replicas=st.integers(3, 40),
        usd_per_replica_hour=PRICES,
        lead_time_seconds=st.sampled_from([0.0, 30.0, 480.0, 1800.0, 3600.0]),
        hold_seconds=st.sampled_from([0.0, 600.0, 3600.0]),
        replicas_per_lot=lots,
        opportunity_usd_per_replica_hour=st.sampled_from([0.0, 0.0, 20.0]),
        ceiling_usd_per_replica_hour=st.sampled_from([None, 100.0]),
        scale_up_cooldown_seconds=SPANS,
        scale_down_cooldown_seconds=SPANS,
    )


STEP_LIMITS = st.builds(StepLimit, st.sampled_from(list(StepKind)), st.integers(1, 100), st.sampled_from([15.0, 60.0, 900.0]))
DIRECTIONS = st.builds(
    Direction, SPANS, st.sampled_from([0.0, 0.1]), st.lists(STEP_LIMITS, max_size=2).map(tuple), st.sampled_from([Select.MAX, Select.MIN])
)
SHRINKING = st.builds(lambda down, budget: replace(down, budget=budget), DIRECTIONS, st.one_of(st.none(), st.none(), STEP_LIMITS))
WINDOWS = st.builds(
    BudgetWindow, st.just("window"), st.sampled_from([(0, 1, 2, 3, 4), (5, 6), EVERY_DAY]), st.sampled_from([0.0, 28_800.0, 72_000.0]),
    st.sampled_from([28_800.0, 86_400.0]), st.sampled_from([None, 0.0, 200.0]), st.sampled_from([None, 0.0, 1000.0]),
)  # fmt: skip
BUDGETS = st.builds(
    Budget, st.sampled_from([None, 0.0, 100.0, 500.0]), st.sampled_from([None, 0.0, 50.0, 1000.0]),
    st.lists(WINDOWS, max_size=1).map(tuple), st.sampled_from(["UTC", "America/New_York"]),
)  # fmt: skip
SPILLS = st.one_of(st.none(), st.builds(Spill, st.just("hosted"), st.sampled_from([0.0, 0.003, 0.01]), st.sampled_from([None, 0.0, 50.0])))


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    """Return fleets with any limits."""
    count = draw(st.integers(1, 4))
    made = fleet_of(
        *(draw(offers(index)) for index in range(count)),
        spill=draw(SPILLS),
        behavior=draw(st.builds(Behavior, DIRECTIONS, SHRINKING)),
        budget=draw(BUDGETS),
        max_total_replicas=draw(st.sampled_from([None, None, 0, 10])),
    )
    return replace(made, slo=replace(made.slo, attainment=draw(st.sampled_from([0.9, 0.99, 0.999, 1.0]))))


@st.composite
def outlooks(draw: st.DrawFn) -> Outlook:
    """Return any forecast: levels by horizon, and a spread that rises along the quantiles."""
    knots = draw(st.lists(st.floats(0.0, 500.0), min_size=1, max_size=6))
    level = np.array(knots)[np.arange(len(HORIZONS)) * len(knots) // len(HORIZONS)]
    spread = draw(st.floats(0.0, 2.0))
    demand = level[:, None] * np.exp(spread * (QUANTILES[None, :] - 0.5))
    return Outlook(HORIZONS, QUANTILES, demand, np.maximum.accumulate(demand, axis=0))


@st.composite
def views(draw: st.DrawFn, fleet: Fleet, now: float = START, **fixed: object) -> View:
    """Return the world at one instant: any pools, prices, stock, doubts and alerts."""
    seen = tuple(
        OfferView(
            offer,
            draw(st.integers(0, 20)),
            draw(st.integers(0, 5)),
            draw(st.one_of(st.just(offer.usd_per_replica_hour), PRICES)),
            draw(st.one_of(st.none(), st.integers(0, 5))),
            draw(st.sampled_from([False, False, True])),
            unserving=draw(st.sampled_from([0, 0, 2])),
            paid_usd_per_hour=draw(st.sampled_from([None, None, 10.0, 300.0])),
            untold=draw(st.sampled_from([False] * 9 + [True])),
        )
        for offer in fleet.offers
    )
    world: dict[str, object] = {
        "demand_per_second": draw(st.one_of(st.none(), st.floats(0.0, 500.0))),
        "demand_age_seconds": draw(st.sampled_from([0.0, 15.0, 121.0, 1e6])),
        "backlog": draw(st.sampled_from([0.0, 0.0, 1000.0])),
        "late_share": draw(st.one_of(st.none(), st.floats(0.0, 1.0))),
        "spilled_per_second": draw(st.one_of(st.none(), st.floats(0.0, 100.0))),
        "lift_replicas": draw(st.sampled_from([0, 0, 3])),
        "implausible": draw(st.booleans()),
        "frozen": draw(st.sampled_from([False, False, False, True])),
        "poke": draw(st.booleans()),
    }
    return View(now, fleet, seen, draw(st.one_of(st.none(), outlooks())), **{**world, **fixed})  # type: ignore[arg-type]


@st.composite
def histories(draw: st.DrawFn, length: int = 4, **fixed: object) -> tuple[View, Memory]:
    """Return a world and the memory that some decisions before it left."""
    fleet = draw(fleets())
    memory, now = start_memory(START), START
    for _ in range(draw(st.integers(0, length))):
        _, memory = decide(draw(views(fleet, now, **fixed)), memory)
        now += draw(st.sampled_from([1.0, 15.0, 60.0, 3600.0]))
    return draw(views(fleet, now, **fixed)), memory
