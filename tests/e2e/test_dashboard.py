"""The dashboard in a real browser: its script runs, draws, and says in words why the newest decision was taken."""

import asyncio
import re
import shutil
from html import unescape
from pathlib import Path

import pytest

from controlplane.app import Plane, Settings, running
from controlplane.config import load_fleets
from controlplane.contracts.events import Reason
from controlplane.contracts.reasons import REASON_WORDS
from controlplane.web.settings import WebSettings
from tests.e2e.programs import PATIENCE_SECONDS
from tests.e2e.test_alertmanager import POLICY


async def shown_by_a_browser(plane: Plane, folder: Path) -> str:
    """Return the text of the page as it stands five seconds (of the browser's own, virtual time) after it was opened."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or ""
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}", "--virtual-time-budget=5000", "--dump-dom"]
    process = await asyncio.create_subprocess_exec(
        browser, *options, plane.web_url or "", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        page, _ = await process.communicate()
    return unescape(re.sub(r"<[^>]*>", " ", page.decode()))


@pytest.mark.needs("chromium")
async def test_the_page_says_why_the_newest_decision_was_taken(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    settings = Settings(load_fleets([tmp_path / "policy.yaml"]), tmp_path / "run", web=WebSettings(port=0), cloud_seconds=300.0)
    async with running(settings) as plane:
        for attempt in range(5):
            text = await shown_by_a_browser(plane, tmp_path / f"browser-{attempt}")
            if "newest decision 2" in text:
                break
    assert "newest decision 2" in text
    assert "nothing observed yet" in text
    assert "test/model" in text
    assert Reason.NO_DATA_YET in text
    assert REASON_WORDS[Reason.NO_DATA_YET] in text.partition("stage by stage")[2]
