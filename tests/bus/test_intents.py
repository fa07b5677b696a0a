"""Purchase intents: numbered, compared and set, and ours when the answer was lost."""

import asyncio
import os
import signal
from dataclasses import replace

import pytest
from nats.aio.client import Client

from actuators.api import Intent, IntentConflict
from controlplane.bus.embedded import EmbeddedServer
from controlplane.bus.intents import KvIntentStore
from tests.bus.conftest import Eventually
from tests.bus.test_embedded import server_pid


async def test_the_newest_intent_comes_back_with_its_revision(client: Client) -> None:
    store = KvIntentStore(client)
    assert await store.latest("r1", "aws") is None
    opened = await store.put(Intent("r1", "aws", 1, 4, "open"))
    assert opened.revision > 0
    closed = await store.put(replace(opened, state="closed"))
    assert await KvIntentStore(client).latest("r1", "aws") == closed
    assert await store.latest("r1", "other") is None


async def test_of_two_writers_one_is_refused(client: Client) -> None:
    opened = await KvIntentStore(client).put(Intent("r1", "aws", 1, 4, "open"))
    results = await asyncio.gather(
        *(KvIntentStore(client).put(replace(opened, number=2, count=count)) for count in (5, 5)),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["Intent", "IntentConflict"]


async def test_the_first_intent_cannot_be_written_twice(client: Client) -> None:
    await KvIntentStore(client).put(Intent("r1", "aws", 1, 4, "open"))
    with pytest.raises(IntentConflict):
        await KvIntentStore(client).put(Intent("r1", "aws", 1, 4, "open"))


async def test_an_intent_outlives_kill_9_of_the_server(server: EmbeddedServer, client: Client, eventually: Eventually) -> None:
    opened = await KvIntentStore(client).put(Intent("r1", "aws", 1, 4, "open"))
    os.kill(server_pid(), signal.SIGKILL)
    await eventually(lambda: server.restarts == 1 and client.is_connected)
    assert await KvIntentStore(client).latest("r1", "aws") == opened
