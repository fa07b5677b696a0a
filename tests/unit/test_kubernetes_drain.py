"""Marks on pods that are to go: written once, kept while they go, and taken back when nobody goes after all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from actuators.kubernetes.api_server import PODS, Json
from actuators.kubernetes.drain import Drain
from actuators.kubernetes.errors import Busy, Forbidden
from actuators.kubernetes.mirror import Mirror
from actuators.kubernetes.options import Target
from actuators.kubernetes.pods import DELETION_COST, DRAINING_SINCE, Pod, PodState, parse_pod
from actuators.kubernetes.shrink import CHEAPEST, leaving

NOW = 1_700_000_000.0
TARGET = Target("apps/v1", "Deployment", "s", "r1", "yield", False, None, drain_grace_seconds=60.0)
IDLE = Pod("u", "s", "p", {}, PodState.READY, "", 0.0, node="n", owner_kind="ReplicaSet")


class Annotations:
    """An API server that takes annotations down and says how often it was asked."""

    def __init__(self) -> None:
        self.notes: dict[str, dict[str, str | None]] = {}
        self.error: Exception | None = None
        self.asked = 0

    async def patch(self, _resource: object, target: tuple[str, str, str], body: Json, *_: object) -> Json:
        self.asked += 1
        if self.error is not None:
            raise self.error
        self.notes.setdefault(target[1], {}).update(body["metadata"]["annotations"])
        return {}


def drain_of(server: Annotations, clock: Callable[[], float] = lambda: NOW) -> Drain:
    asked: Any = server
    return Drain(asked, clock)


def seen(pods: Sequence[Pod], notes: Mapping[str, Mapping[str, str | None]]) -> list[Pod]:
    """Return the pods as the watch tells of them once the notes are written."""
    after = []
    for pod in pods:
        mine = notes.get(pod.name, {})
        cost, since = mine.get(DELETION_COST), mine.get(DRAINING_SINCE)
        after.append(replace(pod, deletion_cost=int(cost) if cost else None, draining_since_unix=float(since) if since else None))
    return after


def busy(name: str, in_flight: float) -> Pod:
    return replace(IDLE, uid=name, name=name, in_flight=in_flight)


async def test_under_load_the_victim_stays_the_same_and_is_marked_once() -> None:
    server = Annotations()
    drain, pods = drain_of(server), [busy("a", 1.0), busy("b", 2.0), busy("c", 3.0)]
    for loads in ((1.0, 2.0, 3.0), (9.0, 2.0, 1.0), (5.0, 1.0, 6.0)):
        pods = [replace(pod, in_flight=load) for pod, load in zip(pods, loads, strict=True)]
        assert (await drain.begin(leaving(pods, 1, {}), pods, TARGET)).startswith("draining: ")
        pods = seen(pods, server.notes)
    assert server.notes == {"a": {DELETION_COST: str(CHEAPEST), DRAINING_SINCE: f"{NOW:.0f}"}}
    assert server.asked == 1


async def test_a_grace_that_began_within_a_second_does_not_end_before_it_is_over() -> None:
    server, now = Annotations(), [NOW + 0.4]
    drain, pods = drain_of(server, lambda: now[0]), [busy("a", 1.0)]
    await drain.begin(leaving(pods, 1, {}), pods, TARGET)
    pods, now[0] = seen(pods, server.notes), NOW + 0.3 + TARGET.drain_grace_seconds
    assert await drain_of(server, lambda: now[0]).begin(leaving(pods, 1, {}), pods, TARGET) != "", "after a restart there is the mark alone"
    now[0] += 0.8
    assert await drain.begin(leaving(pods, 1, {}), pods, TARGET) == ""


async def test_without_the_right_to_mark_pods_the_victim_stays_and_its_grace_ends_all_the_same() -> None:
    server = Annotations()
    server.error = Forbidden("not allowed to patch pods", 403)
    now = [NOW]
    drain = drain_of(server, lambda: now[0])
    pods, said = [busy("a", 1.0), busy("b", 2.0)], []
    for now[0], loads in ((NOW, (1.0, 2.0)), (NOW + 30.0, (9.0, 1.0)), (NOW + 61.0, (9.0, 1.0))):
        seen_now = drain.recalled([replace(pod, in_flight=load) for pod, load in zip(pods, loads, strict=True)])
        going = leaving(seen_now, 1, {})
        assert [pod.name for pod in going.pods] == ["a"]
        said.append(await drain.begin(going, seen_now, TARGET))
    assert [bool(each) for each in said] == [True, True, False]


async def test_a_drain_that_is_called_off_begins_anew_with_its_whole_grace() -> None:
    server = Annotations()
    drain, pods = drain_of(server), [replace(busy("a", 1.0), deletion_cost=CHEAPEST, draining_since_unix=NOW - 50.0), busy("b", 2.0)]
    await drain.call_off(pods, TARGET)
    assert server.notes == {"a": {DELETION_COST: None, DRAINING_SINCE: None}}
    pods = seen(pods, server.notes)
    assert (await drain.begin(leaving(pods, 1, {}), pods, TARGET)).endswith("for 60 s at most")


async def test_when_fewer_go_than_before_the_others_are_no_longer_marked() -> None:
    server = Annotations()
    pods = [replace(busy(name, 1.0), deletion_cost=CHEAPEST, draining_since_unix=NOW - 5.0) for name in ("a", "b")]
    await drain_of(server).begin(leaving(pods, 1, {}), pods, TARGET)
    assert server.notes == {"b": {DELETION_COST: None, DRAINING_SINCE: None}}


async def test_what_a_person_set_stays_and_what_goes_already_is_left_alone() -> None:
    server = Annotations()
    going = replace(IDLE, name="gone", state=PodState.DRAINING, deletion_cost=CHEAPEST, draining_since_unix=NOW)
    await drain_of(server).call_off([replace(IDLE, deletion_cost=100), going], TARGET)
    assert server.asked == 0


async def test_a_grace_is_never_longer_than_it_is_though_the_clock_went_back() -> None:
    server, now = Annotations(), [NOW]
    pods = [replace(busy("a", 1.0), draining_since_unix=NOW + 3600.0)]
    drain = drain_of(server, lambda: now[0])
    assert (await drain.begin(leaving(pods, 1, {}), pods, TARGET)).endswith("for 60 s at most")
    assert server.notes == {"a": {DELETION_COST: str(CHEAPEST), DRAINING_SINCE: f"{NOW:.0f}"}}, "it began when it was first seen so"
    pods, now[0] = seen(pods, server.notes), NOW + 61.0
    assert await drain.begin(leaving(pods, 1, {}), pods, TARGET) == ""


async def test_marks_that_cannot_be_taken_back_now_stop_nothing() -> None:
    server = Annotations()
    server.error = Busy("away")
    await drain_of(server).call_off([replace(IDLE, draining_since_unix=NOW)], TARGET)
    assert server.asked == 1


@pytest.mark.parametrize(
    ("notes", "is_news"), [({DRAINING_SINCE: "5", DELETION_COST: str(CHEAPEST)}, False), ({"tidegate.dev/in-flight-requests": "5"}, True)]
)
def test_our_own_marks_are_kept_and_wake_nobody(notes: Mapping[str, str], is_news: bool) -> None:
    server: Any = Annotations()
    mirror: Mirror[Pod] = Mirror(server, PODS, parse_pod)
    raw = {"metadata": {"uid": "u", "name": "p", "namespace": "s", "creationTimestamp": "2026-11-22T10:00:00Z"}, "spec": {}}
    mirror.keep(raw)
    woken: list[str] = []
    mirror.listen("s", lambda: woken.append("woken"))
    mirror.keep({**raw, "metadata": {**raw["metadata"], "annotations": notes}})
    assert bool(woken) is is_news
    kept = next(iter(mirror.find("s")))
    assert (kept.draining_since_unix is None) is is_news
    assert kept is next(iter(mirror.all()))
