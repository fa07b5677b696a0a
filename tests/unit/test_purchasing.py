"""Giving back: one machine that cannot be ended keeps no other and is not paid for twice, and a machine of several replicas goes once."""

from dataclasses import dataclass, field

import pytest

from actuators.api import Applied, Failed, Intent, Skipped
from actuators.holdings import Holding, HoldingState, Listing, Owned
from actuators.lots import Rented, holdings_of, machine_of, replicas_of
from actuators.market import MarketActuator, part_of
from actuators.purchasing import PurchasingActuator
from controlplane.contracts.errors import SupplierUnavailable, Throttled
from controlplane.contracts.events import Quote
from controlplane.contracts.fleet import Offer
from controlplane.contracts.units import from_unix
from tests.contract.actuator_rigs import offer_with
from tests.fakes import MemoryIntentStore

FLEET = "r1"


@dataclass
class Machines:
    """A supplier of machines in memory, some of which cannot be ended."""

    states: dict[str, HoldingState]
    stuck: frozenset[str] = frozenset()
    released: list[str] = field(default_factory=list)
    bought: list[int] = field(default_factory=list)
    token: str = ""
    is_throttled: bool = False
    remembers_tokens = True

    async def listing(self, fleet: str, offer: Offer) -> Listing:
        holdings: list[Holding] = []
        for name, state in self.states.items():
            holdings += holdings_of(Rented(name, self.token, state, 0.0), offer)
        return Listing(1000.0, tuple(holdings))

    async def buy(self, intent: Intent, offer: Offer) -> tuple[str, ...]:
        if self.is_throttled:
            raise Throttled("asked too often")
        self.bought.append(intent.count)
        return tuple(replica for index in range(intent.count) for replica in replicas_of(f"new-{index}", offer))

    async def release(self, fleet: str, offer: Offer, replica: str) -> None:
        name = machine_of(replica)
        self.released.append(name)
        if name in self.stuck:
            raise SupplierUnavailable(f"{name} cannot be ended")
        self.states.pop(name, None)

    async def owned(self) -> tuple[Owned, ...]:
        return ()

    async def quote(self, offer: Offer) -> Quote | None:
        return Quote(time=from_unix(1000.0), offer=offer.name, usd_per_replica_hour=2.0, stock_replicas=None)

    async def close(self) -> None:
        """Nothing is open."""


def ready(*names: str) -> dict[str, HoldingState]:
    return dict.fromkeys(names, HoldingState.READY)


async def test_a_machine_that_cannot_be_ended_does_not_keep_the_others() -> None:
    machines = Machines(ready("a", "b", "c"), frozenset({"a"}))
    result = await PurchasingActuator(machines, MemoryIntentStore()).apply(FLEET, offer_with(), 0)
    assert isinstance(result, Applied)
    assert (result.change, result.reason) == (-2, "a cannot be ended")
    assert set(machines.states) == {"a"}


async def test_where_nothing_can_be_ended_the_error_is_told() -> None:
    machines = Machines(ready("a", "b"), frozenset({"a", "b"}))
    result = await PurchasingActuator(machines, MemoryIntentStore()).apply(FLEET, offer_with(), 0)
    assert result == Failed("a cannot be ended", retryable=True)


async def test_a_failed_machine_that_cannot_be_ended_stops_neither_others_nor_growth_and_is_not_replaced_while_it_is_paid() -> None:
    failures = dict.fromkeys(("a", "b"), HoldingState.FAILED)
    machines = Machines({**failures, **ready("c")}, frozenset({"a"}))
    result = await PurchasingActuator(machines, MemoryIntentStore()).apply(FLEET, offer_with(), 5)
    assert isinstance(result, Applied)
    assert (machines.bought, result.reason) == ([3], "a cannot be ended")
    assert machines.released == ["a", "b"]


async def store_of_unknown(offer: Offer, count: int) -> MemoryIntentStore:
    """Return a store where nobody knows whether an offer's purchase was made; a supplier of `Machines` would sell it if asked again."""
    store = MemoryIntentStore()
    await store.put(Intent(FLEET, offer.name, 1, count, "open", opened_unix=990.0, reason="outcome unknown: no reply"))
    return store


@pytest.mark.parametrize(("target", "bought"), [(4, []), (5, [2])])
async def test_a_purchase_is_not_asked_for_again_in_place_of_a_failed_machine_that_cannot_be_ended(target: int, bought: list[int]) -> None:
    """Two serve, two were asked for, and one stays that failed: five would be paid for."""
    machines = Machines({"a": HoldingState.FAILED, **ready("b", "c")}, frozenset({"a"}))
    store = await store_of_unknown(offer_with(), 2)
    await PurchasingActuator(machines, store).apply(FLEET, offer_with(), target)
    assert machines.bought == bought


@pytest.mark.parametrize("order", [("keeps", "sells"), ("sells", "keeps")])
@pytest.mark.parametrize(("target", "bought"), [(4, []), (5, [2])])
async def test_nor_in_place_of_one_of_another_supplier(order: tuple[str, str], target: int, bought: list[int]) -> None:
    """The same, but what failed is held by a supplier that does not take it back, and what is open was asked of another."""
    suppliers = {"keeps": Machines({"a": HoldingState.FAILED, **ready("b", "c")}, frozenset({"a"})), "sells": Machines({})}
    store = await store_of_unknown(part_of(offer_with(), "sells"), 2)
    market = MarketActuator({name: suppliers[name] for name in order}, store, clock=lambda: 1000.0)
    await market.apply(FLEET, offer_with(), target)
    assert suppliers["sells"].bought == bought


async def test_where_one_stays_that_failed_while_an_open_purchase_is_made_only_the_rest_is_bought_elsewhere() -> None:
    """One stays, two serve and one more is sold where that is: of a target of six, two are missing."""
    suppliers = {"keeps": Machines({"a": HoldingState.FAILED, **ready("b", "c")}, frozenset({"a"})), "sells": Machines({})}
    store = await store_of_unknown(part_of(offer_with(), "keeps"), 1)
    await MarketActuator(suppliers, store, clock=lambda: 1000.0).apply(FLEET, offer_with(), 6)
    assert (suppliers["keeps"].bought, suppliers["sells"].bought) == ([1], [2])


@pytest.mark.parametrize("target", [3, 1])
async def test_a_purchase_whose_size_cannot_be_learnt_now_keeps_nothing_from_being_given_back(target: int) -> None:
    """It was listed in part, and its outcome is unknown: it is asked for again, and the supplier is asked too often."""
    store = MemoryIntentStore()
    intent = await store.put(Intent(FLEET, offer_with().name, 1, 4, "open", opened_unix=990.0, reason="outcome unknown: no reply"))
    machines = Machines({"a": HoldingState.FAILED, **ready("b", "c")}, token=intent.token, is_throttled=True)
    await PurchasingActuator(machines, store).apply(FLEET, offer_with(), target)
    assert machines.released == (["a"] if target == 3 else ["a", "b"])
    assert store.history[-1].state == "open"


async def test_where_only_the_ceiling_is_known_the_money_that_was_decided_on_is_kept_by_that() -> None:
    """Two drain, are paid for still, and would be replaced: there is money for three at the ceiling, and three are held."""
    machines = Machines({**ready("a"), **dict.fromkeys(("b", "c"), HoldingState.DRAINING)})
    offer = offer_with(usd_per_replica_hour=None, ceiling_usd_per_replica_hour=50.0, most_usd_per_hour=150.0)
    result = await PurchasingActuator(machines, MemoryIntentStore()).apply(FLEET, offer, 3)
    assert isinstance(result, Skipped)
    assert "no money is left" in result.reason
    assert machines.bought == []


async def test_a_machine_of_several_replicas_is_given_back_once() -> None:
    machines = Machines({**ready("a", "b"), "c": HoldingState.FAILED})
    result = await PurchasingActuator(machines, MemoryIntentStore()).apply(FLEET, offer_with(replicas_per_lot=4), 0)
    assert isinstance(result, Applied)
    assert result.change == -8
    assert sorted(machines.released) == ["a", "b", "c"]
