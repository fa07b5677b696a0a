"""How the buyers of the kill tests end: with SIGKILL, at the step that they are told.

The steps around the two writes of a purchase are the same for every supplier; what is around its own API each buyer adds.
"""

import os
import signal
from pathlib import Path

from actuators.api import Intent
from tests.fakes import FileIntentStore


def die_at(step: str, label: str) -> None:
    """Kill this process where it is the step."""
    if step == label:
        os.kill(os.getpid(), signal.SIGKILL)


class DyingStore(FileIntentStore):
    """Dies around its first write (the intent) or its second (the answer)."""

    def __init__(self, folder: Path, step: str) -> None:
        super().__init__(folder)
        self._step, self._writes = step, 0

    async def put(self, intent: Intent) -> Intent:
        self._writes += 1
        die_at(self._step, "before-intent" if self._writes == 1 else "before-record")
        written = await super().put(intent)
        die_at(self._step, "after-intent" if self._writes == 1 else "after-record")
        return written
