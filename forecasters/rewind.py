"""What a combination has learnt, to be had again as it was before the newest change: learning reuses memory, and may fail half-way.

Owns a copy of the state from some changes ago and what was learnt since: learning is deterministic, so the two make any state between
again, to the bit. It must not learn by itself; `combine` does. A state from before the copy is gone.
"""

from copy import deepcopy

from forecasters.api import Array, Batch
from forecasters.combine import Combination, CombinationState
from forecasters.intake import Index
from forecasters.launch import Waves

# A copy takes as long as half a step, and what was learnt since a third of its memory.
COPY_EVERY = 128
_HALF_CHANGED = -1


class Rewindable:
    """A combination's state, asked for by how many changes it has seen: the newest at once, the one before a failed change rebuilt."""

    def __init__(self, combination: Combination, state: CombinationState) -> None:
        self._combination = combination
        self._state, self._changes = state, 0
        self._copy, self._copied = deepcopy(state), 0
        self._since: list[tuple[Batch, Waves]] = []

    def at(self, changes: int) -> CombinationState:
        """Return the state that has seen so many changes; it must not be changed."""
        if self._changes != changes:
            self._rebuild(changes)
        return self._state

    def learn(self, changes: int, batch: Batch, waves: Waves) -> CombinationState:
        """Return the state with one more change, a batch. Where this raises, `at(changes)` is what it was."""
        state = self.at(changes)
        if len(self._since) >= COPY_EVERY:
            self._keep(changes)
        self._since.append((batch, waves))
        self._changes = _HALF_CHANGED
        self._state = self._combination.learn(state, batch, waves)
        self._changes = changes + 1
        return self._state

    def adopt(self, changes: int, fleet: Index, theta: Array) -> None:
        """Make one more change, a refit's tides. Where this raises, `at(changes)` is what it was."""
        state, self._changes = self.at(changes), _HALF_CHANGED
        self._state = self._combination.adopt(state, fleet, theta)
        self._keep(changes + 1)

    def _keep(self, changes: int) -> None:
        """Copy the state, which has seen so many changes."""
        self._copy, self._copied, self._changes = deepcopy(self._state), changes, changes
        self._since.clear()

    def _rebuild(self, changes: int) -> None:
        steps = changes - self._copied
        assert 0 <= steps <= len(self._since), "only what was there before the newest change can be had again"
        self._state, self._changes = deepcopy(self._copy), _HALF_CHANGED
        for batch, waves in self._since[:steps]:
            self._state = self._combination.learn(self._state, batch, waves)
        self._keep(changes)
