"""Two simulated suppliers behind one market, on one clock moved by hand."""

from dataclasses import dataclass, field
from pathlib import Path

import httpx

from actuators.market import MarketActuator, MarketSettings, part_of
from actuators.simulated import simulated_supplier
from controlplane.sim.cloud import Cloud, application
from controlplane.sim.cloud_config import CloudConfig, OfferWorld
from controlplane.sim.cloud_ledger import Bought, Configured, LedgerFile
from controlplane.sim.drill import DrillLedger
from tests.contract.actuator_rigs import LAG_SECONDS, LEAD_SECONDS, offer_with
from tests.fakes import FakeWall, MemoryIntentStore, Wire

FLEET = "r1"


@dataclass
class Rivals:
    """Two suppliers, `cheap` and `dear`, each behind a wire that can be cut."""

    folder: Path
    prices: dict[str, float] = field(default_factory=lambda: {"cheap": 20.0, "dear": 30.0})
    settings: MarketSettings = field(default_factory=MarketSettings)
    wall: FakeWall = field(default_factory=FakeWall)
    store: MemoryIntentStore = field(default_factory=MemoryIntentStore)
    ledgers: DrillLedger = field(default_factory=DrillLedger)
    health: DrillLedger | None = None

    def __post_init__(self) -> None:
        self.offer = offer_with()
        plain = {"lead_time_seconds": LEAD_SECONDS, "lead_time_sigma": 0.0, "listing_lag_seconds": LAG_SECONDS}
        self.worlds = {name: OfferWorld(usd_per_replica_hour=usd, **plain) for name, usd in self.prices.items()}
        self.clouds, self.wires = {}, {}
        for name in self.worlds:
            ledger = LedgerFile(self.folder / f"{name}.jsonl")
            self.clouds[name] = Cloud(ledger, self._config(name), seed=7, speed=1.0, start_unix=None, wall=self.wall)
            self.wires[name] = Wire(httpx.ASGITransport(application(self.clouds[name])))

    def _config(self, name: str) -> CloudConfig:
        return CloudConfig(offers={part_of(self.offer, name).name: self.worlds[name]})

    def change(self, name: str, **world: object) -> None:
        self.worlds[name] = self.worlds[name].model_copy(update=world)
        self.clouds[name].record(Configured(time_unix=self.clouds[name].now(), config=self._config(name)))

    def market(self, *, keeps_ledger: bool = True) -> MarketActuator:
        suppliers = {name: simulated_supplier("http://cloud", transport=wire) for name, wire in self.wires.items()}
        ledgers = self.ledgers if keeps_ledger else None
        return MarketActuator(suppliers, self.store, self.settings, self.wall, ledger=ledgers, health=self.health)

    def held(self) -> dict[str, int]:
        now = self.wall.now_unix
        return {name: sum(one.is_held(now) for one in cloud.market.replicas.values()) for name, cloud in self.clouds.items()}

    def purchases(self, name: str) -> int:
        return sum(isinstance(entry, Bought) for entry in self.clouds[name].entries)

    def settle(self) -> None:
        self.wall.advance(LEAD_SECONDS + LAG_SECONDS + 1)
