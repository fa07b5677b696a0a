"""When to ask, when to ask again and when to leave somebody alone: jitter, back-off and a circuit breaker.

Owns the schedule's arithmetic as plain values; time and chance are arguments, so that tests are stories.
"""

from dataclasses import dataclass

FAILURES_TO_OPEN = 5
FIRST_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 60.0
FIRST_RETRY_SECONDS = 0.1
JITTER_SHARE = 0.1


@dataclass(slots=True)
class Breaker:
    """Closed after a success; open for a growing pause after five failures in a row; then one attempt decides.

    Who is asked more often than once a second says so with shorter pauses, or five failures cost them more than their freshness.
    """

    first_pause_seconds: float = FIRST_PAUSE_SECONDS
    longest_pause_seconds: float = LONGEST_PAUSE_SECONDS
    failures: int = 0
    open_until: float = float("-inf")

    def allows(self, now: float) -> bool:
        """Whether an attempt may be made."""
        return now >= self.open_until

    def succeeded(self) -> None:
        """Close."""
        self.failures, self.open_until = 0, float("-inf")

    def failed(self, now: float) -> None:
        """Count a failure; open when there were too many."""
        self.failures += 1
        if self.failures >= FAILURES_TO_OPEN:
            pause = self.first_pause_seconds * 2.0 ** min(self.failures - FAILURES_TO_OPEN, 10)
            self.open_until = now + min(pause, self.longest_pause_seconds)


def retry_delay(attempt: int, chance: float) -> float:
    """Return the pause before attempt 1, 2, …: doubling, and anywhere in its upper half by `chance` in [0, 1)."""
    return float(FIRST_RETRY_SECONDS * 2.0**attempt * (0.5 + 0.5 * chance))


def next_read(due: float, now: float, interval: float) -> float:
    """Return when the next read is due: one interval after the last one was, past reads left out."""
    missed = max(int((now - due) // interval), 0)
    return due + (missed + 1) * interval


def phase(interval: float, chance: float) -> float:
    """Return the offset of a fleet's schedule in [0, interval/10), so that many fleets do not ask at once."""
    return interval * JITTER_SHARE * chance
