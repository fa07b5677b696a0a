"""How far a supplier can be trusted now: refusals, bans and breaker with their expiry, and the share of its machines that never served.

Owns these as plain state in memory, by the caller's clock; it must not ask a supplier. `market` consults it before it buys.
"""

from dataclasses import dataclass, field

BREAKER_ERRORS = 3
BREAKER_SECONDS = 30.0
BREAKER_SECONDS_AT_MOST = 600.0
# What is believed of a supplier that nobody has tried: one failure in fifty.
PRIOR_FAILURES, PRIOR_STARTS = 0.4, 20.0


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
    _failed: set[str] = field(default_factory=set)
    _started: set[str] = field(default_factory=set)

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
        if failed - self._failed:
            self.banned_until_unix = now_unix + self.banned_for_seconds
            self.reason = f"{len(failed - self._failed)} of its machines did not start"
        self._failed |= failed
        self._started |= started

    @property
    def failure_share(self) -> float:
        """Return the share of its machines that never served, as far as is known."""
        return (len(self._failed) + PRIOR_FAILURES) / (len(self._failed) + len(self._started) + PRIOR_STARTS)

    def is_quiet(self, now_unix: float) -> bool:
        """Return whether the breaker is open: it is not even asked."""
        return now_unix < self.quiet_until_unix

    def may_sell(self, now_unix: float) -> bool:
        """Return whether anything may be bought from it."""
        return now_unix >= max(self.refused_until_unix, self.banned_until_unix, self.quiet_until_unix)
