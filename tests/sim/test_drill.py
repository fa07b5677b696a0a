"""The fault drill on a few seeds; benchmarks/fault_drill.py plays thousands."""

import pytest

from controlplane.sim.drill import USD_PER_HOUR, Drill, drill

# Seeds that once broke a rule: replicas that were bought and not listed yet were left out of the quote, after a restart all of them (207,
# 224), and out of what was held when their supplier fell silent (292, 319, 373). A purchase that was given up was made anew past every
# limit (182, where no token is remembered, 264), and what was bought just before a restart did not count while another supplier was
# silent (496).
REGRESSIONS = (207, 224, 292, 319, 373, 182, 264, 496)


@pytest.mark.parametrize("seed", [*range(6), *REGRESSIONS])
def test_whatever_goes_wrong_the_budget_holds_and_nothing_is_orphaned(seed: int) -> None:
    result = drill(seed)
    assert result.broken == []
    assert result.purchases > 3
    assert 0.0 < result.most_usd_per_hour <= USD_PER_HOUR
    assert result.ledger_usd == pytest.approx(result.billed_usd, rel=0.08), "a listing a minute knows no better"


@pytest.mark.parametrize("seed", [3, 6, 7, 24, 31])
def test_a_supplier_that_often_takes_nothing_back_is_paid_within_the_budget_and_is_rid_of_in_the_end(seed: int) -> None:
    result = drill(seed, kept_share=0.5)
    assert result.broken == []
    assert result != drill(seed)


def test_without_faults_nearly_nothing_is_lost() -> None:
    results = [drill(seed, faults=False) for seed in range(3)]
    assert [result.broken for result in results] == [[], [], []]
    assert max(result.lost_share for result in results) < 0.02


def test_the_same_seed_gives_the_same_result() -> None:
    assert drill(3) == drill(3)


def test_a_drill_notices_spill_that_is_permitted_beyond_the_budget() -> None:
    world = Drill(0)
    world.allowance = 200.0
    world.check(7, at_most=0)
    assert len(world.result.broken) == 1
    assert "0.00 USD/h rented and 240.00 USD/h of spill permitted" in world.result.broken[0]


def test_a_drill_notices_a_budget_that_is_passed() -> None:
    world = Drill(0)
    for market in world.markets.values():
        market.buy(world.now_unix, next(iter(market.config.offers)), 30, "drilled", "by-hand", 1)
    assert world.usd_per_hour() > USD_PER_HOUR
    world.check(7, at_most=90)
    assert len(world.result.broken) == 1
    assert "USD/h rented" in world.result.broken[0]


def test_a_drill_notices_what_is_bought_twice() -> None:
    world = Drill(0, faults=False)
    market = next(iter(world.markets.values()))
    for token in ("by-hand", "by-hand-again"):
        market.buy(world.now_unix, next(iter(market.config.offers)), 3, "drilled", token, 1)
    world.check(7, at_most=3)
    assert world.result.broken == ["tick 7: 6 held, 3 asked for"]
