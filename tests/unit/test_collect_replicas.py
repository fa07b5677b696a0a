"""Arrivals out of replicas' samples, as stories and as properties: restarts, replicas that come and go, silence, and what is doubtful."""

import math
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.collectors.histograms import merged, quantile, share_within
from controlplane.collectors.presets import VLLM, Signal
from controlplane.collectors.replicas import Replicas, Sample
from controlplane.collectors.roles import Role, Roles
from controlplane.contracts.events import Flag
from controlplane.contracts.fleet import Slo

FINISHED = Role(Signal.FINISHED, 0)
RUNNING = Role(Signal.RUNNING, 0)
WAITING = Role(Signal.WAITING, 0)
T0 = 1_700_000_000.0
STEP = 15.0


def scrape(finished: float, running: float, waiting: float = 0.0) -> list[Sample]:
    return [("finished", FINISHED, finished), ("running", RUNNING, running), ("waiting", WAITING, waiting)]


def rates(replicas: Replicas, scrapes: Iterable[dict[str, list[Sample]]], start: float = T0) -> list[float | None]:
    """Feed one dict of scrapes per step and close after each; the replicas named are those that are there."""
    found = []
    for step, each in enumerate(scrapes):
        for name, samples in each.items():
            replicas.take(name, start + step * STEP, samples)
        found.append(replicas.close(start + step * STEP, STEP, set(each)).requests_per_second)
    return found


def test_arrivals_are_what_finished_and_what_is_held_more() -> None:
    found = rates(Replicas(), [{"a": scrape(100, 5)}, {"a": scrape(115, 10, 10)}, {"a": scrape(160, 10, 0)}])

    assert found == [None, pytest.approx((15 + 15) / STEP), pytest.approx((45 - 10) / STEP)]


def test_completions_saturate_and_demand_does_not() -> None:
    found = rates(Replicas(), [{"a": scrape(150.0 * k, 60, 450.0 * k)} for k in range(4)])

    assert found[1:] == [pytest.approx(40.0)] * 3, "10 per second finish, and 30 more pile up"


def test_the_first_sample_is_a_baseline_not_a_spike() -> None:
    assert rates(Replicas(), [{"a": scrape(1e6, 50)}]) == [None]


def test_a_restart_counts_from_zero_and_says_so() -> None:
    replicas = Replicas()
    rates(replicas, [{"a": scrape(1000, 30)}, {"a": scrape(1150, 30)}])
    replicas.take("a", T0 + 2 * STEP, scrape(40, 20))
    reading = replicas.close(T0 + 2 * STEP, STEP, {"a"})

    assert reading.requests_per_second == pytest.approx(60 / STEP)
    assert Flag.RESET in reading.flags


def test_a_restart_of_few_among_many_is_no_doubt() -> None:
    replicas = Replicas()
    names = [f"r{index}" for index in range(20)]
    rates(replicas, [{name: scrape(150.0 * k, 10) for name in names} for k in range(2)])
    for name in names:
        replicas.take(name, T0 + 2 * STEP, scrape(*((100, 10) if name == "r0" else (300, 10))))
    reading = replicas.close(T0 + 2 * STEP, STEP, set(names))

    assert not reading.flags
    assert reading.requests_per_second == pytest.approx((19 * 150 + 110) / STEP)


def test_a_new_replica_has_counted_from_zero() -> None:
    found = rates(Replicas(), [{"a": scrape(0, 10)}, {"a": scrape(150, 10)}, {"a": scrape(300, 10), "b": scrape(90, 30)}])

    assert found[2] == pytest.approx((150 + 120) / STEP)


def test_an_old_replica_seen_for_the_first_time_is_a_baseline() -> None:
    found = rates(Replicas(), [{"a": scrape(0, 10)}, {"a": scrape(150, 10)}, {"a": scrape(300, 10), "b": scrape(9e6, 30)}])

    assert found[2] == pytest.approx(150 / STEP)


def test_a_replica_that_left_is_gone_at_once_and_was_counted_to_its_end() -> None:
    replicas = Replicas()
    rates(replicas, [{name: scrape(150.0 * k, 10) for name in "ab"} for k in range(2)])
    replicas.take("a", T0 + 2 * STEP, scrape(300, 10))
    replicas.take("b", T0 + 1.5 * STEP, scrape(190, 0))
    reading = replicas.close(T0 + 2 * STEP, STEP, {"a"})

    assert reading.requests_per_second == pytest.approx((150 + 40 - 10) / STEP)
    assert reading.coverage == 1.0
    assert set(replicas.tracks) == {"a"}


@pytest.mark.parametrize("late", [0.0, 0.3, 0.9])
def test_a_replica_that_comes_and_goes_between_readings_counts_each_moment_once(late: float) -> None:
    # Its pages come `late` seconds before each reading; it works from 5.0 to 35.0 at ten a second, and is gone at 40.
    replicas = Replicas()
    replicas.take("other", T0 - late, scrape(100.0 - 50.0 * late, 5))
    replicas.close(T0, 1.0, {"other"})
    counted = 0.0
    for second in range(1, 50):
        page = second - late
        replicas.take("other", T0 + page, scrape(100.0 + 50.0 * page, 5))
        if page > 5.0 and second < 40:
            replicas.take("new", T0 + page, scrape(10.0 * (min(page, 35.0) - 5.0), 0))
        there = {"other", "new"} if page > 5.0 and second < 40 else {"other"}
        counted += replicas.close(T0 + second, 1.0, there).requests_per_second or 0.0

    assert counted - 50.0 * 49 == pytest.approx(300.0, abs=1e-3)


def test_a_silent_replica_is_bridged_for_a_while_and_marked() -> None:
    replicas, names = Replicas(), set("abcd")
    rates(replicas, [{name: scrape(150.0 * k, 10) for name in names} for k in range(3)])
    readings = []
    for k in range(3, 20):
        for name in "abc":
            replicas.take(name, T0 + k * STEP, scrape(150.0 * k, 10))
        readings.append(replicas.close(T0 + k * STEP, STEP, names))

    assert readings[0].requests_per_second == pytest.approx(40.0), "its last rate stands in"
    assert readings[4].coverage == 0.75
    assert Flag.PARTIAL in readings[4].flags
    assert readings[-1].requests_per_second == pytest.approx(30.0), "after that nobody knows what it would have taken"
    assert readings[-1].coverage == 0.75


def test_an_outage_of_all_is_unknown_never_zero_and_made_good_by_the_mean_over_the_gap() -> None:
    replicas = Replicas()
    rates(replicas, [{"a": scrape(150.0 * k, 10)} for k in range(3)])
    silent = [replicas.close(T0 + k * STEP, STEP, {"a"}) for k in range(3, 23)]
    replicas.take("a", T0 + 23 * STEP, scrape(150.0 * 23, 10))
    back = replicas.close(T0 + 23 * STEP, STEP, {"a"})

    assert [reading.requests_per_second for reading in silent[3:]] == [None] * 17
    assert all(Flag.STALE in reading.flags for reading in silent[3:])
    assert silent[-1].age_seconds == pytest.approx(20 * STEP)
    assert back.requests_per_second == pytest.approx(10.0)
    assert Flag.PARTIAL in back.flags


def test_less_than_half_of_the_replicas_is_not_the_demand() -> None:
    replicas, names = Replicas(), set("abc")
    rates(replicas, [{name: scrape(150.0 * k, 10) for name in names} for k in range(3)])
    for k in range(3, 8):
        replicas.take("a", T0 + k * STEP, scrape(150.0 * k, 10))
        reading = replicas.close(T0 + k * STEP, STEP, names)

    assert reading.requests_per_second is None
    assert reading.coverage == pytest.approx(1 / 3)


@pytest.mark.parametrize("bad", [math.nan, -1.0, math.inf])
def test_values_that_cannot_be_are_doubted(bad: float) -> None:
    replicas = Replicas()
    rates(replicas, [{"a": scrape(150.0 * k, 10)} for k in range(2)])
    replicas.take("a", T0 + 2 * STEP, scrape(300, 10, bad))

    assert Flag.IMPLAUSIBLE in replicas.close(T0 + 2 * STEP, STEP, {"a"}).flags


def test_more_leaving_than_ever_came_is_doubted_and_never_negative() -> None:
    replicas = Replicas()
    rates(replicas, [{"a": scrape(0, 500)}, {"a": scrape(0, 500)}])
    replicas.take("a", T0 + 2 * STEP, scrape(0, 0))
    reading = replicas.close(T0 + 2 * STEP, STEP, {"a"})

    assert reading.requests_per_second == 0.0
    assert Flag.IMPLAUSIBLE in reading.flags


def test_a_page_without_running_requests_is_not_heard() -> None:
    replicas = Replicas()
    replicas.take("a", T0, [("finished", FINISHED, 5.0)])

    assert not replicas.tracks


def test_an_engine_that_works_and_never_finishes_anything_is_not_idle() -> None:
    replicas = Replicas()
    for step in range(8):
        replicas.take("a", T0 + step * STEP, [("running", RUNNING, 30.0)])
        reading = replicas.close(T0 + step * STEP, STEP, {"a"})

    assert reading.requests_per_second is None, "its counter has another name: that is unknown, not zero"
    assert Flag.PARTIAL in reading.flags
    assert reading.running == 30.0


def test_an_engine_that_exports_its_counter_with_the_first_request_is_counted_from_the_start() -> None:
    replicas = Replicas()
    for step, page in enumerate(([("running", RUNNING, 0.0)], [("running", RUNNING, 3.0)], scrape(4, 2))):
        replicas.take("a", T0 + step * STEP, page)
        reading = replicas.close(T0 + step * STEP, STEP, {"a"})

    assert reading.requests_per_second == pytest.approx((4 + 2 - 3) / STEP)


def test_of_two_names_the_better_counts_and_not_both() -> None:
    roles = Roles(VLLM)
    replicas = Replicas()
    for k in range(2):
        page = [
            ("new", roles.of("vllm:kv_cache_usage_perc", {})[0], 0.5),
            ("old", roles.of("vllm:gpu_cache_usage_perc", {})[0], 0.9),
            ("all", roles.of("vllm:num_requests_waiting", {})[1], 40.0),
            ("capacity", roles.of("vllm:num_requests_waiting_by_reason", {"reason": "capacity"})[0], 25.0),
        ]
        replicas.take("a", T0 + k * STEP, [*scrape(150.0 * k, 10, 40), *page])
        reading = replicas.close(T0 + k * STEP, STEP, {"a"})

    assert reading.kv_cache_used_share == 0.5
    assert reading.waiting == 25.0, "requests that are deferred do not wait for capacity"
    assert roles.of("vllm:num_requests_waiting_by_reason", {"reason": "deferred"}) == ()


@given(st.lists(st.tuples(st.integers(0, 400), st.booleans()), min_size=3, max_size=40), st.floats(0.0, 1.0))
def test_every_arrival_is_counted_once_whatever_finishes_when(steps: list[tuple[int, bool]], share: float) -> None:
    """The sum of rate x time is what arrived, through restarts, which lose what was held but nothing that came."""
    replicas = Replicas()
    finished = held = offered = counted = 0.0
    for index, (arrivals, restarts) in enumerate(steps):
        if restarts and finished > arrivals:
            finished = held = 0.0
        held += arrivals
        done = math.floor(held * share)
        finished, held = finished + done, held - done
        replicas.take("a", T0 + index * STEP, scrape(finished, held))
        reading = replicas.close(T0 + index * STEP, STEP, {"a"})
        if index:
            assert reading.requests_per_second is not None
            counted += reading.requests_per_second * STEP
            offered += arrivals

    assert counted == pytest.approx(offered, abs=1e-6)


@given(st.lists(st.booleans(), min_size=4, max_size=40), st.integers(1, 400))
def test_missed_scrapes_of_a_steady_replica_change_nothing(heard: list[bool], arrivals: int) -> None:
    replicas = Replicas()
    rates(replicas, [{"a": scrape(float(arrivals * step), 5)} for step in range(3)])
    counted, known_until = 0.0, 2
    for step, is_heard in enumerate(heard, start=3):
        if is_heard:
            replicas.take("a", T0 + step * STEP, scrape(float(arrivals * step), 5))
        reading = replicas.close(T0 + step * STEP, STEP, {"a"})
        if reading.requests_per_second is not None:
            counted += reading.requests_per_second * (step - known_until) * STEP
            known_until = step

    assert counted == pytest.approx(arrivals * (known_until - 2), abs=1e-6)


@given(st.lists(st.floats(0.0, 1e6), min_size=2, max_size=30))
def test_a_counter_with_resets_never_adds_a_negative_amount(totals: list[float]) -> None:
    replicas = Replicas()
    for index, total in enumerate(totals):
        replicas.take("a", T0 + index * STEP, scrape(total, 0))
        reading = replicas.close(T0 + index * STEP, STEP, {"a"})
        if index:
            grown = total - totals[index - 1] if total >= totals[index - 1] else total
            assert reading.requests_per_second == pytest.approx(grown / STEP)


def test_histograms_of_two_layouts_are_merged_by_interpolation() -> None:
    one = {0.5: 50.0, 1.0: 100.0, math.inf: 100.0}
    other = {1.0: 100.0, math.inf: 100.0}

    total = merged([one, other])

    assert total == {0.5: 100.0, 1.0: 200.0, math.inf: 200.0}
    assert quantile(total, 0.95) == pytest.approx(0.95)


def test_a_quantile_is_that_of_prometheus() -> None:
    assert quantile({1.0: 50.0, 2.0: 100.0, math.inf: 100.0}, 0.95) == pytest.approx(1.9)
    assert quantile({1.0: 50.0, math.inf: 100.0}, 0.95) == 1.0
    assert quantile({1.0: 0.0, math.inf: 0.0}, 0.95) is None
    assert quantile({}, 0.95) is None


@pytest.mark.parametrize(
    ("bound", "share"),
    [(1.0, 0.5), (1.5, 0.7), (2.0, 0.9), (0.5, 0.25), (10.0, 0.9), (0.0, 0.0)],
    ids=[
        "at a bound",
        "inside a bucket",
        "at the largest finite bound",
        "in the first bucket",
        "beyond all bounds",
        "nothing is that fast",
    ],
)
def test_the_share_within_a_bound_is_drawn_straight_inside_a_bucket_and_never_guesses_beyond_the_last(bound: float, share: float) -> None:
    assert share_within({1.0: 50.0, 2.0: 90.0, math.inf: 100.0}, bound) == pytest.approx(share)


def test_a_histogram_that_counted_nothing_attained_nothing_known() -> None:
    assert share_within({}, 1.0) is None
    assert share_within({1.0: 0.0, math.inf: 0.0}, 1.0) is None


def test_the_share_within_the_policys_bound_is_of_this_interval_alone() -> None:
    replicas = Replicas(Slo(0.99, ttft_seconds=2.0))
    for step, (fast, slow) in enumerate([(1000.0, 1000.0), (1100.0, 1000.0), (1150.0, 1050.0)]):
        counted = [(bound, Role(Signal.TTFT, 0, bound), count) for bound, count in ((2.0, fast), (math.inf, fast + slow))]
        replicas.take("a", T0 + step * STEP, [*scrape(0, 5), *counted])
        reading = replicas.close(T0 + step * STEP, STEP, {"a"})
        assert reading.ttft.attained_share == (None, 1.0, 0.5)[step]
        assert reading.itl.attained_share is None
