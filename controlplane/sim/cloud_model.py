"""The pure market of a simulated cloud: who holds which replica, what is refused, what is owed. Time is an argument.

Owns the rules; every change is an entry that is decided first (`purchase`, `release`) and folded afterwards (`fold`), so that
a ledger can be written in between and state can be rebuilt from it. It must not read a clock or do I/O; `cloud` puts it behind HTTP.
"""

import math
import random
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from controlplane.contracts.units import SECONDS_PER_HOUR
from controlplane.sim.cloud_config import CloudConfig, OfferWorld
from controlplane.sim.cloud_ledger import Bought, Clocked, Configured, Entry, Lease, Opened, Refused, Released, Repeated, Reply

LISTED_AFTER_END_SECONDS = 3600.0
MINUTE_SECONDS = 60.0
NO_LIMIT = 1_000_000

Answer = Bought | Repeated | Refused


class ReplicaState(StrEnum):
    """Where a replica is in its life. A failed one is held and billed until it is given back."""

    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    RELEASED = "released"


@dataclass(slots=True)
class Replica:
    """One replica that was sold, and whether it was given back."""

    lease: Lease
    offer: str
    owner: str
    token: str
    requested_unix: float
    released_unix: float | None = None

    def state(self, now_unix: float) -> ReplicaState:
        """Return the state at a time."""
        if self.released_unix is not None and self.released_unix <= now_unix:
            return ReplicaState.RELEASED
        if self.lease.interrupted_unix is not None and self.lease.interrupted_unix <= now_unix:
            return ReplicaState.INTERRUPTED
        if now_unix < self.lease.ready_unix:
            return ReplicaState.PENDING
        return ReplicaState.READY if self.lease.starts else ReplicaState.FAILED

    def is_held(self, now_unix: float) -> bool:
        """Return whether it takes up stock, and its owner pays for it."""
        ends = (end for end in (self.released_unix, self.lease.interrupted_unix) if end is not None)
        return min(ends, default=math.inf) > now_unix

    @property
    def held_until_unix(self) -> float:
        """When the minimum hold is over: giving it back earlier saves nothing."""
        return self.requested_unix + self.lease.hold_seconds

    def bill_usd(self, until_unix: float) -> float:
        """Return what is owed: from the request on, at least the minimum hold, unless the supplier itself took it back.

        2 USD/h with a hold of 600 s, given back after 60 s: 600 / 3600 × 2 = 0.33 USD.
        """
        if until_unix < self.requested_unix:
            return 0.0
        interrupted = self.lease.interrupted_unix
        released = self.released_unix
        ends = [end for end in (until_unix, released) if end is not None]
        if interrupted is not None and interrupted <= min(ends):
            seconds = interrupted - self.requested_unix
        else:
            seconds = max(min(ends) - self.requested_unix, self.lease.hold_seconds)
        return seconds / SECONDS_PER_HOUR * self.lease.usd_per_hour


@dataclass(frozen=True, slots=True)
class OfferQuote:
    """An offer's price and stock at a time; `stock_replicas` None is no limit."""

    offer: str
    usd_per_replica_hour: float
    stock_replicas: int | None
    lead_time_seconds: float
    hold_seconds: float


class Market:
    """The state of a simulated cloud: a fold over its entries."""

    def __init__(self) -> None:
        """Start closed; the first entry must be `Opened`."""
        self.config = CloudConfig(offers={})
        self.seed = 0
        self.opened_unix = 0.0
        self.now_unix = 0.0
        self.replicas: dict[str, Replica] = {}
        self._current: dict[str, list[Replica]] = defaultdict(list)
        self._by_token: dict[str, tuple[float, list[Replica]]] = {}
        self._requests: Counter[str] = Counter()
        self._sold: Counter[str] = Counter()
        self._asked: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=1000))
        self._worlds: list[tuple[float, CloudConfig]] = []

    @classmethod
    def replayed(cls, entries: Iterable[Entry]) -> "Market":
        """Return the state after these entries."""
        market = cls()
        for entry in entries:
            market.fold(entry)
        return market

    @classmethod
    def open(cls, config: CloudConfig, seed: int, now_unix: float) -> "Market":
        """Return a new market for use inside one process, without a ledger."""
        return cls.replayed([Opened(time_unix=now_unix, wall_unix=now_unix, speed=0.0, seed=seed, config=config)])

    def fold(self, entry: Entry) -> None:
        """Take one entry in."""
        self.now_unix = max(self.now_unix, entry.time_unix)
        match entry:
            case Opened() | Configured():
                if isinstance(entry, Opened):
                    self.seed, self.opened_unix = entry.seed, entry.time_unix
                self.config = entry.config
                self._worlds.append((entry.time_unix, entry.config))
            case Bought():
                self._count_request(entry)
                replicas = [Replica(lease, entry.offer, entry.owner, entry.token, entry.time_unix) for lease in entry.replicas]
                self._sold[entry.offer] += len(replicas)
                self._by_token[entry.token] = (entry.time_unix, replicas)
                self._current[entry.offer].extend(replicas)
                self.replicas.update((replica.lease.id, replica) for replica in replicas)
            case Released():
                self.replicas[entry.replica].released_unix = entry.time_unix
            case Refused() | Repeated():
                self._count_request(entry)
            case Clocked():
                pass

    def _count_request(self, entry: Answer) -> None:
        self._requests[entry.offer] += 1
        self._asked[entry.offer].append(entry.time_unix)

    def buy(self, now_unix: float, offer: str, count: int, owner: str, token: str, min_count: int | None = None) -> Answer:
        """Decide a purchase and fold it at once, for use inside one process."""
        entry = self.purchase(now_unix, offer, count, owner, token, min_count)
        self.fold(entry)
        return entry

    def purchase(self, now_unix: float, offer: str, count: int, owner: str, token: str, min_count: int | None = None) -> Answer:
        """Decide what a purchase request comes to: at least `min_count` (default: all) replicas, in whole lots, or a refusal.

        All draws come from (seed, offer, number of the request or replica), so one ledger's world is reproducible.
        KeyError for an offer that is not sold.
        """
        world = self.config.offers[offer]
        number = self._requests[offer] + 1
        dice = random.Random(f"{self.seed}/{offer}/request/{number}")
        error, lost, late = dice.random(), dice.random(), dice.random()
        request = {"time_unix": now_unix, "offer": offer, "owner": owner, "token": token}
        if self._is_throttled(world, offer, now_unix):
            return Refused(**request, status=429, reason="throttled")
        if error < world.error_share:
            return Refused(**request, status=503, reason="internal_error")
        reply = Reply.LOST if lost < world.lost_reply_share else Reply.LATE if late < world.late_reply_share else Reply.GIVEN
        if self.purchased(now_unix, offer, token):
            return Repeated(**request, reply=reply)
        least = count if min_count is None else min_count
        quota = self._room(world.quota_replicas, offer, now_unix, owner)
        stock = self._room(world.stock_at(now_unix - self.opened_unix), offer, now_unix, None)
        given = min(count, quota, stock) // world.replicas_per_lot * world.replicas_per_lot
        if given < max(least, 1):
            status, reason = (403, "quota_exceeded") if quota < max(least, 1) else (409, "insufficient_capacity")
            return Refused(**request, status=status, reason=reason)
        leases = tuple(self._lease(world, offer, now_unix, number, index) for index in range(given))
        return Bought(**request, reply=reply, replicas=leases)

    def purchased(self, now_unix: float, offer: str, token: str) -> list[Replica]:
        """Return the replicas of the purchase that a token is remembered for, none where there is none."""
        bought_unix, replicas = self._by_token.get(token, (0.0, []))
        remembered = self.config.offers[offer].token_seconds
        return [] if remembered is not None and now_unix - bought_unix > remembered else replicas

    def _is_throttled(self, world: OfferWorld, offer: str, now_unix: float) -> bool:
        if world.requests_per_minute is None:
            return False
        return sum(now_unix - asked < MINUTE_SECONDS for asked in self._asked[offer]) >= world.requests_per_minute

    def _room(self, limit: int | None, offer: str, now_unix: float, owner: str | None) -> int:
        """Return how many more replicas fit under a limit, for one owner or for all."""
        if limit is None:
            return NO_LIMIT
        return max(0, limit - sum(replica.is_held(now_unix) for replica in self._current[offer] if owner in (None, replica.owner)))

    def _lease(self, world: OfferWorld, offer: str, now_unix: float, request: int, index: int) -> Lease:
        """Draw one replica's fate."""
        number = self._sold[offer] + index + 1
        dice = random.Random(f"{self.seed}/{offer}/replica/{number}")
        lead = world.lead_time_seconds * math.exp(world.lead_time_sigma * dice.gauss(0.0, 1.0))
        starts = dice.random() >= world.start_failure_share
        hours = dice.expovariate(world.interruptions_per_hour) if world.interruptions_per_hour else math.inf
        ready = now_unix + lead
        return Lease(
            id=f"{offer}-{number}",
            lot=f"{offer}-lot-{request}-{index // world.replicas_per_lot}",
            ready_unix=ready,
            starts=starts,
            interrupted_unix=ready + hours * SECONDS_PER_HOUR if math.isfinite(hours) else None,
            usd_per_hour=0.0 if world.reserved_replicas else world.usd_at(now_unix - self.opened_unix),
            hold_seconds=world.hold_seconds,
        )

    def release(self, now_unix: float, replica: str) -> Released | None:
        """Decide giving a replica back; None where there is none such, or it went back already. Fold the entry to do it."""
        known = self.replicas.get(replica)
        if known is None or known.released_unix is not None:
            return None
        return Released(time_unix=now_unix, replica=replica)

    def quote(self, now_unix: float, offer: str) -> OfferQuote:
        """Return an offer's price and stock. KeyError for an offer that is not sold."""
        world = self.config.offers[offer]
        elapsed = now_unix - self.opened_unix
        limit = world.stock_at(elapsed)
        stock = None if limit is None else self._room(limit, offer, now_unix, None) // world.replicas_per_lot * world.replicas_per_lot
        return OfferQuote(offer, world.usd_at(elapsed), stock, world.lead_time_seconds, world.hold_seconds)

    def listing(self, now_unix: float, owner: str | None = None, offer: str | None = None) -> list[Replica]:
        """Return what the supplier's listing shows: late by its lag, without what was given back, interrupted ones for an hour."""
        listed: list[Replica] = []
        for name in list(self._current) if offer is None else [offer]:
            world = self.config.offers.get(name)
            lag = world.listing_lag_seconds if world else 0.0
            self._current[name] = [replica for replica in self._current[name] if self._is_shown(replica, now_unix)]
            listed += [r for r in self._current[name] if now_unix - r.requested_unix >= lag and (owner is None or r.owner == owner)]
        return listed

    @staticmethod
    def _is_shown(replica: Replica, now_unix: float) -> bool:
        interrupted = replica.lease.interrupted_unix
        return replica.released_unix is None and (interrupted is None or interrupted + LISTED_AFTER_END_SECONDS > now_unix)

    def bill_usd(self, until_unix: float, owner: str | None = None) -> float:
        """Return what is owed at a time, committed pools included, of one owner or of all."""
        rented = sum(r.bill_usd(until_unix) for r in self.replicas.values() if owner is None or r.owner == owner)
        return rented + self._committed_usd(until_unix, owner)

    def _committed_usd(self, until_unix: float, owner: str | None) -> float:
        usd = 0.0
        ends = [since for since, _ in self._worlds[1:]] + [math.inf]
        for (since, config), end in zip(self._worlds, ends, strict=True):
            hours = max(0.0, min(end, until_unix) - since) / SECONDS_PER_HOUR
            worlds = [world for world in config.offers.values() if owner is None or world.reserved_owner == owner]
            usd += sum(hours * world.reserved_replicas * world.usd_per_replica_hour for world in worlds)
        return usd
