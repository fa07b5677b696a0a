"""Every reason is put into words, the same ones on the operator's page, in the reports and on the dashboard."""

import re
from datetime import UTC, datetime
from pathlib import Path

from controlplane.contracts.events import Reason
from controlplane.contracts.frame import DecisionLine
from controlplane.contracts.reasons import REASON_WORDS
from controlplane.sim.report import reasons_table

PAGE = (Path(__file__).parents[2] / "docs" / "running.md").read_text()


def test_every_reason_has_its_words() -> None:
    assert set(REASON_WORDS) == set(Reason)
    assert len(set(REASON_WORDS.values())) == len(Reason)


def test_the_operators_page_says_them_in_the_same_words() -> None:
    told = dict(re.findall(r"^\| `([A-Z_]+)` \| (.*) \|$", PAGE, flags=re.MULTILINE))
    assert told == {reason.value: words for reason, words in REASON_WORDS.items()}


def test_a_report_explains_the_reasons_that_it_shows_and_no_others() -> None:
    line = DecisionLine(
        fleet="r1", time=datetime(2026, 11, 22, tzinfo=UTC), targets={}, spill_per_second=0.0, reasons=("STALE_HOLD", "BACKLOG")
    )
    assert reasons_table([line, line]).rows == (
        ("BACKLOG", REASON_WORDS[Reason.BACKLOG]),
        ("STALE_HOLD", REASON_WORDS[Reason.STALE_HOLD]),
    )
