"""The sweeper on a real NATS server: what a policy no longer names is remembered, found, said and, where the policy says so, ended."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from nats.aio.client import Client

from actuators.holdings import Owned
from actuators.simulated import simulated_actuator
from actuators.sold import Sold
from controlplane import app
from controlplane.bus.embedded import EmbeddedServer
from controlplane.bus.lease import Lease
from controlplane.bus.publish import Publisher
from controlplane.bus.sold import SoldRecords
from controlplane.bus.watch import newest
from controlplane.clocks import SystemClock, VirtualClock
from controlplane.commands.suppliers import sweep
from controlplane.contracts.errors import BusError, SupplierUnavailable
from controlplane.contracts.events import Actuation, Event, Outcome
from controlplane.contracts.fleet import Fleet, Guard, Mode, Offer
from controlplane.contracts.subjects import OUTPUTS_STREAM
from controlplane.services.actuator import SERVICE as ACTUATOR
from controlplane.services.sweeper import ALL_FLEETS, GONE_SECONDS, SERVICE, SILENT_SECONDS, Sweeper, keep_named
from controlplane.sim.cloud_config import CloudConfig, OfferWorld
from controlplane.sim.cloud_process import CloudProcess
from controlplane.web.metrics import Meter
from tests.bus.conftest import Eventually
from tests.fakes import MemoryIntentStore
from tests.unit.decide_stories import BURST, fleet_of

START = 1_800_000_000.0


def rented(name: str, url: str = "http://cloud") -> Offer:
    return replace(BURST, name=name, actuator="simulated", actuator_options={"url": url})


def named(fleet: str, *offers: str, ends: bool = True) -> Fleet:
    made = fleet_of(*(rented(offer) for offer in offers), spill=None)
    return replace(made, name=fleet, guard=Guard(mode=Mode.ACT, ends_orphans=ends))


@dataclass
class Warehouse:
    """A supplier that lists what it is told to hold; one process after another sweeps it."""

    client: Client
    clock: VirtualClock = field(default_factory=lambda: VirtualClock(START))
    held: list[Owned] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    is_down: bool = False
    said: list[Event] = field(default_factory=list)

    async def owned(self) -> Sequence[Owned]:
        if self.is_down:
            raise SupplierUnavailable("down")
        return tuple(self.held)

    async def release(self, fleet: str, offer: Offer, replica: str) -> None:
        self.held = [one for one in self.held if one.id != replica]

    async def close(self) -> None:
        """Nothing is open."""

    def supplier(self, sold: Sold) -> "Warehouse":
        self.asked.append(f"{sold.fleet}/{sold.offer}")
        return self

    async def swept_by(self, *fleets: Fleet, after: float = 0.0) -> list[Actuation]:
        """Return what a process that runs these fleets says after a while."""
        await self.clock.advance(after)
        self.said.clear()
        publisher = Publisher(self.client, "tidegate/sweeper")

        async def publish(event: Event) -> None:
            self.said.append(event)
            await publisher.publish(event)

        await Sweeper(fleets, SoldRecords(self.client), self.clock, publish, self.supplier).sweep()  # type: ignore[arg-type]
        return [event for event in self.said if isinstance(event, Actuation)]


@pytest.fixture
def warehouse(client: Client) -> Warehouse:
    return Warehouse(client)


async def test_an_offer_that_is_gone_from_the_policy_is_found_said_and_ended(warehouse: Warehouse) -> None:
    warehouse.held = [Owned("r1", "kept", "a", START), Owned("r1", "old", "b", START), Owned("theirs", "old", "c", START)]
    assert await warehouse.swept_by(named("r1", "kept", "old")) == []
    assert await warehouse.swept_by(named("r1", "kept"), after=GONE_SECONDS - 1.0) == [], "it may come back"
    (said,) = await warehouse.swept_by(named("r1", "kept"), after=2.0)
    assert (said.fleet, said.offer, said.decision, said.outcome, said.before, said.change) == ("r1", "old", "sweep", Outcome.APPLIED, 1, -1)
    assert "b" in said.reason
    assert [one.id for one in warehouse.held] == ["a", "c"]
    assert await newest(warehouse.client, OUTPUTS_STREAM, "tidegate.actuation.r1.old") == said


async def test_an_offer_that_can_no_longer_serve_keeps_what_it_holds(warehouse: Warehouse) -> None:
    """The policy names it still; a longer context made it ineligible."""
    warehouse.held = [Owned("r1", "kept", "a", START), Owned("r1", "tight", "b", START)]
    await warehouse.swept_by(named("r1", "kept", "tight"))
    barred = replace(named("r1", "kept"), ineligible={"tight": "the model does not fit"}, ineligible_offers=(rented("tight"),))
    assert await warehouse.swept_by(barred, after=GONE_SECONDS + 1.0) == []
    assert [one.id for one in warehouse.held] == ["a", "b"]


async def test_what_an_offer_left_where_it_was_before_it_moved_is_found_and_ended(warehouse: Warehouse) -> None:
    warehouse.held = [Owned("r1", "rented", "b", START)]
    moved = replace(fleet_of(rented("rented", "http://elsewhere"), spill=None), name="r1", guard=named("r1").guard)
    assert await warehouse.swept_by(named("r1", "rented")) == []
    assert await warehouse.swept_by(moved, after=1.0) == [], "the policy may have named it in both places"
    (said,) = await warehouse.swept_by(moved, after=GONE_SECONDS + 1.0)
    assert (said.fleet, said.offer, said.change) == ("r1", "rented", -1)


async def test_without_leave_it_is_said_again_and_again_and_ends_nowhere(warehouse: Warehouse) -> None:
    warehouse.held = [Owned("r1", "old", "b", START)]
    await warehouse.swept_by(named("r1", "kept", "old", ends=False))
    meter = Meter("0")
    for _ in range(2):
        (said,) = await warehouse.swept_by(named("r1", "kept", ends=False), after=GONE_SECONDS + 1.0)
        assert (said.outcome, said.before, said.change) == (Outcome.SKIPPED, 1, 0)
        meter.hear(said)
    assert b'tidegate_orphaned_replicas{fleet="r1",offer="old"} 1.0' in meter.text()
    assert [one.id for one in warehouse.held] == ["b"]


async def test_a_fleet_that_is_gone_is_said_at_once_and_ended_after_a_day(warehouse: Warehouse) -> None:
    warehouse.held = [Owned("r2", "rented", "b", START)]
    await warehouse.swept_by(named("r2", "rented"))
    (said,) = await warehouse.swept_by(named("r1", "kept"), after=GONE_SECONDS + 1.0)
    assert (said.fleet, said.change) == ("r2", 0), "whoever runs it may be down"
    (said,) = await warehouse.swept_by(named("r1", "kept"), after=SILENT_SECONDS)
    assert (said.fleet, said.change) == ("r2", -1)
    assert await warehouse.swept_by(named("r1", "kept")) == []
    records, _ = await SoldRecords(warehouse.client).all()
    assert [one.fleet for one in records] == ["r1"], "nothing of it is held: its supplier need not be asked any more"


async def test_a_supplier_that_does_not_answer_is_asked_again(warehouse: Warehouse) -> None:
    warehouse.held = [Owned("r2", "rented", "b", START)]
    await warehouse.swept_by(named("r2", "rented"))
    warehouse.is_down = True
    assert await warehouse.swept_by(named("r1", "kept"), after=2 * SILENT_SECONDS) == []
    warehouse.is_down = False
    (said,) = await warehouse.swept_by(named("r1", "kept"))
    assert (said.fleet, said.change) == ("r2", -1)


async def test_a_process_names_its_offers_though_another_one_sweeps(client: Client, server: EmbeddedServer, tmp_path: Path) -> None:
    """Or that other one would take its fleets for gone, say so, and after a day end what they hold."""
    records, settings = SoldRecords(client), app.Settings((named("r2", "rented", "more"),), tmp_path, server.url, services=(ACTUATOR,))
    seen: set[str] = set()
    async with Lease(client, SERVICE, ALL_FLEETS), app.running(settings):
        for _ in range(100):
            seen = {f"{one.fleet}/{one.offer}" for one in (await records.all())[0]}
            if len(seen) == 2:
                break
            await asyncio.sleep(0.05)
    assert seen == {"r2/rented", "r2/more"}


@dataclass
class Unreachable:
    """Records that cannot be written at first."""

    times: int
    noted: list[str] = field(default_factory=list)

    async def note(self, sold: Sold) -> None:
        self.times -= 1
        if self.times >= 0:
            raise BusError("NATS is away")
        self.noted.append(sold.offer)


async def test_offers_are_named_soon_after_an_outage_before_anybody_takes_them_for_gone(eventually: Eventually) -> None:
    records, stopping = Unreachable(2), asyncio.Event()
    naming = asyncio.create_task(
        keep_named([named("r1", "rented")], records, VirtualClock(START), stopping, retry_seconds=0.01)  # type: ignore[arg-type]
    )
    await eventually(lambda: records.noted)
    assert records.noted == ["rented"], "and not again before its time"
    stopping.set()
    await naming


async def test_what_a_person_sweeps_with_nats_includes_suppliers_that_no_policy_names(
    client: Client, server: EmbeddedServer, tmp_path: Path
) -> None:
    world = OfferWorld(usd_per_replica_hour=60.0, lead_time_seconds=60.0)
    with CloudProcess(tmp_path / "cloud", CloudConfig(offers={"gone": world}), max_seconds=100.0) as cloud:
        actuator = simulated_actuator(cloud.url, MemoryIntentStore())
        await actuator.apply("r2", rented("gone"), 2)
        await actuator.close()
        records = SoldRecords(client)
        await records.note(Sold("r2", "a-closed", "market", "closed-down", {"suppliers": ["closed-down"]}, seen_unix=START - 1e9))
        await records.note(Sold("r2", "gone", "simulated", "", {"url": cloud.url}, seen_unix=START - 1e9))
        policy = tmp_path / "policy.yaml"
        policy.write_text(POLICY)
        lines, code = await sweep([policy], end=False, nats_url=server.url)
        assert (len([line for line in lines if line.startswith("unwanted")]), code) == (2, 1)
        lines, code = await sweep([policy], end=True, nats_url=server.url)
        assert ("2 unwanted, 2 ended" in lines[-1], code) == (True, 1)
        assert [line for line in lines if line.startswith("unknown")] == [UNKNOWN], "one that cannot be asked does not keep the others"
        await records.forget(Sold("r2", "a-closed", "market", "closed-down", {"suppliers": ["closed-down"]}))
        lines, code = await sweep([policy], end=True, nats_url=server.url)
        assert ("0 unwanted, 0 ended" in lines[-1], code) == (True, 0)


async def test_what_an_offer_left_where_it_was_is_swept_by_hand_too(client: Client, server: EmbeddedServer, tmp_path: Path) -> None:
    world = OfferWorld(usd_per_replica_hour=60.0, lead_time_seconds=60.0)
    with CloudProcess(tmp_path / "cloud", CloudConfig(offers={"rented": world}), max_seconds=100.0) as cloud:
        actuator = simulated_actuator(cloud.url, MemoryIntentStore())
        await actuator.apply("r1", rented("rented"), 2)
        await actuator.close()
        named_lately = Sold("r1", "rented", "simulated", "", {"url": cloud.url}, seen_unix=SystemClock().now())
        await SoldRecords(client).note(named_lately)
        policy = tmp_path / "policy.yaml"
        policy.write_text(POLICY + '      simulated: {url: "http://127.0.0.1:9"}\n')
        lines, _ = await sweep([policy], end=True, nats_url=server.url)
        assert len([line for line in lines if line.startswith("ended") and "of r1/rented" in line]) == 2


UNKNOWN = (
    "unknown what the supplier of r2/a-closed holds: there is no supplier 'closed-down'; known are lambda, runpod, and clouds named under "
    "market.simulated"
)
POLICY = """
apiVersion: tidegate.dev/v1alpha1
kind: Fleet
metadata: {name: r1}
spec:
  serving: {model: m, slo: {attainment: 0.99}}
  demand: {unit: requests, nats: {}}
  burst:
    - name: rented
      accelerator: {type: H200, perReplica: 8}
      capacityPerSecond: 10
      replicas: {max: 8}
      usdPerReplicaHour: 60
"""
