"""How much to own: layers against the break-even line, on days that can be added up by hand."""

import numpy as np
import pytest

from policies.floor import Instead, Term, layer_uses, parts_of, size_floor

HOUR = 3600.0
DAY = 24
YEAR = Term("one year", 20.0, 365 * 86400.0)
RENTED = Instead(10.0, 60.0, lead_seconds=0.0, hold_seconds=0.0)


def days(count: int = 14, low: float = 40.0, high: float = 120.0, busy_hours: int = 8) -> np.ndarray:
    """Return days with `busy_hours` of high demand, by the hour."""
    return np.tile([high] * busy_hours + [low] * (DAY - busy_hours), count)


def test_what_is_always_there_is_owned_and_what_is_there_a_third_of_the_day_is_not() -> None:
    best = size_floor(days(), HOUR, [YEAR], RENTED)[0]
    assert best.replicas == 4
    assert best.saving_usd_per_hour == pytest.approx(4 * 60.0 - 4 * 20.0)
    assert best.saving_usd == pytest.approx(160.0 * 365 * 24)


@pytest.mark.parametrize(("busy_hours", "replicas"), [(7, 4), (8, 4), (9, 12), (24, 12)])
def test_break_even_is_the_committed_price_over_the_rent(busy_hours: int, replicas: int) -> None:
    assert size_floor(days(busy_hours=busy_hours), HOUR, [YEAR], RENTED)[0].replicas == replicas


def test_boots_and_holds_make_renting_dearer_and_owning_more() -> None:
    """Nine hours needed, an hour of boot ahead and two of hold after: eleven are paid."""
    slow = Instead(10.0, 60.0, lead_seconds=HOUR, hold_seconds=3 * HOUR)
    uses = layer_uses(days(busy_hours=8), HOUR, slow)
    assert uses.needed[6] == pytest.approx((14 * 11 - 1) / (14 * 24))
    assert size_floor(days(busy_hours=8), HOUR, [YEAR], slow)[0].replicas == 12


def test_spill_caps_what_a_rarely_used_layer_can_save() -> None:
    spilling = Instead(10.0, 60.0, 0.0, 0.0, usd_per_unit_spilled=3 * 60.0 / (10.0 * HOUR))
    thin = np.where(np.arange(14 * DAY) % 24 < 12, 41.0, 40.0)
    assert layer_uses(thin, HOUR, spilling).usd_per_hour[4] == pytest.approx(0.5 * 0.1 * 180.0)
    assert size_floor(thin, HOUR, [YEAR], RENTED)[0].replicas == 5
    assert size_floor(thin, HOUR, [YEAR], spilling)[0].replicas == 4


def test_the_range_is_over_weeks() -> None:
    grown = np.concatenate((days(7, low=40.0), days(7, low=60.0)))
    best = size_floor(grown, HOUR, [YEAR], RENTED)[0]
    assert (best.replicas_low, best.replicas, best.replicas_high) == (4, 6, 6)
    assert best.saving_low_usd_per_hour < best.saving_usd_per_hour < best.saving_high_usd_per_hour


def test_the_term_that_saves_most_comes_first() -> None:
    terms = [Term("month", 35.0, 30 * 86400.0), YEAR, Term("three years", 14.0, 3 * 365 * 86400.0)]
    assert [choice.term.name for choice in size_floor(days(), HOUR, terms, RENTED)] == ["three years", "one year", "month"]


def test_a_price_above_the_rent_owns_nothing() -> None:
    best = size_floor(days(), HOUR, [Term("dear", 61.0, 86400.0)], RENTED)[0]
    assert (best.replicas, best.saving_usd_per_hour) == (0, 0.0)


def test_gaps_count_neither_way_and_no_history_owns_nothing() -> None:
    gappy = days()
    gappy[::5] = np.nan
    assert size_floor(gappy, HOUR, [YEAR], RENTED)[0].replicas == 4
    assert size_floor(np.full(48, np.nan), HOUR, [YEAR], RENTED)[0].replicas == 0
    assert size_floor(np.array([]), HOUR, [YEAR], RENTED)[0].replicas == 0


def test_parts_are_weeks_then_days_then_all() -> None:
    assert [len(part) for part in parts_of(days(20), HOUR)] == [168, 168]
    assert [len(part) for part in parts_of(days(9), HOUR)] == [24] * 9
    assert [len(part) for part in parts_of(days(1), HOUR)] == [24]


def test_a_higher_layer_never_saves_more_than_a_lower_one() -> None:
    rng = np.random.default_rng(3)
    uses = layer_uses(rng.gamma(2.0, 50.0, 14 * DAY), HOUR, Instead(10.0, 60.0, HOUR, 2 * HOUR, 0.005))
    assert (np.diff(uses.usd_per_hour) <= 1e-12).all()
