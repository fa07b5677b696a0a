"""What Lambda Cloud and RunPod are asked, and what their documented errors come to."""

from pathlib import Path
from typing import Any

import pytest

from actuators.api import Applied, Failed, Intent
from actuators.cloud_http import Pace
from actuators.holdings import HoldingState
from actuators.market_suppliers import pace_of
from actuators.purchasing import PurchasingActuator
from actuators.readiness import ReadinessProbe
from actuators.renting import GpuCloud, Mark, RentingSupplier
from controlplane.contracts.errors import (
    AccessRefused,
    InsufficientCapacity,
    QuotaExceeded,
    SupplierError,
    SupplierUnavailable,
    Throttled,
)
from tests.contract.actuator_rigs import offer_with
from tests.contract.cloud_rigs import cloud_of
from tests.contract.gpu_clouds import KEY, LAMBDA_TYPE, RUNPOD_TYPE, CloudWorld
from tests.fakes import FakeWall, MemoryIntentStore

MARK = Mark("r1", "rented", "tidegate.r1.rented.1.65", 1_700_000_000.0)
CLOUDS = ("lambda", "runpod")


@pytest.mark.parametrize("kind", CLOUDS)
async def test_a_machine_is_ordered_found_by_its_mark_and_ended(kind: str) -> None:
    world = CloudWorld()
    cloud = cloud_of(kind, world)
    name = await cloud.order(MARK)
    world.sell({"somebody": "else"}, "eu", {"name": "theirs", "ssh_key_names": [], "image": "", "gpu": {}})
    listed = await cloud.machines()
    assert [(one.id, one.mark, one.state) for one in listed] == [(name, MARK, HoldingState.READY)]
    await cloud.end(name)
    await cloud.end(name)
    assert await cloud.machines() == []


async def test_lambda_is_asked_as_its_documentation_says() -> None:
    world = CloudWorld()
    await cloud_of("lambda", world).order(MARK)
    body = world.sold[0].body
    assert (body["region_name"], body["instance_type_name"], body["ssh_key_names"]) == ("europe-central-1", LAMBDA_TYPE, ["serving"])
    assert body["name"] == "tidegate-r1-rented"


async def test_runpod_is_asked_as_its_documentation_says() -> None:
    world = CloudWorld()
    await cloud_of("runpod", world).order(MARK)
    body = world.sold[0].body
    assert (body["gpu"], body["cloud"], body["disk"]) == ({"id": RUNPOD_TYPE, "count": 8}, "SECURE", 200)
    assert (body["name"], body["image"], body["ports"]) == ("tidegate-r1-rented", "registry.example.com/serve:1", ["8000/http"])
    assert world.sold[0].marks["TIDEGATE_INTENT"] == MARK.token


@pytest.mark.parametrize(("kind", "usd"), [("lambda", 23.92), ("runpod", 8 * 3.99)])
async def test_the_price_is_the_whole_machines(kind: str, usd: float) -> None:
    world = CloudWorld()
    offered = await cloud_of(kind, world).offered()
    assert offered.usd_per_hour == pytest.approx(usd)
    assert offered.machines is None
    world.stock = 0
    assert (await cloud_of(kind, world).offered()).machines == 0


async def test_a_clock_that_is_set_back_does_not_make_an_old_price_new() -> None:
    world, offer = CloudWorld(), offer_with()
    supplier = RentingSupplier(cloud_of("lambda", world), ReadinessProbe(None, 900.0), world.wall)
    await supplier.quote(offer)
    asked = len(world.calls)
    world.wall.advance(-3600.0)
    await supplier.quote(offer)
    assert len(world.calls) == asked + 1


@pytest.mark.parametrize(("kind", "eu"), [("lambda", "europe-central-1"), ("runpod", "EU-RO-1")])
async def test_nothing_is_ordered_outside_the_regions_that_the_policy_allows(kind: str, eu: str) -> None:
    world = CloudWorld()
    await cloud_of(kind, world, ("eu",)).order(MARK)
    assert world.sold[0].place == eu
    world.places = ("us-east-1", "US-KS-2")
    with pytest.raises(InsufficientCapacity):
        await cloud_of(kind, world, ("eu",)).order(MARK)
    assert (await cloud_of(kind, world, ("eu",)).offered()).machines == 0
    assert len(world.sold) == 1


@pytest.mark.parametrize(("kind", "word"), [("lambda", "booting"), ("runpod", "PROVISIONING"), ("lambda", "unheard-of"), ("runpod", "NEW")])
async def test_a_machine_that_its_cloud_never_starts_has_failed_in_the_end(kind: str, word: str) -> None:
    world, offer = CloudWorld(), offer_with()
    supplier = RentingSupplier(cloud_of(kind, world), ReadinessProbe(None, 900.0), world.wall)
    await supplier.buy(Intent("r1", offer.name, 1, 1, "open", 0), offer)
    world.sold[0].word = word

    async def states() -> list[HoldingState]:
        return [one.state for one in (await supplier.listing("r1", offer)).holdings]

    assert await states() == [HoldingState.PENDING]
    world.wall.advance(900.0)
    assert await states() == [HoldingState.PENDING]
    world.wall.advance(1.0)
    assert await states() == [HoldingState.FAILED]
    world.sold[0].word = ""
    assert await states() == [HoldingState.READY], "it runs after all"
    world.sold[0].word = word
    assert await states() == [HoldingState.PENDING], "one that ran may start again in peace"


def lambda_says(code: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": "as documented", "suggestion": None}, "field_errors": {}}


def runpod_says(detail: str) -> dict[str, Any]:
    return {"title": "as documented", "status": 400, "detail": detail}


@pytest.mark.parametrize(
    ("kind", "status", "body", "error"),
    [
        ("lambda", 400, lambda_says("instance-operations/launch/insufficient-capacity"), InsufficientCapacity),
        ("lambda", 400, lambda_says("global/quota-exceeded"), QuotaExceeded),
        ("lambda", 403, lambda_says("global/account-inactive"), AccessRefused),
        ("lambda", 400, lambda_says("global/invalid-parameters"), SupplierError),
        ("lambda", 429, lambda_says("global/rate-limited"), Throttled),
        ("lambda", 500, lambda_says("global/internal-error"), SupplierUnavailable),
        ("lambda", 408, {}, SupplierUnavailable),
        ("runpod", 408, {}, SupplierUnavailable),
        ("runpod", 400, runpod_says("no longer any instances available"), InsufficientCapacity),
        ("runpod", 402, runpod_says("insufficient balance"), QuotaExceeded),
        ("runpod", 403, runpod_says("access denied"), AccessRefused),
        ("runpod", 422, runpod_says("Request validation failed."), SupplierError),
        ("runpod", 429, runpod_says("rate limit exceeded for the minute window"), Throttled),
        ("runpod", 503, runpod_says("upstream"), SupplierUnavailable),
    ],
)
async def test_each_documented_error_has_its_type(kind: str, status: int, body: dict[str, Any], error: type[SupplierError]) -> None:
    world = CloudWorld(refusal=(status, body))
    with pytest.raises(SupplierError) as raised:
        await cloud_of(kind, world).order(MARK)
    assert type(raised.value) is error


@pytest.mark.parametrize("kind", CLOUDS)
@pytest.mark.parametrize(
    ("status", "error"), [(429, Throttled), (403, AccessRefused), (502, SupplierUnavailable), (200, SupplierUnavailable)]
)
async def test_a_proxys_page_is_judged_by_its_status(kind: str, status: int, error: type[SupplierError]) -> None:
    """Who asks too often hears so from a proxy in front, in HTML: nothing was ordered then. Only a success must say what it is."""
    world = CloudWorld(page=(status, "<html>error code: 1015</html>"))
    with pytest.raises(SupplierError) as raised:
        await cloud_of(kind, world).order(MARK)
    assert type(raised.value) is error


async def test_calls_of_one_account_keep_their_distance() -> None:
    now, waits = 100.0, list[float]()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    pace = Pace(1.0, lambda: now, sleep)
    for _ in range(3):
        await pace.turn()
    now = 102.5
    await pace.turn()
    now = 110.0
    await pace.turn()
    assert waits == [1.0, 2.0, 0.5], "the first goes at once, and so does one after a quiet while"


def test_all_offers_at_one_account_take_turns() -> None:
    """Lambda allows a call a second; what comes sooner is refused."""
    assert pace_of("http://cloud", "KEY", 1.0) is pace_of("http://cloud", "KEY", 1.0)
    assert pace_of("http://cloud", "KEY", 1.0) is not pace_of("http://cloud", "ANOTHER_KEY", 1.0)


@pytest.mark.parametrize("kind", CLOUDS)
async def test_a_key_that_is_wrong_or_missing_is_said_without_being_told(kind: str) -> None:
    world = CloudWorld()
    with pytest.raises(AccessRefused) as wrong:
        await cloud_of(kind, world, key="another-secret").machines()
    assert "another-secret" not in str(wrong.value)
    with pytest.raises(AccessRefused, match="API_KEY"):
        await cloud_of(kind, world, key=None).machines()


@pytest.mark.parametrize("kind", CLOUDS)
async def test_a_key_file_is_read_anew_so_that_a_key_can_be_rotated(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("old\n")
    cloud = cloud_of(kind, CloudWorld(), api_key_file=str(file))
    with pytest.raises(AccessRefused):
        await cloud.machines()
    file.write_text(KEY + "\n")
    assert await cloud.machines() == []


@pytest.mark.parametrize("kind", CLOUDS)
async def test_a_cloud_that_is_down_leaves_the_outcome_open(kind: str) -> None:
    world = CloudWorld(is_down=True)
    with pytest.raises(SupplierUnavailable):
        await cloud_of(kind, world).machines()


@pytest.mark.parametrize("kind", CLOUDS)
@pytest.mark.parametrize("status", [503, 204], ids=["down", "no body"])
async def test_what_cannot_be_looked_up_before_an_order_leaves_nothing_open(kind: str, status: int) -> None:
    """Nothing was ordered, for certain: the next supplier is tried at once, and this one need not be waited for."""
    world, store = CloudWorld(catalogue_status=status), MemoryIntentStore()
    cloud = cloud_of(kind, world, ("eu",))
    result = await PurchasingActuator(RentingSupplier(cloud, ReadinessProbe(None, 900.0), world.wall), store).apply("r1", offer_with(), 2)
    assert isinstance(result, Failed)
    assert result.unavailable
    assert store.history[-1].state == "failed"
    assert world.sold == []


@pytest.mark.parametrize("kind", CLOUDS)
async def test_an_answer_that_does_not_read_as_documented_leaves_the_outcome_open(kind: str) -> None:
    world = CloudWorld(refusal=(200, {}))
    supplier = RentingSupplier(cloud_of(kind, world), ReadinessProbe(None, 900.0))
    intent = Intent("r1", "rented", 1, 8, "open", 0)
    with pytest.raises(SupplierUnavailable, match="does not read as documented"):
        await supplier.buy(intent, offer_with(replicas_per_lot=8))


@pytest.mark.parametrize("kind", CLOUDS)
@pytest.mark.parametrize("key", ["schlüssel", "two\nlines"])
async def test_a_key_that_no_header_can_hold_is_refused_before_it_is_sent(kind: str, key: str) -> None:
    world = CloudWorld()
    with pytest.raises(AccessRefused):
        await cloud_of(kind, world, key=key).machines()
    assert world.calls == []


class Slow:
    """A cloud that takes two seconds for each order."""

    def __init__(self, inner: GpuCloud, wall: FakeWall) -> None:
        self._inner, self._wall = inner, wall
        self.remembers_tokens = inner.remembers_tokens

    async def order(self, mark: Mark) -> str:
        self._wall.advance(2.0)
        return await self._inner.order(mark)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


async def test_a_big_order_that_takes_long_is_a_smaller_purchase_and_not_one_of_unknown_size() -> None:
    world, wall, store = CloudWorld(), FakeWall(), MemoryIntentStore()
    supplier = RentingSupplier(Slow(cloud_of("lambda", world), wall), ReadinessProbe("", 60.0), wall)
    result = await PurchasingActuator(supplier, store).apply("r1", offer_with(), 10)
    assert isinstance(result, Applied)
    assert (result.change, result.reason) == (3, "7 fewer than asked for")
    assert len(world.held()) == 3
    assert store.history[-1].state == "bought"
