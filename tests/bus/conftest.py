"""A real NATS server per test, in a folder of its own, and bounded waiting."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from nats.aio.client import Client

from controlplane.bus.connect import connect
from controlplane.bus.embedded import EmbeddedServer
from controlplane.bus.streams import ensure_streams

Eventually = Callable[[Callable[[], object]], Awaitable[None]]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    """A running server."""
    async with EmbeddedServer(tmp_path / "nats") as running:
        yield running


@pytest.fixture
async def client(server: EmbeddedServer) -> AsyncIterator[Client]:
    """A client of it, with all streams there."""
    connected = await connect(server.url)
    await ensure_streams(connected.jetstream())
    yield connected
    await connected.close()


@pytest.fixture
def eventually() -> Eventually:
    """Wait, for at most 30 s, until something holds."""

    async def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 30.0
        while not condition():
            assert time.monotonic() < deadline, "waited for 30 s"
            await asyncio.sleep(0.02)

    return wait
