"""The contract of an actuator: observe what is really there, apply an absolute target, answer with what happened.

Owns the result types, the port to the store of purchase intents, and the protocol; the contract suite runs on every actuator.
An actuator never decides a number, and never trusts its memory over what it observes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol, runtime_checkable

from controlplane.contracts.errors import AccessRefused, InsufficientCapacity, NotAsked, QuotaExceeded, SupplierError, Throttled
from controlplane.contracts.events import PoolStatus, Quote
from controlplane.contracts.fleet import Offer

MAX_TOKEN_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Applied:
    """The offer was changed by `change` replicas; `intent` names the numbered purchase intent, where one was used.

    `reason` says why it is less than was asked for, where it is.
    """

    change: int
    intent: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Nothing was done, for this reason (already there, minimum hold, dry run, an intent still open)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The supplier refused or failed. `unavailable`: it surely sold nothing, so the next offer should be tried at once."""

    error: str
    retryable: bool
    unavailable: bool = False


Result = Applied | Skipped | Failed
REFUSALS = (InsufficientCapacity, QuotaExceeded, Throttled, AccessRefused, NotAsked)


def failed(error: SupplierError) -> Failed:
    """Return the result that a supplier's typed error means."""
    return Failed(str(error), retryable=error.retryable, unavailable=isinstance(error, REFUSALS))


class Actuator(Protocol):
    """One kind of capacity. Methods raise only `SupplierError` from `observe` and `quote`; `apply` answers with a Result."""

    async def observe(self, fleet: str, offer: Offer) -> PoolStatus:
        """Return what the offer really holds for the fleet; open intents not yet seen count as pending."""
        ...

    async def apply(self, fleet: str, offer: Offer, target: int) -> Result:
        """Make ready + pending of the offer be `target`. Applying one target twice changes nothing the second time."""
        ...

    async def quote(self, offer: Offer) -> Quote | None:
        """Return the offer's price and stock now, None where the kind has no quotes."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


@runtime_checkable
class Watching(Protocol):
    """What an actuator may also be: one that is told of changes, so that nobody need ask for them."""

    def on_change(self, fleet: str, offer: Offer, wake: Callable[[], None]) -> None:
        """Call `wake`, from the event loop, whenever what `observe` would say may have changed; until `close`."""
        ...


@dataclass(frozen=True, slots=True)
class Intent:
    """A purchase that may have been asked for. `token` is the idempotency token the supplier gets; `revision` is the store's.

    `opened_unix` is the supplier's time when it was written, `replicas` the ids of what was bought, as far as they are known,
    `reason` what the supplier said last, `before` the number that `count` replaces where a number is set, `usd_per_replica_hour` the price
    that was reckoned with, 0 where none was known. A store keeps all fields.
    """

    fleet: str
    offer: str
    number: int
    count: int
    state: str
    revision: int = 0
    opened_unix: float = 0.0
    replicas: tuple[str, ...] = ()
    reason: str = ""
    before: int | None = None
    usd_per_replica_hour: float = 0.0

    @property
    def token(self) -> str:
        """The supplier's idempotency token: one per intent, never derived from a decision; at most 64 characters, as EC2 wants.

        It holds the opening time, so that numbers which start again after a store was lost don't name an old purchase.
        """
        name = f"tidegate.{self.fleet}.{self.offer}.{self.number}.{int(self.opened_unix):x}"
        if len(name) <= MAX_TOKEN_CHARACTERS:
            return name
        return f"tidegate.{self.number}.{blake2b(name.encode(), digest_size=16).hexdigest()}"


class IntentStore(Protocol):
    """Numbered purchase intents with compare-and-set, in NATS KV in production: written *before* the supplier is asked."""

    async def latest(self, fleet: str, offer: str) -> Intent | None:
        """Return the newest intent of an offer, None if there never was one."""
        ...

    async def put(self, intent: Intent) -> Intent:
        """Write the intent as the successor of revision `intent.revision` (0: there was none); IntentConflict if another came first."""
        ...


class IntentConflict(Exception):
    """Another writer changed the offer's intent: read it again and start over."""
