"""The market: the cheapest that can sell, and what happens when it cannot. Two simulated clouds, one clock moved by hand."""

from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from actuators.api import Applied, Failed, Intent, Skipped
from actuators.market import MarketActuator, MarketSettings
from actuators.market_suppliers import bootstrap_of, market_actuator, supplier_of
from actuators.simulated import SimulatedSupplier
from controlplane.contracts.errors import PolicyError, SupplierUnavailable
from controlplane.contracts.events import Quote
from controlplane.contracts.fleet import Offer
from tests.contract.actuator_rigs import LAG_SECONDS, offer_with
from tests.contract.gpu_clouds import KEY, LAMBDA_TYPE, RUNPOD_TYPE, CloudWorld
from tests.contract.market_rivals import FLEET, Rivals
from tests.fakes import MemoryIntentStore


async def test_what_is_missing_comes_from_the_cheapest(tmp_path: Path) -> None:
    rivals = Rivals(tmp_path)
    assert isinstance(await rivals.market().apply(FLEET, rivals.offer, 3), Applied)
    assert rivals.held() == {"cheap": 3, "dear": 0}


async def test_what_the_cheapest_has_too_little_of_is_split(tmp_path: Path) -> None:
    rivals = Rivals(tmp_path)
    rivals.change("cheap", stock_replicas=2)
    result = await rivals.market().apply(FLEET, rivals.offer, 5)
    assert isinstance(result, Applied)
    assert result.change == 5
    assert rivals.held() == {"cheap": 2, "dear": 3}
    rivals.wall.advance(LAG_SECONDS + 1)
    assert isinstance(await rivals.market().apply(FLEET, rivals.offer, 5), Skipped)


async def test_the_dearest_goes_back_first(tmp_path: Path) -> None:
    rivals = Rivals(tmp_path)
    rivals.change("cheap", stock_replicas=2)
    await rivals.market().apply(FLEET, rivals.offer, 5)
    rivals.settle()
    await rivals.market().apply(FLEET, rivals.offer, 2)
    assert rivals.held() == {"cheap": 2, "dear": 0}


async def test_a_supplier_that_lies_about_stock_is_passed_over(tmp_path: Path) -> None:
    rivals = Rivals(tmp_path)
    rivals.change("cheap", quota_replicas=0)
    market = rivals.market()
    assert isinstance(await market.apply(FLEET, rivals.offer, 3), Applied)
    assert rivals.held() == {"cheap": 0, "dear": 3}
    asked = len(rivals.clouds["cheap"].entries)
    rivals.wall.advance(LAG_SECONDS + 1)
    await market.apply(FLEET, rivals.offer, 4)
    assert len(rivals.clouds["cheap"].entries) == asked, "it refused lately, and is left alone for a while"


async def test_nothing_is_bought_at_a_price_above_the_one_that_was_decided_on(tmp_path: Path) -> None:
    rivals = Rivals(tmp_path)
    rivals.change("cheap", quota_replicas=0)
    market = rivals.market()
    await market.observe(FLEET, rivals.offer)
    quote = await market.quote(rivals.offer)
    assert quote is not None
    assert quote.usd_per_replica_hour == 20.0
    result = await market.apply(FLEET, rivals.offer, 3)
    assert isinstance(result, Failed)
    assert result.unavailable, "the planner is poked, and decides with the next price"
    assert rivals.held() == {"cheap": 0, "dear": 0}
    quote = await market.quote(rivals.offer)
    assert quote is not None
    assert quote.usd_per_replica_hour == 30.0
    assert isinstance(await market.apply(FLEET, rivals.offer, 3), Applied)
    assert rivals.held() == {"cheap": 0, "dear": 3}


async def test_nothing_is_bought_above_the_ceiling(tmp_path: Path) -> None:
    rivals = Rivals(tmp_path)
    rivals.offer = offer_with(ceiling_usd_per_replica_hour=15.0)
    assert isinstance(await rivals.market().apply(FLEET, rivals.offer, 3), Failed)
    assert rivals.held() == {"cheap": 0, "dear": 0}


async def test_a_quote_covers_what_is_held_as_well_as_what_comes_next(tmp_path: Path) -> None:
    rivals = Rivals(tmp_path)
    market = rivals.market()
    await market.apply(FLEET, rivals.offer, 2)
    rivals.settle()
    await market.observe(FLEET, rivals.offer)
    rivals.change("cheap", usd_per_replica_hour=5.0)
    quote = await market.quote(rivals.offer)
    assert quote is not None
    assert quote.usd_per_replica_hour == 20.0, "two are held at 20"


async def test_after_a_restart_nothing_is_quoted_before_what_is_held_is_known(tmp_path: Path) -> None:
    rivals = Rivals(tmp_path)
    await rivals.market().apply(FLEET, rivals.offer, 2)
    rivals.settle()
    rivals.change("cheap", usd_per_replica_hour=5.0)
    market = rivals.market()
    assert await market.quote(rivals.offer) is None
    await market.observe(FLEET, rivals.offer)
    quote = await market.quote(rivals.offer)
    assert quote is not None
    assert quote.usd_per_replica_hour == 20.0


@pytest.mark.parametrize(("usd", "moves"), [(19.0, False), (16.0, True)])
async def test_purchases_move_only_for_the_price_advantage(tmp_path: Path, usd: float, moves: bool) -> None:
    rivals = Rivals(tmp_path, settings=MarketSettings(price_advantage=0.1))
    market = rivals.market()
    await market.apply(FLEET, rivals.offer, 2)
    rivals.settle()
    rivals.change("dear", usd_per_replica_hour=usd)
    await market.apply(FLEET, rivals.offer, 3)
    assert rivals.held() == ({"cheap": 2, "dear": 1} if moves else {"cheap": 3, "dear": 0})


async def test_a_slow_supplier_must_be_cheaper(tmp_path: Path) -> None:
    rivals = Rivals(tmp_path, prices={"cheap": 20.0, "dear": 20.5})
    rivals.change("cheap", lead_time_seconds=1800.0, stock_replicas=1)
    market = rivals.market()
    await market.apply(FLEET, rivals.offer, 2)
    rivals.wall.advance(2000.0)
    await market.observe(FLEET, rivals.offer)
    rivals.change("cheap", stock_replicas=10)
    await market.apply(FLEET, rivals.offer, 3)
    assert rivals.held() == {"cheap": 1, "dear": 2}


async def test_a_silent_supplier_still_counts_and_is_not_replaced(tmp_path: Path) -> None:
    rivals = Rivals(tmp_path)
    market = rivals.market()
    await market.apply(FLEET, rivals.offer, 3)
    rivals.settle()
    await market.observe(FLEET, rivals.offer)
    rivals.wires["cheap"].is_cut = True
    for _ in range(5):
        status = await market.observe(FLEET, rivals.offer)
        assert (status.ready, status.pending) == (3, 0)
        await market.apply(FLEET, rivals.offer, 3)
    assert rivals.held() == {"cheap": 3, "dear": 0}
    await market.apply(FLEET, rivals.offer, 4)
    assert rivals.held() == {"cheap": 3, "dear": 1}


async def test_what_was_just_bought_counts_when_its_supplier_falls_silent(tmp_path: Path) -> None:
    rivals = Rivals(tmp_path)
    market = rivals.market()
    await market.apply(FLEET, rivals.offer, 3)
    rivals.wires["cheap"].is_cut = True
    status = await market.observe(FLEET, rivals.offer)
    assert (status.ready, status.pending) == (0, 3)
    await market.apply(FLEET, rivals.offer, 3)
    assert rivals.held() == {"cheap": 3, "dear": 0}


async def test_after_a_restart_a_silent_supplier_holds_what_its_ledger_says(tmp_path: Path) -> None:
    rivals = Rivals(tmp_path)
    market = rivals.market()
    await market.apply(FLEET, rivals.offer, 2)
    rivals.settle()
    await market.apply(FLEET, rivals.offer, 2)
    rivals.wires["cheap"].is_cut = True
    restarted = rivals.market()
    status = await restarted.observe(FLEET, rivals.offer)
    assert (status.ready, status.pending, status.usd_per_hour) == (0, 2, 40.0)
    assert isinstance(await restarted.apply(FLEET, rivals.offer, 2), Skipped)
    rivals.wires["cheap"].is_cut = False
    await market.apply(FLEET, rivals.offer, 0)
    rivals.wall.advance(LAG_SECONDS + 1)
    await market.observe(FLEET, rivals.offer)
    rivals.wires["cheap"].is_cut = True
    restarted = rivals.market()
    status = await restarted.observe(FLEET, rivals.offer)
    assert (status.ready, status.pending) == (0, 0)
    await restarted.quote(rivals.offer)
    assert isinstance(await restarted.apply(FLEET, rivals.offer, 1), Applied)
    assert rivals.held() == {"cheap": 0, "dear": 1}


class Dated(SimulatedSupplier):
    """Its quotes hold for five minutes, and it can forget how to quote."""

    quotes = True

    async def quote(self, offer: Offer) -> Quote | None:
        if not self.quotes:
            raise SupplierUnavailable("no prices now")
        told = await super().quote(offer)
        return None if told is None else told.model_copy(update={"expires": told.time + timedelta(seconds=300.0)})


async def test_a_price_that_cannot_be_read_any_more_counts_until_it_expires(tmp_path: Path) -> None:
    rivals = Rivals(tmp_path)
    cheap, dear = (Dated(httpx.AsyncClient(base_url="http://cloud", transport=wire)) for wire in rivals.wires.values())
    market = MarketActuator({"cheap": cheap, "dear": dear}, rivals.store, rivals.settings, rivals.wall)

    async def usd() -> float | None:
        await market.observe(FLEET, rivals.offer)
        quote = await market.quote(rivals.offer)
        return quote.usd_per_replica_hour if quote is not None else None

    assert await usd() == 20.0
    cheap.quotes = False
    rivals.wall.advance(299.0)
    assert await usd() == 20.0
    rivals.wall.advance(2.0)
    assert await usd() == 30.0
    await market.apply(FLEET, rivals.offer, 1)
    assert rivals.held() == {"cheap": 0, "dear": 1}


def test_a_supplier_without_its_block_is_a_clear_error() -> None:
    with pytest.raises(PolicyError, match="what is to be rented there"):
        market_actuator({"suppliers": ["lambda"]}, MemoryIntentStore())
    with pytest.raises(PolicyError, match="there is no supplier 'vultr'"):
        market_actuator({"suppliers": ["vultr"]}, MemoryIntentStore())


@pytest.mark.parametrize(("name", "key", "start"), [("lambda", "user_data", "#cloud-config"), ("runpod", "args", "--model m")])
async def test_cloud_init_goes_to_machines_and_arguments_to_pods(name: str, key: str, start: str) -> None:
    world = CloudWorld()
    block = {"url": world.url + ("/api/v1" if name == "lambda" else ""), "api_key_env": "KEY", "args": "--model m"}
    machine = {"instance_type": LAMBDA_TYPE, "ssh_key_names": ["serving"]}
    pod = {"gpu_type": RUNPOD_TYPE, "gpu_count": 8, "image": "serve:1", "cloud": "SECURE", "disk_gb": 200, "ports": []}
    options = {"lambda_": block | machine, "runpod": block | pod}
    supplier = supplier_of(name, options, lambda _: KEY, "#cloud-config")
    await supplier.buy(Intent(FLEET, "rented", 1, 1, "open", 0), offer_with())
    await supplier.close()
    assert world.sold[0].body[key] == start


def test_a_bootstrap_template_is_filled_in_and_says_what_it_lacks(tmp_path: Path) -> None:
    template = tmp_path / "start.sh"
    template.write_text("serve ${model} --port $$PORT\n")
    options = {"template": str(template), "template_values": {"model": "deepseek"}}
    assert bootstrap_of(options) == "serve deepseek --port $PORT\n"
    with pytest.raises(PolicyError, match="templateValues"):
        bootstrap_of({"template": str(template)})
    with pytest.raises(PolicyError, match="cannot be read"):
        bootstrap_of({"template": str(tmp_path / "none")})
