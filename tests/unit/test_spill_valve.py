"""The spill valve as stories: it opens at once, closes gradually, and never lets more through than was authorised."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actuators.gateway import LARGEST_WEIGHT, weights_for
from actuators.spill_valve import CLOSE_SECONDS, Allowance, Load, SpillValve

WIDE = Allowance(1000.0, 1e9)


def test_it_opens_at_once_to_what_would_miss_the_slo() -> None:
    load = Load(120.0, 300.0, 100.0)
    valve = SpillValve().step(load, WIDE, 1.0)
    assert valve.per_second == 30.0
    assert valve.share(load) == 0.25


def test_it_stays_shut_while_what_is_ready_carries_the_demand() -> None:
    assert SpillValve().step(Load(90.0, 0.0, 100.0), WIDE, 1.0).per_second == 0.0


def test_it_closes_gradually_and_within_a_minute_and_a_bit() -> None:
    valve = SpillValve().step(Load(160.0, 0.0, 100.0), WIDE, 0.0)
    quiet = Load(90.0, 0.0, 100.0)
    rates = []
    for second in range(1, 400):
        valve = valve.step(quiet, Allowance(60.0, 1e9), float(second))
        rates.append(valve.per_second)
    assert rates[0] == pytest.approx(60.0 * (1 - 1 / CLOSE_SECONDS))
    assert rates == sorted(rates, reverse=True)
    assert rates[int(CLOSE_SECONDS)] == 0.0


def test_an_expired_allowance_shuts_it_at_once() -> None:
    load = Load(200.0, 0.0, 100.0)
    valve = SpillValve().step(load, Allowance(50.0, 10.0), 9.0)
    assert valve.per_second == 50.0
    assert valve.step(load, Allowance(50.0, 10.0), 10.0).per_second == 0.0


def test_what_is_not_known_changes_nothing() -> None:
    valve = SpillValve(20.0, 0.0)
    assert valve.step(Load(None, 0.0, 100.0), WIDE, 5.0).per_second == 20.0
    assert valve.step(Load(100.0, 0.0, None), WIDE, 5.0).per_second == 20.0
    assert valve.step(Load(None, 0.0, None), Allowance(5.0, 1e9), 5.0).per_second == 5.0


POSITIVE = st.floats(0.0, 1e6)


@given(POSITIVE, POSITIVE, POSITIVE, POSITIVE, st.floats(0.0, 100.0), POSITIVE)
def test_never_more_than_is_authorised_nor_than_is_offered(
    demand: float, backlog: float, capacity: float, allowed: float, until: float, before: float
) -> None:
    load = Load(demand, backlog, capacity)
    valve = SpillValve(before, 0.0).step(load, Allowance(allowed, until), 50.0)
    assert 0.0 <= valve.per_second <= min(allowed if until > 50.0 else 0.0, demand)
    assert 0.0 <= valve.share(load) <= 1.0


def refs(*weights: int | None) -> list[dict[str, object]]:
    names = ["hosted", *(f"own-{index}" for index in range(len(weights) - 1))]
    return [{"name": name, **({} if weight is None else {"weight": weight})} for name, weight in zip(names, weights, strict=True)]


def test_a_backend_that_a_rule_names_twice_gets_the_share_once() -> None:
    """Two ports of one service, say: the allowance is for both together."""
    twice = [{"name": "hosted", "port": 80}, {"name": "hosted", "port": 81}, {"name": "own", "weight": 1000}]
    assert weights_for(twice, "hosted", 0.2) == [125, 125, 1000]
    assert weights_for(twice, "hosted", 0.0) == [0, 0, 1000]


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_a_rule_that_leads_to_the_hosted_endpoint_alone_is_left_as_it_is(share: float) -> None:
    """A path of its own, say: with a weight of 0 it would answer every request with an error."""
    assert weights_for(refs(7), "hosted", share) == [7]


@pytest.mark.parametrize(
    ("before", "share", "after"),
    [
        ((0, 1, 1), 0.25, [333, 500, 500]),
        ((0, None), 0.5, [1000, 1000]),
        ((0, 3000, 1000), 0.2, [1000, 3000, 1000]),
        ((333, 500, 500), 0.0, [0, 500, 500]),
        ((0, 1000), 0.0001, [1, 1000]),
        ((0, 1000), 1.0, [LARGEST_WEIGHT, 1000]),
        ((0, 0), 0.5, [1, 0]),
    ],
)
def test_the_weight_is_the_share_and_the_others_keep_their_ratio(before: tuple[int, ...], share: float, after: list[int]) -> None:
    assert weights_for(refs(*before), "hosted", share) == after
