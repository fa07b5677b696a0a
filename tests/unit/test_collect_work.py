"""What demand is made of, in which unit, and when it is not known."""

import pytest

from controlplane.collectors.api import Reading
from controlplane.collectors.gateway import Diverted
from controlplane.collectors.histograms import Latency
from controlplane.collectors.work import Composer, Lengths, nothing_heard
from controlplane.contracts.events import Flag
from controlplane.contracts.fleet import Fleet, Slo, Unit

SOURCE = {"kind": "prometheus", "input_token_weight": 0.1, "input_tokens": 2000.0, "output_tokens": 500.0}


def composer(unit: Unit = Unit.REQUESTS, *, has_gateway: bool = False) -> Composer:
    return Composer(Fleet(name="f", slo=Slo(0.9), unit=unit, offers=(), demand_source=SOURCE), "test", has_gateway=has_gateway)


def reading(requests: float | None = 10.0, at: float = 1000.0, **more: float | Latency) -> Reading:
    return Reading(at, 15.0, requests, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("unit", "work"), [(Unit.REQUESTS, 1.0), (Unit.OUTPUT_TOKENS, 500.0), (Unit.WEIGHTED_TOKENS, 500.0 + 0.1 * 2000.0)]
)
def test_units(unit: Unit, work: float) -> None:
    seen = composer(unit).compose(reading(waiting=4.0), Diverted(2.0, 1.0, was_heard=True))

    assert seen.demand_per_second == pytest.approx((10.0 + 2.0 + 1.0) * work)
    assert seen.backlog == pytest.approx(4.0 * work)
    assert seen.spilled_per_second == pytest.approx(2.0 * work)
    assert seen.late_per_second == pytest.approx(work)


def test_measured_lengths_replace_the_policys_after_twenty_requests() -> None:
    made = composer(Unit.OUTPUT_TOKENS)
    few = made.compose(reading(finished=19.0, output_tokens=19 * 100.0, input_tokens=19 * 900.0))
    enough = made.compose(reading(finished=19.0, output_tokens=19 * 100.0, input_tokens=19 * 900.0, at=1000.0))

    assert few.demand_per_second == 10.0 * 500.0
    assert few.output_tokens_mean is None
    assert enough.demand_per_second == pytest.approx(10.0 * 100.0)
    assert (enough.input_tokens_mean, enough.output_tokens_mean) == (pytest.approx(900.0), pytest.approx(100.0))


def test_lengths_follow_a_change_within_minutes() -> None:
    lengths = Lengths(1.0, 1.0)
    for step in range(40):
        lengths.learn(reading(at=step * 15.0, finished=100.0, output_tokens=100 * 200.0, input_tokens=1.0))
    for step in range(40, 120):
        lengths.learn(reading(at=step * 15.0, finished=100.0, output_tokens=100 * 400.0, input_tokens=1.0))

    assert lengths.mean[1] == pytest.approx(400.0, rel=0.05)


def test_an_arrivals_counter_stands_alone() -> None:
    seen = composer().compose(reading(), Diverted(2.0, 1.0, was_heard=True), overrides={"demand": 7.0})

    assert seen.demand_per_second == 7.0
    assert seen.spilled_per_second == 2.0


def test_a_gateway_that_went_silent_makes_demand_unknown_and_one_never_heard_marks_it() -> None:
    silent = composer(has_gateway=True).compose(reading(), Diverted(was_heard=True))
    never = composer(has_gateway=True).compose(reading(), Diverted())

    assert silent.demand_per_second is None
    assert never.demand_per_second == 10.0
    assert Flag.PARTIAL in silent.flags
    assert Flag.PARTIAL in never.flags


def test_a_spill_query_without_an_answer_makes_demand_unknown() -> None:
    seen = composer().compose(reading(), overrides={"spilled": None})

    assert seen.demand_per_second is None
    assert seen.spilled_per_second is None


def test_a_wave_is_believed_and_a_wrong_unit_is_not() -> None:
    made = composer()
    for step in range(10):
        made.compose(reading(at=1000.0 + step))
    wave, wrong = made.compose(reading(500.0)), made.compose(reading(500.0 * 5000.0))

    assert not wave.flags
    assert wrong.flags == (Flag.IMPLAUSIBLE,)


def test_after_a_silence_the_demand_is_the_mean_of_all_the_time_since() -> None:
    made = composer()
    made.compose(reading(at=1000.0))
    made.compose(reading(None, at=1015.0))
    back = made.compose(reading(at=1030.0))

    assert back.interval_seconds == 30.0


def test_nothing_heard_is_said() -> None:
    seen = nothing_heard(Fleet(name="f", slo=Slo(0.9), unit=Unit.REQUESTS, offers=()), 1000.0, 15.0, "test", 40.0)

    assert (seen.demand_per_second, seen.age_seconds, seen.flags) == (None, 40.0, (Flag.STALE,))


def test_first_tokens_that_were_late_make_work_late_and_shed_work_is_late_too() -> None:
    timed = reading(finished_per_second=8.0, ttft=Latency(1.2, 0.75), itl=Latency(0.1, 0.2))
    seen = composer(Unit.OUTPUT_TOKENS).compose(timed, Diverted(0.0, 1.0, was_heard=True))

    assert seen.served_per_second == pytest.approx(8.0 * 0.75 * 500.0)
    assert seen.late_per_second == pytest.approx((8.0 * 0.25 + 1.0) * 500.0), "times between tokens are told of and do not count"
    assert (seen.ttft_attained_share, seen.itl_attained_share) == (0.75, 0.2)


def test_the_policys_own_queries_win_over_what_the_histogram_says() -> None:
    seen = composer().compose(reading(finished_per_second=8.0, ttft=Latency(1.2, 0.75)), overrides={"late": 0.5, "served": 7.5})

    assert (seen.served_per_second, seen.late_per_second) == (7.5, 0.5)
