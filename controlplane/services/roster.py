"""Which services this process is doing right now, for which fleets, and how far they are: for health and metrics.

Owns a list that each work enters while it runs. It must not start or stop anything; `leased` does.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from controlplane.bus.fold import Fold
from controlplane.contracts.events import Event
from controlplane.services.leased import Work
from controlplane.services.planner import Planner
from controlplane.services.refitter import Forecaster
from controlplane.web.metrics import WorkFigures


@dataclass(slots=True)
class Roster:
    """The works of one process. `expected` are those that it may do, if their leases are free; `listeners` hear what planners fold."""

    expected: list[tuple[str, str]] = field(default_factory=list)
    listeners: list[Callable[[Event], None]] = field(default_factory=list)
    _active: dict[tuple[str, str], Work] = field(default_factory=dict)

    def noted(self, service: str, fleet: str, make: Callable[[], Work]) -> Callable[[], Work]:
        """Return a maker whose work is on the list while it runs."""
        key = (service, fleet)
        self.expected.append(key)
        return lambda: _Noted(self._active, key, make())

    def heard(self, event: Event) -> None:
        """Tell the listeners what a planner of this process has folded."""
        for listener in self.listeners:
            listener(event)

    def figures(self) -> tuple[WorkFigures, ...]:
        """Return where each expected work stands."""
        return tuple(_figures(service, fleet, self._active.get((service, fleet))) for service, fleet in self.expected)

    def catching_up(self) -> tuple[str, ...]:
        """Return the works that still fold history."""
        folds = {key: _fold_of(work) for key, work in self._active.items()}
        return tuple(
            f"{key[0]} of {key[1]} folds history" for key, fold in folds.items() if fold is not None and not fold.caught_up.is_set()
        )


class _Noted:
    def __init__(self, active: dict[tuple[str, str], Work], key: tuple[str, str], work: Work) -> None:
        self._active, self._key, self._work = active, key, work

    async def run(self) -> None:
        """Run the work, on the list meanwhile."""
        self._active[self._key] = self._work
        try:
            await self._work.run()
        finally:
            self._active.pop(self._key, None)

    def stop(self) -> None:
        """Stop the work."""
        self._work.stop()


def _fold_of(work: Work | None) -> Fold[object] | None:
    inner = work.fold if isinstance(work, Planner | Forecaster) else work
    return inner if isinstance(inner, Fold) else None


def _figures(service: str, fleet: str, work: Work | None) -> WorkFigures:
    fold = _fold_of(work)
    if fold is None:
        return WorkFigures(service, fleet, work is not None)
    return WorkFigures(service, fleet, True, fold.counts.folded, fold.counts.undecodable + fold.counts.failed, fold.lag)
