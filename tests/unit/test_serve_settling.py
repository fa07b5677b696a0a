"""What stays for good is kept out of garbage collection, once history is folded and not before."""

import gc

from controlplane.serve import settle
from controlplane.services.roster import Roster


class CatchingUp(Roster):
    """Folds history for so many questions; `frozen` is what was out of collection at each of them."""

    def __init__(self, questions: int) -> None:
        super().__init__()
        self.left, self.frozen = questions, []

    def catching_up(self) -> tuple[str, ...]:
        self.frozen.append(gc.get_freeze_count())
        self.left -= 1
        return ("planner of r1 folds history",) if self.left >= 0 else ()


async def test_collection_forgets_what_stays_only_once_history_is_folded() -> None:
    roster, before = CatchingUp(2), gc.get_freeze_count()
    try:
        await settle(roster, seconds=0.0)
        assert roster.frozen == [before] * 3
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()
