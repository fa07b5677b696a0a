"""What nodes have room for and what disruption budgets let go, counted without a cluster."""

from collections.abc import Mapping
from typing import Any

import pytest

from actuators.kubernetes.disruption import Asked, allowed, parse_budget
from actuators.kubernetes.nodes import holder_of, inventory, parse_node, takes
from actuators.kubernetes.pods import Pod, PodState, parse_pod
from actuators.kubernetes.selectors import parse_selector

CREATED = "2026-11-22T10:00:00Z"


def raw_node(name: str = "n1", gpus: str = "8", ready: str = "True", **spec: object) -> dict[str, Any]:
    status = {"allocatable": {"nvidia.com/gpu": gpus}, "conditions": [{"type": "Ready", "status": ready}]}
    return {"metadata": {"uid": name, "name": name, "labels": {"pool": "a"}}, "spec": spec, "status": status}


def taint(key: str, value: str = "", effect: str = "NoSchedule") -> dict[str, str]:
    return {"key": key, "value": value, "effect": effect}


@pytest.mark.parametrize(
    ("raw", "labels", "tolerations", "is_taken"),
    [
        (raw_node(), {"pool": "a"}, [], True),
        (raw_node(), {"pool": "b"}, [], False),
        (raw_node(gpus="0"), None, [], False),
        (raw_node(ready="Unknown"), None, [], False),
        (raw_node(unschedulable=True), None, [], False),
        (raw_node(taints=[taint("nvidia.com/gpu", "present")]), None, [], True),
        (raw_node(taints=[taint("team", "b")]), None, [], False),
        (raw_node(taints=[taint("team", "b")]), None, [{"key": "team", "operator": "Equal", "value": "b"}], True),
        (raw_node(taints=[taint("team", "b")]), None, [{"key": "team", "value": "c"}], False),
        (raw_node(taints=[taint("team", "b", "NoExecute")]), None, [{"operator": "Exists"}], True),
        (raw_node(taints=[taint("team", "b")]), None, [{"key": "team", "operator": "Exists", "effect": "NoSchedule"}], True),
        (raw_node(taints=[taint("team", "b")]), None, [{"key": "team", "operator": "Exists", "effect": "NoExecute"}], False),
        (raw_node(taints=[taint("team", "b", "PreferNoSchedule")]), None, [], True),
    ],
)
def test_which_nodes_take_a_replica(
    raw: Mapping[str, Any], labels: Mapping[str, str] | None, tolerations: list[Mapping[str, Any]], is_taken: bool
) -> None:
    assert takes(parse_node(raw), labels, tolerations) is is_taken


def holding(name: str, node: str, gpus: int, state: PodState = PodState.READY, **more: Any) -> Pod:
    return Pod(name, "serving", name, {}, state, "", 0.0, node=node, gpus=gpus, **more)


def test_room_is_counted_node_by_node_beside_everything_that_is_placed() -> None:
    nodes = [parse_node(raw_node(name)) for name in ("a", "b", "c")]
    pods = {
        "a": [holding("x", "a", 4, owner="job")],
        "b": [holding("y", "b", 8, PodState.DRAINING), holding("z", "b", 8, PodState.FINISHED)],
    }
    pool = inventory(nodes, pods, 4)
    assert (pool.nodes, pool.gpus, pool.free_gpus, pool.room) == (3, 24, 12, 3)
    assert str(pool) == "3 nodes, 24 GPUs, 12 free; held by serving/y 8, serving/job 4"
    assert inventory(nodes, {"a": [holding("x", "a", 5)], "b": [holding("y", "b", 5)]}, 4).room == 2, (
        "three free here and there fit nothing"
    )
    assert inventory(nodes, pods, 8, pods_per_replica=2).room == 0, "one whole node is half of what spans two"
    assert inventory(nodes, {}, 8, pods_per_replica=2).room == 1


def unplaced(gpus: str, pool: str, **meta: object) -> Pod:
    container = {"resources": {"limits": {"nvidia.com/gpu": gpus}}}
    known = {"uid": "u1", "name": "p1", "namespace": "serving", "creationTimestamp": CREATED, **meta}
    return parse_pod({"metadata": known, "spec": {"nodeSelector": {"pool": pool}, "containers": [container]}})


def test_what_has_no_node_yet_takes_its_place_in_the_pool_that_it_may_go_to() -> None:
    nodes = [parse_node(raw_node(name)) for name in ("a", "b")]
    others = [unplaced("4", "b"), unplaced("4", "a", deletionTimestamp=CREATED)]
    pool = inventory(nodes, {}, 4, unplaced=[unplaced("4", "a"), unplaced("4", "a"), *others])
    assert (pool.room, pool.waiting) == (2, 2), "those of another pool, and on their way out do not count"
    assert str(pool) == "2 nodes, 16 GPUs, 16 free, 2 wait for a place"
    assert inventory(nodes, {}, 4, pods_per_replica=2, unplaced=[unplaced("4", "a")]).room == 1
    assert inventory(nodes, {}, 4, unplaced=[unplaced("4", "a")] * 9).room == 0


@pytest.mark.parametrize(
    ("sizes", "ours", "room"),
    [
        (["8"], 4, 2),
        (["8", "8"], 4, 0),
        (["2"], 8, 1),
        (["2", "2", "2"], 4, 2),
        (["2", "2"], 8, 1),
        (["2"] * 5, 8, 0),
        (["16"], 4, 4),
    ],
)
def test_what_waits_takes_its_place_whatever_its_size(sizes: list[str], ours: int, room: int) -> None:
    nodes = [parse_node(raw_node(name)) for name in ("a", "b")]
    pool = inventory(nodes, {}, ours, unplaced=[unplaced(size, "a") for size in sizes])
    assert (pool.room, pool.waiting) == (room, len(sizes))


def test_what_waits_for_one_node_takes_no_place_on_another() -> None:
    nodes = [parse_node(raw_node("full")), parse_node({**raw_node("open"), "metadata": {"uid": "o", "name": "open", "labels": {}}})]
    pool = inventory(nodes, {"full": [holding("x", "full", 8)]}, 4, unplaced=[unplaced("4", "a")] * 3)
    assert (pool.room, pool.waiting) == (2, 3)


def test_a_deployments_pods_are_held_by_the_deployment() -> None:
    labels = {"pod-template-hash": "5f4"}
    assert holder_of(Pod("u", "s", "r1-5f4-x", labels, PodState.READY, "", 0.0, owner="r1-5f4", owner_kind="ReplicaSet")) == "r1"
    assert holder_of(Pod("u", "s", "lonely", {}, PodState.READY, "", 0.0)) == "lonely"


def test_the_tightest_disruption_budget_counts() -> None:
    def budget(name: str, app: str, left: int | None) -> dict[str, Any]:
        status = {} if left is None else {"disruptionsAllowed": left}
        return {
            "metadata": {"uid": name, "namespace": "s", "name": name},
            "spec": {"selector": {"matchLabels": {"app": app}}},
            "status": status,
        }

    pods = [Pod("u", "s", "p", {"app": "r1"}, PodState.READY, "", 0.0)]
    mine, tight, others = budget("mine", "r1", 3), budget("tight", "r1", 1), budget("others", "r2", 0)
    assert allowed([parse_budget(each) for each in (mine, tight, others)], pods) == (1, "tight")
    assert allowed([parse_budget(others)], pods) == (None, "")
    assert allowed([parse_budget(budget("new", "r1", None))], pods) == (0, "new"), "what is not worked out yet allows nothing"


@pytest.mark.parametrize(("observed", "left"), [({"observedGeneration": 2}, 3), ({"observedGeneration": 1}, 0), ({}, 0)])
def test_a_budget_that_was_edited_allows_nothing_until_its_status_is_of_the_edit(observed: Mapping[str, int], left: int) -> None:
    meta = {"uid": "b", "namespace": "s", "name": "edited", "generation": 2}
    raw = {"metadata": meta, "spec": {"selector": {}}, "status": {"disruptionsAllowed": 3, **observed}}
    assert allowed([parse_budget(raw)], [Pod("u", "s", "p", {}, PodState.READY, "", 0.0)]) == (left, "edited")


@pytest.mark.parametrize(("spec", "left"), [({}, None), ({"selector": None}, None), ({"selector": {}}, 0)])
def test_a_budget_without_a_selector_is_over_no_pod_and_an_empty_one_over_all(spec: Mapping[str, Any], left: int | None) -> None:
    raw = {"metadata": {"uid": "b", "namespace": "s", "name": "odd"}, "spec": spec, "status": {"disruptionsAllowed": 0}}
    assert allowed([parse_budget(raw)], [Pod("u", "s", "p", {"app": "r1"}, PodState.READY, "", 0.0)])[0] == left


@pytest.mark.parametrize(("ready", "leaving", "left"), [(4, 0, 1), (4, 1, 0), (3, 0, 0), (2, 0, 0), (5, 0, 1)])
def test_a_budget_whose_status_is_of_a_moment_ago_is_not_used_twice(ready: int, leaving: int, left: int) -> None:
    raw = {
        "metadata": {"uid": "b", "namespace": "s", "name": "keep-three"},
        "spec": {"selector": {"matchLabels": {"app": "r1"}}},
        "status": {"disruptionsAllowed": 1, "currentHealthy": 4},
    }
    serving = [Pod(f"u{number}", "s", f"p{number}", {"app": "r1"}, PodState.READY, "", 0.0) for number in range(ready)]
    known = [*serving, Pod("d", "s", "d", {"app": "r1"}, PodState.DRAINING, "", 0.0), Pod("o", "s", "o", {}, PodState.READY, "", 0.0)]
    asked = [Asked(parse_selector("app=r1"), ready - leaving), Asked(parse_selector("app=other"), 0)]
    assert allowed([parse_budget(raw)], serving, known, asked) == (left, "keep-three")


@pytest.mark.parametrize(("asked", "left"), [((2, 2), 2), ((1, 2), 1), ((1, 1), 0), ((0, 0), 0), ((5, 1), 1)])
def test_what_leaves_other_workloads_uses_up_the_budget_that_they_share(asked: tuple[int, int], left: int) -> None:
    raw = {
        "metadata": {"uid": "b", "namespace": "s", "name": "keep-two"},
        "spec": {"selector": {"matchLabels": {"team": "t"}}},
        "status": {"disruptionsAllowed": 2, "currentHealthy": 4},
    }
    pods = [Pod(f"{app}{n}", "s", f"{app}{n}", {"team": "t", "app": app}, PodState.READY, "", 0.0) for app in ("a", "b") for n in range(2)]
    numbers = [Asked(parse_selector(f"app={app}"), count) for app, count in zip("ab", asked, strict=True)]
    assert allowed([parse_budget(raw)], pods[:2], pods, numbers) == (left, "keep-two")
