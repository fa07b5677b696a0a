"""Events that tell kubectl what was done: a courtesy, for which nothing that was done waits long, and which one refusal does not end."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from actuators.kubernetes.api_server import Json, Resource
from actuators.kubernetes.errors import Forbidden, NotFound
from actuators.kubernetes.notices import Notices
from actuators.kubernetes.options import Target
from actuators.kubernetes.workloads import Workload
from controlplane.contracts.errors import SupplierError

TARGET = Target("apps/v1", "Deployment", "s", "r1", "yield", False, None, drain_grace_seconds=0.0)
DEPLOYMENTS = Resource("/apis/apps/v1", "deployments", "Deployment")
WORKLOAD = Workload("w1", "s", "r1", "7", 3)


class Server:
    """An API server that keeps Events, refuses them, or never answers."""

    def __init__(self, error: SupplierError | None = None, *, is_hung: bool = False) -> None:
        self.error, self.is_hung = error, is_hung
        self.asked: list[Json] = []

    async def create(self, _resource: Resource, _namespace: str, body: Json) -> Json:
        self.asked.append(body)
        if self.is_hung:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return body


async def say(server: Server, times: int, target: Target = TARGET) -> None:
    asked: Any = server
    notices = Notices(asked, lambda: 1_700_000_000.0, wait_seconds=0.05)
    async with asyncio.timeout(5.0):
        for _ in range(times):
            await notices.say(DEPLOYMENTS, target, WORKLOAD, "Scaled", "scaled from 1 to 2")


async def test_an_event_names_the_object_and_what_was_done() -> None:
    server = Server()
    await say(server, 1)
    (event,) = server.asked
    assert event["message"] == "scaled from 1 to 2"
    assert (event["involvedObject"]["uid"], event["firstTimestamp"]) == ("w1", "2023-11-14T22:13:20Z")


async def test_nothing_waits_long_for_being_said() -> None:
    server = Server(is_hung=True)
    await say(server, 2)
    assert len(server.asked) == 2


@pytest.mark.parametrize(("error", "asked"), [(Forbidden("not allowed", 403), 1), (NotFound("the namespace goes", 404), 3)])
async def test_without_the_right_nothing_more_is_said_and_after_any_other_refusal_it_is(error: SupplierError, asked: int) -> None:
    server = Server(error)
    await say(server, 3)
    assert len(server.asked) == asked


async def test_the_longest_name_makes_no_event_that_is_too_long() -> None:
    server = Server()
    await say(server, 1, replace(TARGET, name="r" * 253))
    assert len(server.asked[0]["metadata"]["name"]) == 253
