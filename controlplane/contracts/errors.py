"""Typed errors of the domain: what a caller may have to act on. Bad data is a value (a flag, a null), not an exception."""


class TidegateError(Exception):
    """The root of every error that tidegate raises on purpose; its message is meant for the user."""


class PolicyError(TidegateError):
    """A policy file that cannot be used; the message names file, line, path, value and what would be right."""


class TraceError(TidegateError):
    """A trace file that cannot be read."""


class BusError(TidegateError):
    """NATS is not reachable, too old, or refuses."""


class SnapshotError(TidegateError):
    """A snapshot of another version, or not a snapshot: rebuild from history."""


class SupplierError(TidegateError):
    """A supplier refused or failed. `retryable` says whether asking again may help."""

    retryable = False


class InsufficientCapacity(SupplierError):
    """Out of stock: the next offer should be tried at once."""


class QuotaExceeded(SupplierError):
    """The account may not hold more: the next offer should be tried at once."""


class Throttled(SupplierError):
    """Asked too often: nothing was done, and the next offer should be tried meanwhile."""

    retryable = True


class AccessRefused(SupplierError):
    """Not allowed, or credentials that are missing or over: a person must act, and the next offer should be tried meanwhile."""


class NotAsked(SupplierError):
    """What must be known before asking could not be read: nothing was done, and the next offer should be tried meanwhile."""

    retryable = True


class SupplierUnavailable(SupplierError):
    """Not reachable, throttled or failing inside; the outcome of a purchase may be unknown."""

    retryable = True
