"""How much of a fleet's work a router that only knows weights should send to the hosted endpoint, second by second.

Owns the rule: open at once to what would miss the SLO, close gradually, never above the allowance, shut when it has expired.
Pure: time is an argument. `gateway` sets the share; the allowance comes with every Decision.
"""

from dataclasses import dataclass

CLOSE_SECONDS = 60.0
DRAIN_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Load:
    """What is known of a fleet now, work per second; `backlog` is work. None: not known."""

    demand_per_second: float | None
    backlog: float
    capacity_per_second: float | None


@dataclass(frozen=True, slots=True)
class Allowance:
    """The highest rate that may be spilled until a time, unix seconds: what the newest decision has authorised."""

    per_second: float = 0.0
    until_unix: float = 0.0


@dataclass(frozen=True, slots=True)
class SpillValve:
    """The rate that is spilled, work per second, as of a time. `step` returns the next valve."""

    per_second: float = 0.0
    at_unix: float = 0.0

    def step(self, load: Load, allowance: Allowance, now_unix: float) -> "SpillValve":
        """Return the valve now.

        What would miss the SLO is the demand beyond what is ready, and a backlog that should be gone in half a minute: 120/s offered
        to 100/s with 300 waiting wants 30/s. It opens to that at once and closes by a sixtieth of the allowance a second. Where demand
        or capacity are not known it stays, within the allowance.
        """
        limit = allowance.per_second if now_unix < allowance.until_unix else 0.0
        wanted = self.per_second
        if load.demand_per_second is not None and load.capacity_per_second is not None:
            missing = load.demand_per_second + load.backlog / DRAIN_SECONDS - load.capacity_per_second
            closed = self.per_second - max(self.per_second, limit) * max(0.0, now_unix - self.at_unix) / CLOSE_SECONDS
            wanted = max(0.0, missing, closed)
            wanted = min(wanted, load.demand_per_second)
        return SpillValve(min(wanted, limit), now_unix)

    def share(self, load: Load) -> float:
        """Return the share of requests that the rate is, in [0, 1]; 0 where nothing is offered or demand is not known."""
        demand = load.demand_per_second or 0.0
        return min(1.0, self.per_second / demand) if demand > 0.0 else 0.0
