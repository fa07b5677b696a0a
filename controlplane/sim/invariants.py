"""What must hold of a simulated cloud's ledger, whoever died in between: nothing bought twice, nothing orphaned, the bill.

Owns pure functions over the entries of one ledger; it must not talk to a cloud. Tests and reports call them on `read_ledger`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from controlplane.sim.cloud_ledger import Bought, Entry
from controlplane.sim.cloud_model import Market


def bought_twice(ledger: Iterable[Entry]) -> tuple[str, ...]:
    """Return the idempotency tokens that more than one purchase was made with; must be empty."""
    counts = Counter(entry.token for entry in ledger if isinstance(entry, Bought))
    return tuple(token for token, count in counts.items() if count > 1)


def bought_beyond(ledger: Iterable[Entry], owner: str, offer: str, targets: Sequence[tuple[float, int]]) -> tuple[Bought, ...]:
    """Return the purchases that took an owner above the target in force at that time; must be empty.

    `targets` are (unix seconds of the cloud's clock, replicas) in rising order. Catches the purchase that is doubled under a new
    token because the first was not listed yet, which `bought_twice` cannot see.
    """
    market, beyond = Market(), []
    for entry in ledger:
        market.fold(entry)
        if isinstance(entry, Bought) and (entry.owner, entry.offer) == (owner, offer):
            target = next((count for since, count in reversed(targets) if since <= entry.time_unix), 0)
            if held(market, entry.time_unix).get((owner, offer), 0) > target:
                beyond.append(entry)
    return tuple(beyond)


def held(market: Market, now_unix: float) -> dict[tuple[str, str], int]:
    """Return how many replicas each (owner, offer) holds and pays for; those that failed to start are counted too."""
    return dict(Counter((r.owner, r.offer) for r in market.replicas.values() if r.requested_unix <= now_unix and r.is_held(now_unix)))


def peak_held(ledger: Iterable[Entry], owner: str, offer: str) -> int:
    """Return the most replicas that an owner ever held of an offer at once."""
    market, peak = Market(), 0
    for entry in ledger:
        market.fold(entry)
        if isinstance(entry, Bought):
            peak = max(peak, held(market, entry.time_unix).get((owner, offer), 0))
    return peak


def orphans(ledger: Iterable[Entry], wanted: Mapping[tuple[str, str], int], until_unix: float | None = None) -> dict[tuple[str, str], int]:
    """Return, by (owner, offer), the replicas held beyond `wanted` (what the control plane counts) at a time; must be empty.

    `until_unix` defaults to the time of the last entry.
    """
    market = Market.replayed(ledger)
    now = market.now_unix if until_unix is None else until_unix
    return {key: count - wanted.get(key, 0) for key, count in held(market, now).items() if count > wanted.get(key, 0)}


def bill_usd(ledger: Iterable[Entry], until_unix: float, owner: str | None = None) -> float:
    """Return what is owed at a time: rented replicas from their request on, at least their hold, and committed pools whole."""
    return Market.replayed(ledger).bill_usd(until_unix, owner)
