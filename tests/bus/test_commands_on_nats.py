"""Commands that speak to NATS themselves: with the credentials that the environment names, and in words where nothing of ours is there."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from controlplane.bus.embedded import EmbeddedServer
from controlplane.commands.ask import Where, announce
from controlplane.commands.suppliers import sweep
from controlplane.contracts.errors import BusError
from controlplane.serve import follow_events

LAUNCH = {"fleet": "r1", "name": "v4", "starts": "2036-11-23T17:00:00Z"}
Command = Callable[[str], Awaitable[object]]


async def events(url: str) -> None:
    await follow_events(url, "tidegate.decision.*", as_json=False)


async def launch(url: str) -> None:
    await asyncio.to_thread(announce, Where(nats=url), LAUNCH)


async def swept(url: str) -> None:
    await sweep([Path("policies/library/small.yaml")], end=False, nats_url=url)


@pytest.mark.parametrize("command", [events, launch, swept])
async def test_a_command_proves_itself_as_the_services_do(
    server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.setenv("TIDEGATE_NATS_CREDENTIALS", str(tmp_path / "nobody.creds"))
    with pytest.raises(BusError, match=r"nobody\.creds .* is not there"):
        await command(server.url)


async def test_events_of_a_server_that_no_tidegate_used_are_missed_in_words(server: EmbeddedServer) -> None:
    with pytest.raises(BusError, match=r"no stream TIDEGATE_OUTPUTS .* has a tidegate run on this NATS\?"):
        await events(server.url)
