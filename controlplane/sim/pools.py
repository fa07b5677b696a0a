"""The replicas that a simulated world holds from one offer: buying, booting, failing, interrupting, releasing, paying.

Owns the rules of renting: billed per second from the request on and for a minimum hold at least, pending cancelled first; it must
not know demand. `controlplane.sim.world` holds one pool per offer; `controlplane.sim.cloud_model` keeps the same rules behind HTTP.
"""

from dataclasses import dataclass, field

import numpy as np

from controlplane.contracts.fleet import Offer, Tier
from controlplane.contracts.units import SECONDS_PER_HOUR


@dataclass(frozen=True, slots=True)
class Market:
    """How an offer really behaves, beside what the policy states about it. Series are (unix second, value), each holding until the next.

    `lead_time_seconds` None: the policy's. Lead times are lognormal around that median with `lead_time_sigma`.
    `stock_replicas` is how many more can be bought at that time, `held_replicas` how many can be held at all: what is above it is taken
    back at once, as spot capacity is. An empty series is plenty.
    """

    lead_time_seconds: float | None = None
    lead_time_sigma: float = 0.2
    start_failure_share: float = 0.0
    interruptions_per_replica_hour: float = 0.0
    usd_per_replica_hour: tuple[tuple[float, float], ...] = ()
    stock_replicas: tuple[tuple[float, int], ...] = ()
    held_replicas: tuple[tuple[float, int], ...] = ()

    @property
    def interrupts(self) -> bool:
        """Whether replicas may be taken back."""
        return self.interruptions_per_replica_hour > 0 or bool(self.held_replicas)


@dataclass(slots=True)
class Replica:
    """One replica: when it was asked for, when it serves (or fails, if `fails`)."""

    asked_unix: float
    serves_unix: float
    fails: bool = False


@dataclass(slots=True)
class Pool:
    """Replicas of one offer. A floor's commitment is paid in full, used or not; a floor replica itself then costs nothing more."""

    offer: Offer
    market: Market
    rng: np.random.Generator
    ready: list[Replica] = field(default_factory=list)
    pending: list[Replica] = field(default_factory=list)
    refused: int = 0
    paid_usd: float = 0.0
    held_replica_hours: float = 0.0
    next_event_unix: float = float("inf")
    paid_until_unix: float = 0.0

    @property
    def held(self) -> int:
        """Ready and pending together."""
        return len(self.ready) + len(self.pending)

    def warm(self, count: int, now_unix: float) -> None:
        """Start with replicas that serve already and are free to go."""
        self.paid_until_unix = now_unix
        asked = now_unix - self.offer.hold_seconds
        self.ready.extend(Replica(asked, now_unix) for _ in range(count))

    def price(self, now_unix: float) -> float:
        """Return USD per replica-hour now: the market's series, else the policy's price, else its ceiling."""
        stated = self.offer.usd_per_replica_hour
        fallback = stated if stated is not None else (self.offer.ceiling_usd_per_replica_hour or 0.0)
        return value_at(self.market.usd_per_replica_hour, now_unix, fallback)

    def aim(self, target: int, now_unix: float) -> None:
        """Make ready and pending together be `target`, as far as stock allows."""
        self.refused = 0
        self.settle(now_unix)
        target = min(target, self.offer.max_replicas)
        if target > self.held:
            self._buy(target - self.held, now_unix)
        elif target < self.held:
            self._release(self.held - target, now_unix)

    def boot(self, now_unix: float) -> None:
        """Turn what has booted by now into ready replicas, and drop what failed to."""
        if now_unix + 1e-9 < self.next_event_unix:
            return
        self.settle(now_unix)
        due = [replica for replica in self.pending if replica.serves_unix <= now_unix + 1e-9]
        self.pending = [replica for replica in self.pending if replica.serves_unix > now_unix + 1e-9]
        self.ready.extend(replica for replica in due if not replica.fails)
        self._find_next_event()

    def interrupt(self, now_unix: float, seconds: float) -> None:
        """Let the supplier take replicas back, by chance over the coming seconds or for lack of capacity; they are paid until now."""
        over = self.held - int(value_at(self.market.held_replicas, now_unix, self.held))
        if over > 0:
            self.settle(now_unix)
            lost = min(over, len(self.pending))
            del self.pending[len(self.pending) - lost :]
            del self.ready[: over - lost]
            self._find_next_event()
        share = -np.expm1(-self.market.interruptions_per_replica_hour * seconds / SECONDS_PER_HOUR)
        gone = int(self.rng.binomial(len(self.ready), share))
        if gone:
            self.settle(now_unix)
            del self.ready[:gone]

    def settle(self, now_unix: float) -> None:
        """Pay for what was held since the last time, at the price of then. Call before anything held changes."""
        hours = (now_unix - self.paid_until_unix) / SECONDS_PER_HOUR
        if hours <= 0:
            return
        since, self.paid_until_unix = self.paid_until_unix, now_unix
        held = len(self.ready) + len(self.pending)
        self.held_replica_hours += held * hours
        if self.offer.tier is Tier.FLOOR:
            back = self.offer.opportunity_usd_per_replica_hour * max(0, self.offer.max_replicas - held)
            self.paid_usd += (self.price(since) * self.offer.max_replicas - back) * hours
        elif held:
            self.paid_usd += self.price(since) * held * hours

    def _buy(self, count: int, now_unix: float) -> None:
        stock = value_at(self.market.stock_replicas, now_unix, count)
        room = value_at(self.market.held_replicas, now_unix, self.held + count) - self.held
        granted = min(count, max(0, int(min(stock, room))))
        self.refused = count - granted
        if not granted:
            return
        median = self.market.lead_time_seconds if self.market.lead_time_seconds is not None else self.offer.lead_time_seconds
        leads = median * np.exp(self.market.lead_time_sigma * self.rng.standard_normal(granted))
        fails = self.rng.random(granted) < self.market.start_failure_share
        self.pending.extend(
            Replica(now_unix, now_unix + float(lead), bool(fail)) for lead, fail in zip(leads.tolist(), fails.tolist(), strict=True)
        )
        self._find_next_event()

    def _release(self, count: int, now_unix: float) -> None:
        """Cancel pending first, the newest first, then the ready that were asked for first; what is left of a minimum hold is paid now."""
        self.pending.sort(key=_asked)
        self.ready.sort(key=_asked)
        cancelled = min(count, len(self.pending))
        gone = self.pending[len(self.pending) - cancelled :] + self.ready[: count - cancelled]
        del self.pending[len(self.pending) - cancelled :]
        del self.ready[: count - cancelled]
        if self.offer.tier is Tier.BURST:
            seconds = sum(max(0.0, replica.asked_unix + self.offer.hold_seconds - now_unix) for replica in gone)
            self.paid_usd += self.price(now_unix) * seconds / SECONDS_PER_HOUR
            self.held_replica_hours += seconds / SECONDS_PER_HOUR
        self._find_next_event()

    def _find_next_event(self) -> None:
        self.next_event_unix = min((replica.serves_unix for replica in self.pending), default=float("inf"))


def _asked(replica: Replica) -> float:
    return replica.asked_unix


def value_at(series: tuple[tuple[float, float], ...] | tuple[tuple[float, int], ...], now_unix: float, fallback: float) -> float:
    """Return a stepwise series' value now; before its first point, and for an empty series, the fallback."""
    value = fallback
    for since, stated in series:
        if since > now_unix:
            break
        value = stated
    return value
