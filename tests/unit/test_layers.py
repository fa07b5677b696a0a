"""The economics, one layer at a time: what a replica is expected to carry against its rent."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from policies.layers import (
    Worth,
    carried,
    grid_of,
    kept,
    pays_to_keep,
    pays_to_start,
    priced,
    quantile_weights,
    scaled,
    started,
    value_carried,
    with_backlog,
)
from policies.view import OfferView, Outlook
from tests.unit.decide_stories import BURST, CAPACITY, HOUR, MINUTE, SPILL_USD, flat, outlook_of

SPILL = Worth(SPILL_USD)


def seen(held: int = 0, **changes: Any) -> OfferView:
    offer = replace(BURST, **changes)
    return OfferView(offer, ready=held, usd_per_replica_hour=offer.usd_per_replica_hour)


def test_quantiles_stand_for_the_mass_around_them() -> None:
    assert quantile_weights((0.1, 0.5, 0.9)) == pytest.approx([0.3, 0.4, 0.3])


def test_a_layer_carries_the_demand_that_reaches_into_it() -> None:
    grid = grid_of(flat(25.0))
    hour = grid.times.index(HOUR)
    assert carried(grid, 0.0, 10.0)[hour] == pytest.approx(10.0 * HOUR)
    assert carried(grid, 20.0, 30.0)[hour] == pytest.approx(5.0 * HOUR)
    assert carried(grid, 30.0, 40.0)[hour] == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("use", "keeps"),
    [(0.24, False), (0.25, False), (0.27, True), (1.0, True)],
)
def test_spill_at_three_times_the_rent_keeps_a_layer_used_a_quarter_of_the_time(use: float, keeps: bool) -> None:
    """A third would pay for the rent; what is held counts 1.3 times, since it can still be let go later."""
    grid = grid_of(flat(100.0 + use * CAPACITY))
    assert kept(seen(1), priced(grid, SPILL), 100.0) == (1 if keeps else 0)


@pytest.mark.parametrize(
    ("demand", "spread", "replicas", "why"),
    [
        (100.0, 0.0, 10, "a certain demand is met exactly"),
        (104.0, 0.0, 11, "a last layer used 40 % of the time pays against spill at three times its rent"),
        (103.0, 0.0, 10, "a last layer used 30 % of the time does not"),
        (100.0, 0.5, 12, "demand between 50 and 150: the critical ratio 2/3 holds the 0.67 quantile, 117"),
        (0.0, 0.0, 0, "nobody comes, nothing is bought"),
    ],
)
def test_newsvendor(demand: float, spread: float, replicas: int, why: str) -> None:
    assert started(seen(), priced(grid_of(flat(demand, spread)), SPILL), 0.0, most=40) == replicas, why


@pytest.mark.parametrize(
    ("multiple", "replicas"),
    [(1.5, 8), (3.0, 12), (10.0, 14), (1000.0, 15)],
)
def test_the_dearer_a_miss_the_higher_the_quantile(multiple: float, replicas: int) -> None:
    worth = Worth(SPILL_USD / 3.0 * multiple)
    assert started(seen(), priced(grid_of(flat(100.0, 0.5)), worth), 0.0, most=40) == replicas


@pytest.mark.parametrize(
    ("rise_minute", "asks"),
    [(60.0, 0), (20.0, 0), (8.0, 5), (0.0, 5)],
)
def test_a_rise_is_answered_when_its_lead_time_comes_and_no_earlier(rise_minute: float, asks: int) -> None:
    grid = grid_of(outlook_of(lambda t: 50.0 if t >= rise_minute * MINUTE else 0.0))
    assert started(seen(), priced(grid, SPILL), 0.0, most=40) == asks


def test_a_peak_too_short_to_pay_for_its_boot_is_left_to_spill() -> None:
    grid = grid_of(outlook_of(lambda t: 150.0 if 8 * MINUTE <= t < 9 * MINUTE else 100.0))
    assert started(seen(), priced(grid, SPILL), 100.0, most=40) == 0


@pytest.mark.parametrize(
    ("quiet_minutes", "keeps"),
    [(5.0, 5), (10.0, 5), (60.0, 0)],
)
def test_release_sees_the_next_rise(quiet_minutes: float, keeps: int) -> None:
    """Letting go costs a boot at the next rise, so a valley shorter than that is held through, a long one is not."""
    grid = grid_of(outlook_of(lambda t: 0.0 if t < quiet_minutes * MINUTE else 50.0))
    assert kept(seen(5, lead_time_seconds=15 * MINUTE), priced(grid, SPILL), 0.0) == keeps


def test_a_long_minimum_hold_counts_against_a_short_wave() -> None:
    grid = grid_of(outlook_of(lambda t: 50.0 if t < 1 * HOUR else 0.0))
    assert started(seen(hold_seconds=10 * MINUTE), priced(grid, SPILL), 0.0, most=40) == 5
    assert started(seen(hold_seconds=12 * HOUR), priced(grid, SPILL), 0.0, most=40) == 0


def test_work_beyond_what_spill_may_take_is_worth_a_miss() -> None:
    grid = grid_of(flat(100.0, 0.5))
    limited = Worth(SPILL_USD, limit_per_second=20.0, miss_usd_per_unit=SPILL_USD * 100.0)
    assert started(seen(), priced(grid, SPILL), 0.0, most=40) == 12
    assert started(seen(), priced(grid, limited), 0.0, most=40) == 13, "20/s of spill stand in for the last two layers"
    closed = Worth(SPILL_USD, limit_per_second=0.0, miss_usd_per_unit=SPILL_USD * 100.0)
    assert started(seen(), priced(grid, closed), 0.0, most=40) == 15


def test_lots_are_bought_and_let_go_whole() -> None:
    rack = seen(replicas_per_lot=8)
    assert started(rack, priced(grid_of(flat(100.0)), SPILL), 0.0, most=5) == 1, "the second rack would be used for a quarter"
    assert started(rack, priced(grid_of(flat(110.0)), SPILL), 0.0, most=5) == 2, "at 3/8 it pays"
    assert kept(seen(16, replicas_per_lot=8), priced(grid_of(flat(40.0)), SPILL), 0.0) == 1


def test_an_old_forecast_is_read_from_now_on() -> None:
    rise = outlook_of(lambda t: 50.0 if t >= 60 * MINUTE else 0.0)
    assert started(seen(), priced(grid_of(rise, age_seconds=52 * MINUTE), SPILL), 0.0, most=40) == 5
    assert started(seen(), priced(grid_of(rise, age_seconds=1e9), SPILL), 0.0, most=40) == 0


def test_work_that_waits_counts_once() -> None:
    calm = grid_of(flat(100.0))
    late = with_backlog(calm, 6000.0, drain_seconds=600.0, until_seconds=600.0)
    extra = np.array(carried(late, 0.0, 1e9)) - np.array(carried(calm, 0.0, 1e9))
    assert extra[-1] == pytest.approx(6000.0, rel=0.3)
    assert with_backlog(calm, 0.0, 600.0, 600.0) is calm


def test_a_price_that_nobody_knows_buys_nothing() -> None:
    unknown = OfferView(replace(BURST, usd_per_replica_hour=None))
    assert started(unknown, priced(grid_of(flat(100.0)), SPILL), 0.0, most=40) == 0


def test_the_boundary_of_both_rules_on_paper() -> None:
    """Rent 1 USD/s, lead 100 s, so a boot is 100 USD. Value comes at 2 USD/s after a valley that ends at `start`."""
    times = tuple(float(t) for t in range(0, 1001, 10))

    def value(start: float) -> list[float]:
        return [2.0 * max(t - start, 0.0) for t in times]

    assert pays_to_keep(times, value(100.0), rent=1.0, lead=100.0), "the valley costs 100, a reboot as much"
    assert not pays_to_keep(times, value(110.0), rent=1.0, lead=100.0)
    assert pays_to_start(times, value(100.0), rent=1.0, lead=100.0, hold=0.0), "serving from the first second on"
    assert not pays_to_start(times, value(110.0), rent=1.0, lead=100.0, hold=0.0), "ten seconds too early: wait"
    assert not pays_to_start(times, value(100.0), rent=1.0, lead=1000.0, hold=0.0), "serving begins where the forecast ends"


def test_the_forecast_is_not_changed_by_reading_it() -> None:
    outlook = flat(10.0)
    before = Outlook(*(np.array(part) for part in (outlook.horizons_seconds, outlook.quantiles, outlook.demand, outlook.peak)))
    with_backlog(scaled(grid_of(outlook, age_seconds=70.0), 2.0), 5.0, 60.0, 60.0)
    assert np.array_equal(before.demand, outlook.demand)


def test_a_price_that_nobody_knows_is_worth_escaping_and_makes_no_nan() -> None:
    grid = grid_of(flat(20.0))
    saved = value_carried(grid, 0.0, 10.0, Worth(float("inf")))
    idle = value_carried(grid, 50.0, 60.0, Worth(float("inf")))
    assert saved[0] == 0.0
    assert all(usd > 1e25 for usd in saved[1:])
    assert max(map(abs, idle)) < 1e-6 * saved[1]
