"""Head-room that calibrates itself: what is held above the forecast follows the attained share, not a knob."""

from math import exp, inf
from random import Random

import pytest

from policies.headroom import learn_headroom, level_to_cover, start_headroom
from policies.view import Headroom
from tests.unit.decide_stories import flat

MINUTE, DAY = 60.0, 86400.0


def after(late_share: float | None, minutes: int, attainment: float = 0.99, lead: float = 480.0) -> float:
    """Return the factor after so many minutes of steady demand and lateness."""
    known: Headroom | None = None
    for _ in range(minutes):
        known = learn_headroom(known, MINUTE, 100.0, late_share, attainment, lead)
    assert known is not None
    return exp(known.log_factor)


@pytest.mark.parametrize(("attainment", "factor"), [(0.99, 1.0), (0.995, 1.07), (0.999, 1.26), (0.9, 0.79)])
def test_it_starts_higher_the_rarer_a_miss_may_be(attainment: float, factor: float) -> None:
    assert exp(start_headroom(attainment, 100.0).log_factor) == pytest.approx(factor, abs=0.01)


@pytest.mark.parametrize(
    ("late_share", "minutes", "low", "high", "why"),
    [
        (0.0, 1440, 0.8, 0.9, "a day without a miss gives a sixth of the head-room back"),
        (1.0, 10, 1.09, 1.12, "ten minutes that were all late cost ten percent more from then on"),
        (0.0085, 1440, 0.99, 1.01, "what may be missed, a little short of it, changes nothing"),
        (None, 1440, 1.0, 1.0, "where nobody says what was late, nothing is learnt"),
        (1.0, 100_000, 6.0, 6.0, "there is an end to it"),
        (0.0, 100_000, 0.6, 0.6, "on both sides"),
    ],
)
def test_it_follows_what_was_late(late_share: float | None, minutes: int, low: float, high: float, why: str) -> None:
    assert low - 1e-9 <= after(late_share, minutes) <= high + 1e-9, why


def test_a_rarer_miss_says_more_and_a_longer_lead_answers_slower() -> None:
    assert after(1.0, 11, 0.999) / after(1.0, 1, 0.999) == pytest.approx(exp(0.1 * 10**0.5), rel=0.02)
    assert after(1.0, 11, lead=3600.0) / after(1.0, 1, lead=3600.0) == pytest.approx(exp(0.1 * 7.5**-0.75), rel=0.01)


@pytest.mark.parametrize("attainment", [0.99, 0.999])
@pytest.mark.parametrize("sharpness", [5.0, 20.0])
def test_whatever_the_world_is_like_the_attained_share_comes_to_the_aimed_one(attainment: float, sharpness: float) -> None:
    """Worlds where a miss gets rarer by e^sharpness for each factor e of head-room, with noise: the learner is told neither."""
    random, known, late, minutes = Random(7), None, 0.0, 28 * 1440
    allowed = 1.0 - attainment
    for minute in range(minutes):
        factor = known.log_factor if known is not None else 0.0
        rate = min(0.05 * exp(-sharpness * factor) * random.expovariate(1.0), 1.0)
        known = learn_headroom(known, MINUTE, 100.0, rate, attainment, 480.0)
        late += rate if minute > 7 * 1440 else 0.0
    assert 0.6 * allowed < late / (minutes - 7 * 1440) < allowed


@pytest.mark.parametrize(("missed", "moved"), [(0.0085, -1.0), (0.0850, -0.25), (0.0, -1.5)], ids=["as aimed", "too much", "nothing"])
def test_weeks_that_missed_too_much_give_head_room_back_slowly(missed: float, moved: float) -> None:
    known = start_headroom(0.99, 100.0)._replace(seen_seconds=7 * DAY, missed_share=missed)
    after_minute = learn_headroom(known, MINUTE, 100.0, 0.0, 0.99, 480.0)
    assert after_minute.log_factor == pytest.approx(moved * 0.01 * 0.0085)


def test_the_level_scales_the_body_of_the_forecast_and_typical_demand() -> None:
    headroom = Headroom(0.0, 80.0, 1000.0, DAY)
    assert level_to_cover(flat(100.0), headroom)[0, 0] == pytest.approx(100.0)
    more = headroom._replace(log_factor=0.1823215568)
    assert level_to_cover(flat(100.0), more)[0, 0] == pytest.approx(100.0 + 0.2 * (0.75 * 80.0 + 0.25 * 100.0))


def test_head_room_ends_a_third_above_the_recent_peak_but_a_forecast_does_not() -> None:
    wide = Headroom(1.7, 100.0, 150.0, DAY)
    assert level_to_cover(flat(100.0), wide)[0, 0] == pytest.approx(195.0)
    assert level_to_cover(flat(1000.0), wide)[0, 0] == pytest.approx(1000.0)


def test_a_peak_is_forgotten_over_weeks() -> None:
    known = learn_headroom(start_headroom(0.99, 500.0), 7 * DAY, 100.0, None, 0.99, 480.0)
    assert known.peak_per_second == pytest.approx(500.0 * exp(-1.0))
    assert known.typical_per_second < 500.0
    assert all(figure < inf for figure in known)
