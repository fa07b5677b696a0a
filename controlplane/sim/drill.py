"""The fault drill: the production pipeline and market over suppliers that do everything wrong at once, all of it from one seed.

Owns the faults that a seed draws, the order of a tick, what is checked after each, and the heal; it must not decide anything.
`drill(seed)` plays one; `benchmarks/fault_drill.py` plays thousands and prints what came of them.
"""

import asyncio
import random
from dataclasses import dataclass, field, replace

from actuators.api import Intent, IntentConflict
from actuators.ledger import Ledger
from actuators.market import MarketActuator, MarketSettings, part_of
from controlplane.contracts.errors import SupplierError
from controlplane.contracts.events import PoolStatus
from controlplane.contracts.fleet import Budget, Fleet, Guard, Mode, Offer, Slo, Spill, Tier, Unit
from controlplane.contracts.frame import Frame
from controlplane.contracts.units import SECONDS_PER_HOUR, from_unix
from controlplane.pipeline import Pipeline
from controlplane.sim.cloud_config import CloudConfig, OfferWorld
from controlplane.sim.cloud_ledger import Configured
from controlplane.sim.cloud_model import Market
from controlplane.sim.drill_supplier import ModelSupplier
from controlplane.sim.router import route
from controlplane.snapshot import dump_plan, load_plan
from policies.budget import usd_limits
from policies.decide import Verdict

# Midnight UTC, so that a drill lies within one day of the budget.
START_UNIX = 1_699_920_000.0
TICK_SECONDS = 60.0
FAULT_TICKS, HEAL_TICKS, END_TICKS = 120, 45, 60
SUPPLIERS = ("alpha", "beta", "gamma")
USD_PER_HOUR = 120.0
PATIENCE_SECONDS = 2.0
RESTART_SHARE = 0.02
# In every fourth seed no supplier remembers a token: asked twice, it sells twice.
FORGETFUL_EVERY, FORGETFUL_AT = 4, 2
FORGOTTEN_SECONDS = 1e-3
ROUNDING_USD = 1e-6
OWN = Offer("own", Tier.FLOOR, 10.0, 0, 4, 2.0, 180.0)
RENTED = Offer("rented", Tier.BURST, 10.0, 0, 60, None, 300.0, hold_seconds=0.0, ceiling_usd_per_replica_hour=9.0)
FLEET = Fleet(
    "drilled",
    Slo(0.99, ttft_seconds=PATIENCE_SECONDS),
    Unit.REQUESTS,
    (OWN, RENTED),
    Spill("hosted", 3.0 * 4.0 / SECONDS_PER_HOUR / 10.0, max_per_second=60.0),
    guard=Guard(mode=Mode.ACT, budget=Budget(usd_per_hour=USD_PER_HOUR)),
    tick_seconds=TICK_SECONDS,
)


class DrillLedger:
    """Ledgers, or what is known of suppliers, in memory; they survive the controller's restarts, as NATS does."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self.texts: dict[tuple[str, str], str] = {}

    async def read(self, fleet: str, offer: str) -> str | None:
        """Return what was written last."""
        return self.texts.get((fleet, offer))

    async def write(self, fleet: str, offer: str, text: str) -> bool:
        """Write it."""
        self.texts[fleet, offer] = text
        return True


class DrillStore:
    """Intents in memory; they survive the controller's restarts, as NATS does."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._newest: dict[tuple[str, str], Intent] = {}

    async def latest(self, fleet: str, offer: str) -> Intent | None:
        """Return the newest intent of an offer."""
        return self._newest.get((fleet, offer))

    async def put(self, intent: Intent) -> Intent:
        """Write an intent over its predecessor."""
        key = (intent.fleet, intent.offer)
        there = self._newest.get(key)
        if intent.revision != (there.revision if there is not None else 0):
            raise IntentConflict("another writer was first")
        self._newest[key] = replace(intent, revision=intent.revision + 1)
        return self._newest[key]


@dataclass(slots=True)
class DrillResult:
    """What came of one seed. `broken` names every safety rule that was broken, with its tick; work is in requests."""

    seed: int
    broken: list[str] = field(default_factory=list)
    offered: float = 0.0
    late: float = 0.0
    spilled: float = 0.0
    billed_usd: float = 0.0
    ledger_usd: float = 0.0
    metered_usd: float = 0.0
    most_usd_per_hour: float = 0.0
    most_with_spill_usd_per_hour: float = 0.0
    purchases: int = 0
    orphans: int = 0
    restarts: int = 0

    @property
    def lost_share(self) -> float:
        """Share of the offered work that missed the SLO; spilled work did not."""
        return self.late / self.offered if self.offered else 0.0


def faulty_world(dice: random.Random) -> OfferWorld:
    """Draw one supplier: price jumps, stock-outs, quota, throttling, slow and failed starts, interruptions, lost replies, lies."""
    usd, lead, lag = dice.uniform(2.0, 4.0), dice.uniform(120.0, 600.0), dice.choice([0.0, 30.0, 90.0])
    span = FAULT_TICKS * TICK_SECONDS
    jumps = sorted(dice.uniform(0.0, span) for _ in range(4))
    outs = sorted(dice.uniform(0.0, span) for _ in range(6))
    return OfferWorld(
        usd_per_replica_hour=usd,
        lead_time_seconds=lead,
        listing_lag_seconds=lag,
        usd_by_seconds=tuple((at, usd * dice.uniform(0.5, 3.0)) for at in jumps),
        stock_by_seconds=tuple((at, dice.choice([0, 0, 3, 10, 40])) for at in outs),
        quota_replicas=dice.choice([None, None, 0, 5, 15]),  # with a quota of 0 it lies: it quotes stock and sells none
        requests_per_minute=dice.choice([None, 1.0, 3.0]),
        lead_time_sigma=dice.choice([0.1, 0.8]),
        start_failure_share=dice.choice([0.0, 0.05, 0.5]),
        interruptions_per_hour=dice.choice([0.0, 0.5, 6.0]),
        error_share=dice.choice([0.0, 0.2]),
        lost_reply_share=dice.choice([0.0, 0.2]),
    )


def is_forgetful(seed: int) -> bool:
    """Whether the suppliers of a seed forget tokens."""
    return seed % FORGETFUL_EVERY == FORGETFUL_AT


def _well_behaved(world: OfferWorld) -> OfferWorld:
    """Return the same supplier without its faults."""
    return OfferWorld(
        usd_per_replica_hour=world.usd_per_replica_hour,
        lead_time_seconds=world.lead_time_seconds,
        listing_lag_seconds=world.listing_lag_seconds,
        token_seconds=world.token_seconds,
    )


class Drill:
    """One seed's world, on a clock that moves by ticks. `faults` False plays the same demand on the same suppliers, well behaved.

    `kept_share` is the share of releases that are refused while there are faults.
    """

    def __init__(self, seed: int, *, faults: bool = True, kept_share: float = 0.0) -> None:
        """Open the suppliers."""
        self._dice, releases = random.Random(f"drill/{seed}"), random.Random(f"drill/releases/{seed}")
        self.now_unix = START_UNIX
        self._faults = faults
        self._remembers = not is_forgetful(seed)
        self.markets = {name: self._market(name, seed) for name in SUPPLIERS}
        self._keeps = lambda: self._faults and releases.random() < kept_share
        self._suppliers = {name: self._supplier(market) for name, market in self.markets.items()}
        self._store = DrillStore()
        self._ledger, self._health = DrillLedger(), DrillLedger()
        self._actuator = self._started()
        self._pipeline = Pipeline(FLEET)
        self._state = self._pipeline.start()
        self._peak, self._ramp = self._dice.uniform(80.0, 350.0), self._dice.uniform(10.0, 60.0)
        self._backlog = 0.0
        self.allowance = 0.0
        self._quoted: float | None = None
        self._seen, self._spilled = PoolStatus(time=from_unix(START_UNIX), fleet=FLEET.name, offer=RENTED.name, ready=0), 0.0
        self.result = DrillResult(seed)

    def _market(self, name: str, seed: int) -> Market:
        sold_as = part_of(RENTED, name).name
        span = FAULT_TICKS * TICK_SECONDS
        begins = self._dice.uniform(0.0, span)
        outages = ((begins, begins + self._dice.uniform(60.0, 1200.0)),) if self._faults and self._dice.random() < 0.5 else ()
        world = faulty_world(self._dice).model_copy(update={} if self._remembers else {"token_seconds": FORGOTTEN_SECONDS})
        world = world if self._faults else _well_behaved(world)
        return Market.open(CloudConfig(offers={sold_as: world}, outages=outages), seed, START_UNIX)

    def _supplier(self, market: Market) -> ModelSupplier:
        return ModelSupplier(market, lambda: self.now_unix, remembers_tokens=self._remembers, keeps=self._keeps)

    def _started(self) -> MarketActuator:
        """Return the actuator as after a start: it remembers nothing."""
        settings = MarketSettings(banned_for_seconds=1800.0)
        return MarketActuator(self._suppliers, self._store, settings, lambda: self.now_unix, ledger=self._ledger, health=self._health)

    def heal(self) -> None:
        """Turn every fault off."""
        for name, market in self.markets.items():
            sold_as = part_of(RENTED, name).name
            config = CloudConfig(offers={sold_as: _well_behaved(market.config.offers[sold_as])})
            market.fold(Configured(time_unix=self.now_unix, config=config))
        self._faults = False

    def demand(self, tick: int) -> float:
        """Return the offered work per second: a base, a wave, and nothing at the end."""
        if tick >= FAULT_TICKS + HEAL_TICKS:
            return 0.0
        wave = max(0.0, 1.0 - abs(tick - self._ramp) / self._ramp)
        return (40.0 + self._peak * wave) * self._dice.uniform(0.9, 1.1)

    async def tick(self, tick: int) -> None:
        """Let a tick pass: serve, observe, decide, act; then check."""
        if self._faults and self._dice.random() < RESTART_SHARE:
            self._restart()
        demand = self.demand(tick)
        self._serve(demand)
        self.now_unix += TICK_SECONDS
        frame = await self._frame(demand)
        self._state, verdict = self._pipeline.frame(self._state, frame)
        self.allowance = verdict.spill_per_second
        target = verdict.targets[RENTED.name]
        at_most = max(self.held(), target)
        await self._actuator.apply(FLEET.name, self._bound(verdict), target)
        self.check(tick, at_most)

    def _bound(self, verdict: Verdict) -> Offer:
        """Return the offer as the reconciler hands it on: at its price, bound to the price and money that the decision reckoned with."""
        view = self._pipeline.planning.view(self._state.planning, self.now_unix)
        price = next(seen.usd_per_replica_hour for seen in view.offers if seen.offer is RENTED)
        limit = usd_limits(verdict.targets, view, self._state.planning.memory)[RENTED.name]
        return replace(RENTED, usd_per_replica_hour=self._quoted, most_usd_per_replica_hour=price, most_usd_per_hour=limit)

    def _restart(self) -> None:
        """Start the controller anew: the planner from its snapshot, the actuator from nothing."""
        self._actuator = self._started()
        self._state = replace(self._state, planning=load_plan(dump_plan(self._state.planning)))
        self.result.restarts += 1

    def _serve(self, demand: float) -> None:
        ready = sum(one.state(self.now_unix).value == "ready" for market in self.markets.values() for one in market.replicas.values())
        capacity = OWN.capacity_per_second * OWN.max_replicas + RENTED.capacity_per_second * ready
        served = route(self._backlog, demand, capacity, PATIENCE_SECONDS, self.allowance, TICK_SECONDS, shed=True)
        self._backlog = served.backlog
        self.result.offered += demand * TICK_SECONDS
        self.result.late += served.late
        self.result.spilled += served.spilled
        self._spilled = served.spilled

    async def _frame(self, demand: float) -> Frame:
        try:
            self._seen = await self._actuator.observe(FLEET.name, RENTED)
            quote = await self._actuator.quote(RENTED)
            self._quoted = quote.usd_per_replica_hour if quote is not None else None
        except SupplierError:
            self._seen = self._seen.model_copy(update={"unavailable": True})
        prices = {} if self._quoted is None else {RENTED.name: self._quoted}
        return Frame(
            fleet=FLEET.name,
            time=from_unix(self.now_unix),
            demand=demand,
            backlog=self._backlog,
            ready={OWN.name: OWN.max_replicas, RENTED.name: self._seen.ready},
            pending={RENTED.name: self._seen.pending},
            unavailable=(RENTED.name,) if self._seen.unavailable else (),
            prices=prices,
            paid_usd_per_hour={} if self._seen.usd_per_hour is None else {RENTED.name: self._seen.usd_per_hour},
            spilled=self._spilled / TICK_SECONDS,
        )

    def check(self, tick: int, at_most: int) -> None:
        """Check what must hold at every moment: rent and permitted spill are within the budget, no purchase passes the target.

        The rent is what the suppliers bill for everything that is held, machines included that failed, are not listed yet, or are held by
        a supplier that is silent. Spill is all that is permitted until the next decision, used or not. A purchase that is doubled, under
        one token or two and at whichever supplier, is held beyond the target and what was held.
        """
        usd = self.usd_per_hour()
        spill_usd = self.allowance * SECONDS_PER_HOUR * (FLEET.spill.usd_per_unit if FLEET.spill is not None else 0.0)
        self.result.most_usd_per_hour = max(self.result.most_usd_per_hour, usd)
        self.result.most_with_spill_usd_per_hour = max(self.result.most_with_spill_usd_per_hour, usd + spill_usd)
        if usd + spill_usd > USD_PER_HOUR + ROUNDING_USD:
            paid = f"{usd:.2f} USD/h rented and {spill_usd:.2f} USD/h of spill permitted"
            self.result.broken.append(f"tick {tick}: {paid}, {USD_PER_HOUR:.2f} allowed")
        if self.held() > at_most:
            self.result.broken.append(f"tick {tick}: {self.held()} held, {at_most} asked for")

    def usd_per_hour(self) -> float:
        """Return what the suppliers bill now for everything that is held, failed machines included."""
        held = [one for market in self.markets.values() for one in market.replicas.values() if one.is_held(self.now_unix)]
        return sum(one.lease.usd_per_hour for one in held)

    def held(self) -> int:
        """Return what the suppliers hold for us."""
        return sum(one.is_held(self.now_unix) for market in self.markets.values() for one in market.replicas.values())

    async def play(self) -> DrillResult:
        """Play the whole drill."""
        for tick in range(FAULT_TICKS + HEAL_TICKS + END_TICKS):
            if tick == FAULT_TICKS:
                self.heal()
            await self.tick(tick)
            if tick == FAULT_TICKS + HEAL_TICKS - 1:
                status = await self._actuator.observe(FLEET.name, RENTED)
                self.result.orphans = self.held() - status.ready - status.pending
        if self.result.orphans:
            self.result.broken.append(f"{self.result.orphans} held and not counted after the heal")
        if self.held():
            self.result.broken.append(f"{self.held()} still held an hour after the last work")
        self.result.billed_usd = sum(market.bill_usd(self.now_unix) for market in self.markets.values())
        self.result.ledger_usd = sum(Ledger.load(text).usd for text in self._ledger.texts.values())
        spill_usd = self.result.spilled * (FLEET.spill.usd_per_unit if FLEET.spill is not None else 0.0)
        self.result.metered_usd = self._state.planning.memory.spent_usd_today - spill_usd
        self.result.purchases = sum(len({one.token for one in market.replicas.values()}) for market in self.markets.values())
        return self.result


def drill(seed: int, *, faults: bool = True, kept_share: float = 0.0) -> DrillResult:
    """Play one seed; the same seed gives the same result."""
    return asyncio.run(Drill(seed, faults=faults, kept_share=kept_share).play())
