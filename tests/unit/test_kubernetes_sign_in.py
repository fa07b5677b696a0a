"""One connection that many use: credentials that run out under way, and what is slow for one that must not be so for the others."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from actuators.kubernetes.api_server import OPENED, PODS, ApiServer
from actuators.kubernetes.errors import Busy, SignedOut


class Door:
    """A server that takes the token `good` alone once it is `strict`; namespace `slow` waits until it is let go, `busy` is refused."""

    def __init__(self) -> None:
        self.is_strict, self.refused = False, 0
        self.go, self.arrived = asyncio.Event(), asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.is_strict and request.headers.get("Authorization") != "Bearer good":
            return web.json_response({"message": "Unauthorized"}, status=401)
        if "busy" in request.path:
            self.refused += 1
            return web.json_response({"message": "later"}, status=429, headers={"Retry-After": "0"})
        if request.path == "/apis/apps/v1":
            return web.json_response({"resources": [{"name": "deployments", "kind": "Deployment", "namespaced": True}]})
        if "watch" in request.query:
            response = web.StreamResponse()
            await response.prepare(request)
            await self.go.wait()
            await response.write(json.dumps({"type": "BOOKMARK", "object": {}}).encode() + b"\n")
            return response
        if "slow" in request.path:
            self.arrived.set()
            await self.go.wait()
        return web.json_response({"items": []})


@pytest.fixture
async def door() -> AsyncIterator[tuple[Door, str]]:
    door, app = Door(), web.Application()
    app.router.add_route("*", "/{path:.*}", door.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield door, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def signed_with(path: Path, url: str, token: str) -> Path:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "users": [{"name": "me", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "me"}}],
    }
    path.write_text(json.dumps(document))
    return path


async def test_a_refused_sign_in_breaks_nothing_that_is_under_way(door: tuple[Door, str], tmp_path: Path) -> None:
    server, url = door
    config = signed_with(tmp_path / "config", url, "old")
    api = ApiServer(kubeconfig=config, patience_seconds=0.0)
    try:
        slow = asyncio.ensure_future(api.get(PODS, "slow"))
        events = api.watch(PODS, "s", "5", 60)
        assert await anext(events) == {"type": OPENED}
        await server.arrived.wait()
        server.is_strict = True
        with pytest.raises(SignedOut):
            await api.get(PODS, "other")
        signed_with(config, url, "good")
        assert await api.get(PODS, "other") == {"items": []}, "the next request reads the new token"
        server.go.set()
        assert await slow == {"items": []}
        assert (await anext(events))["type"] == "BOOKMARK"
        assert [event async for event in events] == []
    finally:
        server.go.set()
        await api.close()


async def test_a_group_whose_discovery_hangs_keeps_nobody_from_the_others(door: tuple[Door, str], tmp_path: Path) -> None:
    server, url = door
    api = ApiServer(kubeconfig=signed_with(tmp_path / "config", url, "good"))
    hanging = asyncio.ensure_future(api.resource("slow.example.dev/v1", "Server"))
    try:
        await server.arrived.wait()
        async with asyncio.timeout(2.0):
            found = [await api.resource("apps/v1", "Deployment") for _ in range(2)]
        assert {each.plural for each in found} == {"deployments"}
        assert api.calls["discover", "apps/v1"] == 1, "what is known is not asked for again"
    finally:
        hanging.cancel()
        server.go.set()
        await asyncio.gather(hanging, return_exceptions=True)
        await api.close()


async def test_a_server_that_asks_for_no_patience_is_not_asked_in_a_busy_loop(door: tuple[Door, str], tmp_path: Path) -> None:
    server, url = door
    api = ApiServer(kubeconfig=signed_with(tmp_path / "config", url, "good"), patience_seconds=1.0)
    try:
        with pytest.raises(Busy):
            await api.get(PODS, "busy")
        assert 2 <= server.refused <= 8
    finally:
        await api.close()


async def test_however_many_watches_there_are_a_question_finds_a_connection(door: tuple[Door, str], tmp_path: Path) -> None:
    server, url = door
    api = ApiServer(kubeconfig=signed_with(tmp_path / "config", url, "good"), patience_seconds=0.0, timeout_seconds=2.0)
    watches = [api.watch(PODS, f"namespace-{number}", "5", 60) for number in range(120)]
    try:
        assert {(await anext(watch))["type"] for watch in watches} == {OPENED}, "a cluster that is seen by namespace only has many"
        assert await api.get(PODS, "s") == {"items": []}
    finally:
        server.go.set()
        for watch in watches:
            await watch.aclose()
        await api.close()


async def test_a_watch_that_is_not_signed_in_signs_in_anew(door: tuple[Door, str], tmp_path: Path) -> None:
    server, url = door
    server.is_strict = True
    config = signed_with(tmp_path / "config", url, "old")
    api = ApiServer(kubeconfig=config, patience_seconds=0.0)
    try:
        with pytest.raises(SignedOut):
            await anext(api.watch(PODS, "s", "5", 60))
        signed_with(config, url, "good")
        assert await anext(api.watch(PODS, "s", "5", 60)) == {"type": OPENED}
    finally:
        server.go.set()
        await api.close()
