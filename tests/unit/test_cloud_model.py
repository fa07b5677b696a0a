"""The simulated cloud's market: who gets what, when it serves, what is owed."""

from typing import Any

import pytest

from controlplane.contracts.fleet import Fleet, Offer, Slo, Tier, Unit
from controlplane.sim.cloud_config import CloudConfig, OfferWorld, cloud_config_of
from controlplane.sim.cloud_ledger import Bought, Configured, Refused, Repeated, Reply
from controlplane.sim.cloud_model import Market, ReplicaState

START = 1_000_000.0


def market_of(seed: int = 1, **world: object) -> Market:
    plain: dict[str, object] = {"usd_per_replica_hour": 3.6, "lead_time_seconds": 100.0, "lead_time_sigma": 0.0}
    return Market.open(CloudConfig(offers={"o": OfferWorld.model_validate({**plain, **world})}), seed, START)


def bought(market: Market, now: float, count: int = 1, token: str = "t", owner: str = "me") -> Bought:
    entry = market.buy(now, "o", count, owner, token)
    assert isinstance(entry, Bought)
    return entry


def test_a_replica_is_pending_until_its_lead_time_is_over() -> None:
    market = market_of()
    bought(market, START)
    (replica,) = market.listing(START)
    assert replica.state(START + 99) is ReplicaState.PENDING
    assert replica.state(START + 100) is ReplicaState.READY


def test_lead_times_scatter_around_the_median_and_depend_on_the_seed_alone() -> None:
    def leads(seed: int) -> list[float]:
        return [lease.ready_unix - START for lease in bought(market_of(seed, lead_time_sigma=0.3), START, 200).replicas]

    assert leads(1) == leads(1)
    assert leads(1) != leads(2)
    assert sorted(leads(1))[100] == pytest.approx(100.0, rel=0.1)
    assert max(leads(1)) > 150.0


def test_the_number_of_a_request_does_not_change_the_fate_of_later_replicas() -> None:
    at_once, one_by_one = market_of(lead_time_sigma=0.3), market_of(lead_time_sigma=0.3)
    bought(at_once, START, 3)
    for index in range(3):
        bought(one_by_one, START, 1, token=f"t{index}")
    assert [r.lease.ready_unix for r in at_once.listing(START)] == [r.lease.ready_unix for r in one_by_one.listing(START)]


def test_the_same_token_is_the_same_purchase() -> None:
    market = market_of()
    bought(market, START, 2)
    assert isinstance(market.buy(START + 5, "o", 2, "me", "t"), Repeated)
    assert len(market.replicas) == 2


def test_a_token_is_forgotten_after_its_time() -> None:
    market = market_of(token_seconds=60.0)
    bought(market, START, 2)
    assert isinstance(market.buy(START + 60, "o", 2, "me", "t"), Repeated)
    bought(market, START + 61, 2)
    assert len(market.replicas) == 4


@pytest.mark.parametrize(
    ("world", "status"),
    [
        ({"stock_replicas": 2}, 409),
        ({"quota_replicas": 2}, 403),
        ({"error_share": 1.0}, 503),
        ({"requests_per_minute": 1, "stock_replicas": 0}, 409),
        ({"replicas_per_lot": 8, "stock_replicas": 7}, 409),
    ],
)
def test_a_purchase_is_refused_whole(world: dict[str, Any], status: int) -> None:
    market = market_of(**world)
    entry = market.buy(START, "o", 3, "me", "t")
    assert isinstance(entry, Refused)
    assert entry.status == status
    assert market.replicas == {}


def test_more_requests_than_a_minute_allows_are_throttled() -> None:
    market = market_of(requests_per_minute=2)
    bought(market, START, token="a")
    bought(market, START + 1, token="b")
    entry = market.buy(START + 2, "o", 1, "me", "c")
    assert isinstance(entry, Refused)
    assert entry.status == 429
    bought(market, START + 70, token="c")


def test_a_buyer_who_takes_less_gets_what_there_is_in_whole_lots() -> None:
    market = market_of(stock_replicas=7, replicas_per_lot=2)
    entry = market.buy(START, "o", 10, "me", "t", min_count=2)
    assert isinstance(entry, Bought)
    assert len(entry.replicas) == 6
    assert len({lease.lot for lease in entry.replicas}) == 3


def test_stock_moves_over_time_and_comes_back_when_replicas_do() -> None:
    market = market_of(stock_replicas=1, stock_by_seconds=[(600.0, 3)])
    lease = bought(market, START).replicas[0]
    assert market.quote(START, "o").stock_replicas == 0
    assert market.quote(START + 600, "o").stock_replicas == 2
    released = market.release(START + 600, lease.id)
    assert released is not None
    market.fold(released)
    assert market.quote(START + 600, "o").stock_replicas == 3
    assert market.release(START + 601, lease.id) is None


def test_the_price_is_that_of_the_request() -> None:
    market = market_of(usd_by_seconds=[(3600.0, 7.2)])
    bought(market, START, token="a")
    bought(market, START + 3600, token="b")
    assert [replica.lease.usd_per_hour for replica in market.listing(START + 3600)] == [3.6, 7.2]


def test_a_purchase_is_listed_late() -> None:
    market = market_of(listing_lag_seconds=30.0)
    bought(market, START)
    assert market.listing(START + 29) == []
    assert len(market.listing(START + 30)) == 1


@pytest.mark.parametrize(("released_after", "billed_seconds"), [(10.0, 600.0), (600.0, 600.0), (1000.0, 1000.0)])
def test_at_least_the_hold_is_billed_from_the_request_on(released_after: float, billed_seconds: float) -> None:
    market = market_of(hold_seconds=600.0)
    entry = bought(market, START)
    assert market.bill_usd(START) == pytest.approx(600 / 3600 * 3.6)
    released = market.release(START + released_after, entry.replicas[0].id)
    assert released is not None
    market.fold(released)
    assert market.bill_usd(START + 9999) == pytest.approx(billed_seconds / 3600 * 3.6)


def test_a_replica_that_failed_to_start_is_billed_until_it_is_given_back() -> None:
    market = market_of(start_failure_share=1.0)
    bought(market, START)
    assert market.listing(START + 100)[0].state(START + 100) is ReplicaState.FAILED
    assert market.bill_usd(START + 3600) == pytest.approx(3.6)


def test_an_interrupted_replica_is_billed_until_then_and_frees_its_stock() -> None:
    market = market_of(interruptions_per_hour=60.0, hold_seconds=36_000.0, stock_replicas=1)
    lease = bought(market, START).replicas[0]
    assert lease.interrupted_unix is not None
    after = lease.interrupted_unix + 1
    assert market.listing(after)[0].state(after) is ReplicaState.INTERRUPTED
    assert market.bill_usd(after + 9999) == pytest.approx((lease.interrupted_unix - START) / 3600 * 3.6)
    assert market.quote(after, "o").stock_replicas == 1
    assert market.listing(after + 3600) == []


def test_a_committed_pool_is_billed_whole_whatever_is_used_of_it() -> None:
    market = market_of(reserved_replicas=4, reserved_owner="me")
    entry = bought(market, START, 3)
    released = market.release(START + 60, entry.replicas[0].id)
    assert released is not None
    market.fold(released)
    assert market.bill_usd(START + 3600, "me") == pytest.approx(4 * 3.6)
    assert market.bill_usd(START + 3600, "you") == 0.0
    assert isinstance(market.buy(START, "o", 3, "me", "more"), Refused)


def test_a_changed_world_leaves_what_was_sold_as_it_was() -> None:
    market = market_of()
    bought(market, START)
    world = market.config.offers["o"].model_copy(update={"usd_per_replica_hour": 99.0, "stock_replicas": 0})
    market.fold(Configured(time_unix=START + 60, config=CloudConfig(offers={"o": world})))
    assert market.bill_usd(START + 3600) == pytest.approx(3.6)
    assert isinstance(market.buy(START + 60, "o", 1, "me", "u"), Refused)


def test_replies_get_lost_as_often_as_asked_for() -> None:
    market = market_of(lost_reply_share=0.5)
    replies = [bought(market, START, token=str(index)).reply for index in range(200)]
    assert 70 < replies.count(Reply.LOST) < 130


def test_a_cloud_is_derived_from_a_fleet() -> None:
    floor = Offer("own", Tier.FLOOR, 1.0, 2, 6, 16.8, 180.0, replicas_per_lot=2)
    burst = Offer("rent", Tier.BURST, 1.0, 0, 40, None, 480.0, hold_seconds=600.0, ceiling_usd_per_replica_hour=70.0)
    fleet = Fleet("r1", Slo(0.99), Unit.REQUESTS, (floor, burst))
    config = cloud_config_of(fleet, rent={"stock_replicas": 3})
    own, rent = config.offers["own"], config.offers["rent"]
    assert (own.reserved_replicas, own.reserved_owner, own.usd_per_replica_hour, own.replicas_per_lot) == (6, "r1", 16.8, 2)
    assert (rent.usd_per_replica_hour, rent.hold_seconds, rent.lead_time_seconds, rent.stock_replicas) == (70.0, 600.0, 480.0, 3)
    with pytest.raises(ValueError, match="no fleet has: typo"):
        cloud_config_of(fleet, typo={"stock_replicas": 3})
