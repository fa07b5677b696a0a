"""One supplier of one market: its actuator, its record, and what was last seen of it.

Owns what that comes to: what is held, promised, failed and paid there. It must not ask anyone; `market` does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from actuators.api import Intent
from actuators.holdings import Holding, HoldingState
from actuators.intents import unseen, usd_per_hour_of
from actuators.market_health import Health
from actuators.market_listing import Watched
from actuators.purchasing import PurchasingActuator
from controlplane.contracts.events import PoolStatus, Quote


@dataclass(slots=True)
class Shop:
    """One supplier of one market: its actuator, its record, and what was last seen of it."""

    name: str
    supplier: Watched
    actuator: PurchasingActuator
    health: Health
    status: PoolStatus | None = None
    quote: Quote | None = None
    answers: bool = True
    intent: Intent | None = None
    stuck: int = 0

    @property
    def ready(self) -> int:
        """Replicas that served when we last looked."""
        return 0 if self.supplier.last is None else self.supplier.last.count(HoldingState.READY)

    @property
    def held(self) -> int:
        """What was last listed, and what was bought and is not listed yet: a supplier that is silent may still send a bill."""
        return self.promised + (0 if self.supplier.last is None else self.supplier.last.counted)

    @property
    def promised(self) -> int:
        """Replicas of the newest purchase that are not listed yet."""
        return unseen(self.intent, {} if self.supplier.last is None else self.supplier.last.seen)

    @property
    def failed(self) -> int:
        """Replicas that never served and were still listed when we last looked: paid for until they are given back."""
        return sum(one.state is HoldingState.FAILED for one in self.holdings)

    @property
    def holdings(self) -> Sequence[Holding]:
        """What was last listed and is paid."""
        return () if self.supplier.last is None else self.supplier.last.paid

    def usd_per_hour(self, usd_per_replica_hour: float | None) -> float | None:
        """Return what it holds for us costs per hour; `usd_per_replica_hour` where it did not tell, None where that is not known either."""
        return usd_per_hour_of(self.supplier.last, self.intent, usd_per_replica_hour)

    @property
    def paid_usd(self) -> list[float]:
        """USD per hour of each replica that is listed, or bought and not listed yet, as far as it is known."""
        promised = [self.intent.usd_per_replica_hour] * self.promised if self.intent is not None else []
        return [usd for usd in (*(one.usd_per_hour for one in self.holdings), *promised) if usd > 0.0]
