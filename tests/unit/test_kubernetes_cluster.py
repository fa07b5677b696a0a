"""What a refusal leaves behind: nothing lasting. A server that has just restarted refuses for a moment what it grants."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from actuators.kubernetes.api_server import OPENED, PODS, Json, Resource
from actuators.kubernetes.cluster import Cluster
from actuators.kubernetes.errors import Busy, Forbidden, Gone, SignedOut
from actuators.kubernetes.mirror import Mirror
from actuators.kubernetes.pods import parse_pod
from controlplane.contracts.errors import SupplierError, SupplierUnavailable

BUDGETS = Resource("/apis/policy/v1", "poddisruptionbudgets", "PodDisruptionBudget")
META = {"namespace": "s", "name": "keep", "uid": "b1"}
BUDGET = {"metadata": META, "spec": {"selector": {}}, "status": {"disruptionsAllowed": 1}}


class Server:
    """An API server with one budget. `refusal` says what a question is refused with; watches stay silent, or break with it."""

    def __init__(self) -> None:
        self.refusal: Callable[[str], SupplierError | None] = lambda _: None
        self.asked: Counter[str] = Counter()

    async def resource(self, _version: str, _kind: str) -> Resource:
        return BUDGETS

    async def get(self, resource: Resource, namespace: str = "", **_: str) -> Json:
        self._ask(f"list {resource.plural} {namespace}".rstrip())
        items = [BUDGET] if resource == BUDGETS else []
        return {"metadata": {"resourceVersion": "5"}, "items": items}

    async def watch(self, resource: Resource, namespace: str, _since: str, _seconds: int) -> AsyncIterator[Json]:
        self._ask(f"watch {resource.plural} {namespace}".rstrip())
        yield {"type": OPENED}
        while self.refusal("watch") is None:
            await asyncio.sleep(0.01)

    async def close(self) -> None: ...

    def _ask(self, question: str) -> None:
        self.asked[question] += 1
        if (error := self.refusal(question)) is not None:
            raise error


@pytest.fixture
async def cluster_of() -> AsyncIterator[Callable[..., tuple[Cluster, Server]]]:
    made: list[Cluster] = []

    def make(**settings: Any) -> tuple[Cluster, Server]:
        made.append(Cluster(**settings))
        server: Any = Server()
        made[-1].server = server
        return made[-1], server

    yield make
    for cluster in made:
        await cluster.close()


type Make = Callable[..., tuple[Cluster, Server]]


async def kept(cluster: Cluster) -> list[str] | None:
    mirror = await cluster.budgets("s")
    return None if mirror is None else [budget.name for budget in mirror.find("s")]


async def test_budgets_that_were_refused_are_asked_for_again_and_respected(cluster_of: Make) -> None:
    cluster, server = cluster_of(denied_seconds=0.3)
    server.refusal = lambda _: Forbidden("not allowed to list budgets", 403)
    assert await kept(cluster) is None
    server.refusal = lambda _: None
    asked = server.asked.total()
    assert await kept(cluster) is None
    assert server.asked.total() == asked, "not at every look"
    await asyncio.sleep(0.35)
    assert await kept(cluster) == ["keep"]


async def test_budgets_that_are_refused_in_one_namespace_are_respected_in_another(cluster_of: Make) -> None:
    cluster, server = cluster_of()
    server.refusal = lambda question: None if question.endswith(" s") else Forbidden(f"not allowed to {question}", 403)
    assert await cluster.budgets("elsewhere") is None
    assert await kept(cluster) == ["keep"]
    assert await cluster.budgets("elsewhere") is None


async def test_not_being_signed_in_is_no_denial(cluster_of: Make) -> None:
    cluster, server = cluster_of()
    server.refusal = lambda _: SignedOut("not signed in")
    with pytest.raises(SignedOut):
        await cluster.budgets("s")
    server.refusal = lambda _: None

    async def seen() -> list[str] | None:
        for _ in range(200):
            try:
                return await kept(cluster)
            except SignedOut:
                await asyncio.sleep(0.01)
        return None

    assert await seen() == ["keep"]


async def test_a_kind_that_was_seen_by_namespace_only_is_seen_whole_again(cluster_of: Make) -> None:
    cluster, server = cluster_of(denied_seconds=0.3)
    server.refusal = lambda question: Forbidden("no", 403) if question == "list pods" else None
    await cluster.pods("s")
    assert not cluster.sees_all_pods()
    await asyncio.sleep(0.35)
    await cluster.pods("s")
    assert not cluster.sees_all_pods(), "refused again, it goes on as before"
    server.refusal = lambda _: None
    await cluster.pods("s")
    assert server.asked["list pods"] == 2
    await asyncio.sleep(0.35)
    await cluster.pods("s")
    assert cluster.sees_all_pods()


async def test_a_server_that_comes_back_with_a_refusal_is_not_taken_at_its_first_word(cluster_of: Make) -> None:
    cluster, server = cluster_of(blind_seconds=0.4)
    assert await kept(cluster) == ["keep"]
    server.refusal = lambda _: Busy("away")
    await until_broken(cluster)
    server.refusal = lambda _: Forbidden("the roles are not loaded yet", 403)
    mirror: Any = await error_of(cluster, Forbidden)
    assert isinstance(mirror, SupplierUnavailable), "it waits, and does not do without budgets"
    server.refusal = lambda _: None
    for _ in range(300):
        try:
            assert await kept(cluster) == ["keep"]
            break
        except SupplierUnavailable:
            await asyncio.sleep(0.01)
    assert await kept(cluster) == ["keep"]


async def until_broken(cluster: Cluster) -> None:
    """Ask until the outage is said, for a bounded time: a watch that is known to be broken tells nothing."""
    for _ in range(300):
        try:
            await kept(cluster)
        except Busy:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("what was there is told for ever")


async def error_of(cluster: Cluster, kind: type[SupplierError]) -> SupplierError | None:
    """Return what is raised when the watch has just met an error of this kind."""
    mirror = next(iter(cluster._mirrors.values()))
    for _ in range(300):
        if isinstance(mirror._error, kind):
            try:
                await kept(cluster)
            except SupplierError as error:
                return error
            return None
        await asyncio.sleep(0.005)
    return None


async def test_a_server_that_says_gone_to_everything_is_not_asked_in_a_busy_loop() -> None:
    server = Server()
    server.refusal = lambda _: Gone("too old")
    asked: Any = server
    mirror = Mirror(asked, PODS, parse_pod)
    mirror.start()
    await asyncio.sleep(1.0)
    await mirror.stop()
    assert 1 <= server.asked.total() <= 8
