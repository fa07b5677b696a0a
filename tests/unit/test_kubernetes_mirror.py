"""The list-and-watch protocol against a scripted server: pages, bookmarks, going on, listing anew, and who is woken by what."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from actuators.kubernetes.api_server import PODS, Json
from actuators.kubernetes.errors import Busy, Forbidden, Gone
from actuators.kubernetes.mirror import Mirror
from controlplane.contracts.errors import SupplierError


@dataclass(frozen=True)
class Thing:
    uid: str
    keys: frozenset[str]
    size: int


def parse(raw: Json) -> Thing:
    return Thing(raw["metadata"]["uid"], frozenset(raw["keys"]), raw["size"])


def thing(uid: str, version: int, *keys: str, size: int = 1) -> Json:
    return {"metadata": {"uid": uid, "resourceVersion": str(version)}, "keys": keys or ("all",), "size": size}


def page(version: int, *items: Json, more: str = "") -> Json:
    return {"metadata": {"resourceVersion": str(version), "continue": more}, "items": list(items)}


def event(kind: str, what: Json) -> Json:
    return {"type": kind, "object": what}


@dataclass
class ScriptedServer:
    """Answers lists and watches in turn; a list of events ends a watch, an error breaks it, and after the script it stays silent."""

    lists: list[Json | Exception]
    watches: list[list[Json | Exception]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    async def get(self, _resource: object, _namespace: str, **query: str) -> Json:
        self.asked.append(f"list {query.get('continue', '')}".strip())
        answer = self.lists.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def watch(self, _resource: object, _namespace: str, since: str, _seconds: int) -> AsyncIterator[Json]:
        self.asked.append(f"watch {since}")
        if not self.watches:
            await asyncio.Event().wait()
        for each in self.watches.pop(0):
            if isinstance(each, Exception):
                raise each
            yield each


class Watched:
    """A mirror of a scripted server."""

    def __init__(self, *lists: Json | Exception, watches: list[list[Json | Exception]] | None = None) -> None:
        self.server = ScriptedServer(list(lists), watches or [])
        server: Any = self.server
        self.mirror: Mirror[Thing] = Mirror(server, PODS, parse)

    async def __aenter__(self) -> "Watched":
        self.mirror.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.mirror.stop()

    async def asked(self, count: int) -> list[str]:
        """Wait, for a bounded time, until so many requests were made; return them."""
        for _ in range(500):
            if len(self.server.asked) >= count:
                break
            await asyncio.sleep(0.01)
        return self.server.asked

    def sizes(self, key: str = "all") -> dict[str, int]:
        return {each.uid: each.size for each in self.mirror.find(key)}


async def test_a_list_is_read_page_by_page_and_watched_from_where_it_ended() -> None:
    async with Watched(page(5, thing("a", 3), more="p2"), page(5, thing("b", 4))) as watched:
        await watched.mirror.ready()
        assert watched.sizes() == {"a": 1, "b": 1}
        assert await watched.asked(3) == ["list", "list p2", "watch 5"]


async def test_events_change_what_is_kept() -> None:
    events = [event("ADDED", thing("b", 6)), event("MODIFIED", thing("a", 7, size=9)), event("DELETED", thing("b", 8))]
    async with Watched(page(5, thing("a", 3)), watches=[events]) as watched:
        assert (await watched.asked(3))[1:] == ["watch 5", "watch 8"], "one that ended goes on where it was"
        assert watched.sizes() == {"a": 9}
        assert watched.mirror.changes == 4


async def test_an_answer_about_what_was_deleted_meanwhile_brings_nothing_back() -> None:
    async with Watched(page(5, thing("a", 3)), watches=[[event("DELETED", thing("a", 6))]]) as watched:
        await watched.asked(3)
        watched.mirror.keep(thing("a", 3))
        watched.mirror.keep(thing("b", 7))
        assert watched.sizes() == {"b": 1}


async def test_a_bookmark_moves_on_without_a_change() -> None:
    bookmark = event("BOOKMARK", {"metadata": {"resourceVersion": "90"}})
    async with Watched(page(5, thing("a", 3)), watches=[[bookmark, Busy("cut")]]) as watched:
        assert (await watched.asked(3))[1:] == ["watch 5", "watch 90"]
        assert watched.mirror.changes == 1


async def test_what_went_unseen_is_gone_after_a_new_list() -> None:
    lists = (page(5, thing("a", 3), thing("b", 4)), page(70, thing("b", 66, size=2)))
    async with Watched(*lists, watches=[[Gone("too old")]]) as watched:
        assert await watched.asked(4) == ["list", "watch 5", "list", "watch 70"]
        assert watched.sizes() == {"b": 2}


async def test_pages_that_expired_are_begun_anew() -> None:
    async with Watched(page(5, thing("a", 3), more="p2"), Gone("expired"), page(9, thing("c", 8))) as watched:
        await watched.mirror.ready()
        assert watched.sizes() == {"c": 1}


@pytest.mark.parametrize(("error", "retryable"), [(Forbidden("not allowed to list pods", 403), False), (Busy("away"), True)])
async def test_what_stands_in_the_way_of_the_first_list_is_raised_at_once(error: SupplierError, retryable: bool) -> None:
    async with Watched(error, page(5)) as watched:
        with pytest.raises(SupplierError) as raised:
            await watched.mirror.ready()
        assert raised.value.retryable is retryable


async def test_an_object_that_cannot_be_read_does_not_end_the_watch() -> None:
    broken = event("ADDED", {"metadata": {"uid": "x", "resourceVersion": "6"}})
    async with Watched(page(5, thing("a", 3)), page(7, thing("a", 3, size=4)), watches=[[broken]]) as watched:
        assert await watched.asked(4) == ["list", "watch 5", "list", "watch 7"]
        assert watched.sizes() == {"a": 4}


async def test_watches_that_end_at_once_are_not_asked_for_in_a_busy_loop() -> None:
    silent: list[list[Json | Exception]] = [[] for _ in range(100)]
    async with Watched(page(5, thing("a", 3)), watches=silent) as watched:
        await asyncio.sleep(1.0)
        assert 2 <= len(watched.server.asked) <= 8
        assert watched.sizes() == {"a": 1}


def unreadable(version: int) -> Json:
    return {**thing("odd", version), "size": None, "keys": None}


async def test_one_object_that_cannot_be_read_hides_no_other() -> None:
    events = [event("MODIFIED", unreadable(6)), event("ADDED", thing("b", 7)), event("MODIFIED", thing("odd", 8))]
    watches = [events, [event("MODIFIED", unreadable(9)), event("DELETED", unreadable(10)), event("ADDED", thing("c", 11))]]
    lists = (page(5, thing("a", 3), unreadable(4)), page(9, thing("a", 3), thing("b", 7), unreadable(9)))
    async with Watched(*lists, watches=watches) as watched:
        await watched.mirror.ready()
        assert (await watched.asked(2))[:2] == ["list", "watch 5"]
        assert await watched.asked(5) == ["list", "watch 5", "watch 8", "list", "watch 9"], "listed when it is first met, and not each time"
        assert watched.sizes() == {"a": 1, "b": 1}, "what it was before is not told of any more"


async def test_only_those_are_woken_whose_key_it_is() -> None:
    woken: list[str] = []

    def waking(name: str) -> Callable[[], None]:
        return lambda: woken.append(name)

    lists = page(5, thing("a", 3, "red"), thing("b", 4, "blue"))
    moved = event("MODIFIED", thing("a", 6, "green"))
    same = event("MODIFIED", thing("b", 7, "blue"))
    watched = Watched(lists, watches=[[moved, same]])
    wakes = {name: waking(name) for name in ("red", "green", "blue")}
    for name, wake in wakes.items():
        watched.mirror.listen(name, wake)
    async with watched:
        await watched.asked(3)
        assert woken == ["red", "blue", "red", "green"], "listed; it left one and came to the other; what is as before is no news"
        assert (watched.sizes("red"), watched.sizes("green")) == ({}, {"a": 1})
        for wake in wakes.values():
            watched.mirror.ignore(wake)
        watched.mirror.keep(thing("b", 9, "blue", size=5))
        assert len(woken) == 4


async def test_what_the_server_forgets_is_remembered_of_what_was_kept_before() -> None:
    events = [event("MODIFIED", thing("a", 6, size=2)), event("MODIFIED", thing("a", 7, size=5))]
    watched = Watched(page(5, thing("a", 3, size=4)), watches=[events])
    server: Any = watched.server
    watched.mirror = Mirror(server, PODS, parse, remember=lambda old, new: replace(new, size=max(old.size, new.size)))
    async with watched:
        await watched.asked(3)
        assert watched.sizes() == {"a": 5}
        assert watched.mirror.changes == 2, "what comes to the same is no news"
