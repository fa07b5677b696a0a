"""How far a supplier can be trusted now: refusals, bans and breaker with their expiry, and the share of its machines that never served.

Owns these as plain state, by the caller's clock, and their form as text, so that a restart does not try at once again what was banned;
it must not ask a supplier. `market` consults it before it buys, and keeps the text.
"""

import json
from dataclasses import dataclass, field

from actuators.ledger import LedgerStore

BREAKER_ERRORS = 3
BREAKER_SECONDS = 30.0
BREAKER_SECONDS_AT_MOST = 600.0
# What is believed of a supplier that nobody has tried: one failure in fifty.
PRIOR_FAILURES, PRIOR_STARTS = 0.4, 20.0
# Machines that are known one by one; of older ones only the number is kept.
MACHINES_KEPT = 500


@dataclass(slots=True)
class Health:
    """One supplier's record. `refused_for_seconds` and `banned_for_seconds` say how long it is left alone."""

    refused_for_seconds: float
    banned_for_seconds: float
    refused_until_unix: float = 0.0
    banned_until_unix: float = 0.0
    quiet_until_unix: float = 0.0
    reason: str = ""
    _errors: int = 0
    _failures: int = 0
    _starts: int = 0
    _failed: dict[str, None] = field(default_factory=dict)
    _started: dict[str, None] = field(default_factory=dict)

    def answered(self) -> None:
        """Note that it spoke to us."""
        self._errors = 0

    def erred(self, now_unix: float, reason: str) -> None:
        """Note that it did not answer; after the third time in a row it is left in peace, for longer each time."""
        self._errors += 1
        self.reason = reason
        if self._errors >= BREAKER_ERRORS:
            pause = min(BREAKER_SECONDS * 2.0 ** (self._errors - BREAKER_ERRORS), BREAKER_SECONDS_AT_MOST)
            self.quiet_until_unix = now_unix + pause

    def refused(self, now_unix: float, reason: str) -> None:
        """Note that it had no stock, quota or ear for us."""
        self.refused_until_unix, self.reason = now_unix + self.refused_for_seconds, reason

    def saw(self, failed: frozenset[str], started: frozenset[str], now_unix: float) -> None:
        """Note which machines serve and which never did; a new failure bans it for a while."""
        new = failed - self._failed.keys()
        if new:
            self.banned_until_unix = now_unix + self.banned_for_seconds
            self.reason = f"{len(new)} of its machines did not start"
        self._failures += len(new)
        self._starts += len(started - self._started.keys())
        self._failed = _newest(self._failed | dict.fromkeys(sorted(failed)))
        self._started = _newest(self._started | dict.fromkeys(sorted(started)))

    @property
    def failure_share(self) -> float:
        """Return the share of its machines that never served, as far as is known."""
        return (self._failures + PRIOR_FAILURES) / (self._failures + self._starts + PRIOR_STARTS)

    def is_quiet(self, now_unix: float) -> bool:
        """Return whether the breaker is open: it is not even asked."""
        return now_unix < self.quiet_until_unix

    def may_sell(self, now_unix: float) -> bool:
        """Return whether anything may be bought from it."""
        return now_unix >= max(self.refused_until_unix, self.banned_until_unix, self.quiet_until_unix)

    def dump(self) -> str:
        """Return it as JSON, without what the policy says."""
        return json.dumps(
            {
                "refused_until_unix": self.refused_until_unix,
                "banned_until_unix": self.banned_until_unix,
                "quiet_until_unix": self.quiet_until_unix,
                "reason": self.reason,
                "errors": self._errors,
                "failures": self._failures,
                "starts": self._starts,
                "failed": list(self._failed),
                "started": list(self._started),
            }
        )

    def load(self, text: str) -> None:
        """Go on from what `dump` wrote."""
        body = json.loads(text)
        self.refused_until_unix, self.quiet_until_unix = body["refused_until_unix"], body["quiet_until_unix"]
        self.banned_until_unix, self.reason = body["banned_until_unix"], body["reason"]
        self._errors, self._failures, self._starts = body["errors"], body["failures"], body["starts"]
        self._failed, self._started = dict.fromkeys(body["failed"]), dict.fromkeys(body["started"])


def _newest(machines: dict[str, None]) -> dict[str, None]:
    return dict.fromkeys(list(machines)[-MACHINES_KEPT:])


class Trust:
    """Keeps the health of one offer's suppliers where restarts find it: read once, written where it changed."""

    def __init__(self, store: LedgerStore | None) -> None:
        """Keep nothing where there is no store."""
        self._store = store
        self._written: dict[tuple[str, str], str] = {}

    async def recall(self, fleet: str, offer: str, health: Health) -> None:
        """Go on from what was written before our start."""
        if self._store is None or (fleet, offer) in self._written:
            return
        text = await self._store.read(fleet, offer)
        if text is not None:
            health.load(text)
        self._written[fleet, offer] = health.dump()

    async def note(self, fleet: str, offer: str, health: Health) -> None:
        """Write what changed since it could last be written."""
        if self._store is None or self._written.get((fleet, offer)) == (text := health.dump()):
            return
        if await self._store.write(fleet, offer, text):
            self._written[fleet, offer] = text
