"""The contract of a source of signals: it is read on a schedule, and answers with what it heard, as values.

Owns the shapes only: a `Reading` is one interval of engine signals in requests, before units; `work` makes an Observation of it.
A source raises `SourceError` when nothing could be read at all; whatever is merely missing is None in what it returns.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from controlplane.collectors.histograms import NOT_TIMED, Latency
from controlplane.contracts.errors import TidegateError
from controlplane.contracts.events import Flag, Observation


class SourceError(TidegateError):
    """Nothing could be read this time. `retryable` says whether asking again soon may help."""

    def __init__(self, message: str, *, retryable: bool = True) -> None:
        super().__init__(message)
        self.retryable = retryable


@dataclass(frozen=True, slots=True)
class Reading:
    """What a fleet's engines said over the interval that ends at `time_unix`. None: not known.

    `requests_per_second` are arrivals at the engines. `coverage` is the share of replicas heard, None where nobody knows how many
    there are; `age_seconds` is the age of the newest sample.
    """

    time_unix: float
    interval_seconds: float
    requests_per_second: float | None = None
    finished_per_second: float | None = None
    running: float | None = None
    waiting: float | None = None
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    finished: float = 0.0
    kv_cache_used_share: float | None = None
    ttft: Latency = NOT_TIMED
    itl: Latency = NOT_TIMED
    startup_seconds: float | None = None
    weight_load_seconds: float | None = None
    age_seconds: float | None = None
    coverage: float | None = None
    flags: frozenset[Flag] = frozenset()


class Source(Protocol):
    """One fleet's signals. Times are unix seconds of the caller's clock."""

    name: str

    async def read(self, now_unix: float) -> Sequence[Observation]:
        """Return the observations that end at or before now and were not returned yet, oldest first; SourceError where none can be."""
        ...

    def history(self, start_unix: float, end_unix: float) -> AsyncIterator[tuple[float, Sequence[Observation]]]:
        """Yield (share done, observations) of the past, oldest first, and nothing where a source keeps none."""
        ...

    async def close(self) -> None:
        """Let connections go."""
        ...
