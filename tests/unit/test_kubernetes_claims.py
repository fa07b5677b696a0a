"""Numbers that the watches do not show yet: whose pods are still to come or to go counts for all that share nodes or a budget."""

from typing import Any

from actuators.kubernetes.api_server import PODS
from actuators.kubernetes.claims import STALE_SECONDS, Claim, Claims
from actuators.kubernetes.disruption import Asked
from actuators.kubernetes.mirror import Mirror
from actuators.kubernetes.nodes import Demand, Waiting
from actuators.kubernetes.pods import Pod, parse_pod
from actuators.kubernetes.selectors import parse_selector
from actuators.kubernetes.workloads import Workload, parse_workload

R1 = parse_selector("app=r1")
TWO_NODES = Demand({"pool": "a"}, (), 8, 2)


class Scene:
    """Claims on a clock that is moved by hand, and the pods that are there."""

    def __init__(self) -> None:
        self.now = 100.0
        self.claims = Claims(lambda: self.now)
        server: Any = None
        self.pods: Mirror[Pod] = Mirror(server, PODS, parse_pod)

    def put(self, asked: int, generation: int = 1, demand: Demand = TWO_NODES) -> None:
        self.claims.put(Claim("w1", "s", generation, asked, "s/app=r1", R1, demand))

    def pod(self, name: str, app: str = "r1", **meta: str) -> None:
        meta = {"uid": name, "name": name, "namespace": "s", "creationTimestamp": "2026-11-22T10:00:00Z", **meta}
        self.pods.keep({"metadata": {**meta, "labels": {"app": app}}})


def workload(uid: str, replicas: object, generation: int = 1, selector: object = None) -> Workload:
    meta = {"uid": uid, "name": uid, "namespace": "s", "resourceVersion": "1", "generation": generation}
    labels = {"matchLabels": {"app": "r1"}} if selector is None else selector
    return parse_workload({"metadata": meta, "spec": {"replicas": replicas, "selector": labels}})


def test_what_is_asked_for_and_has_no_pod_yet_comes_in_as_many_pods_as_a_replica_is() -> None:
    scene = Scene()
    scene.put(3)
    scene.pod("p1")
    scene.pod("leaving", deletionTimestamp="2026-11-22T11:00:00Z")
    scene.pod("stranger", app="r2")
    assert scene.claims.coming(scene.pods) == [Waiting(8, {"pool": "a"}, (), 4)]
    for name in ("p2", "p3"):
        scene.pod(name)
    assert scene.claims.coming(scene.pods) == []


def test_what_wants_no_gpu_takes_no_place() -> None:
    scene = Scene()
    scene.put(3, demand=Demand({}, (), 0, 1))
    assert scene.claims.coming(scene.pods) == []


def test_what_nobody_looks_at_any_more_claims_nothing() -> None:
    scene = Scene()
    scene.put(3)
    scene.now += STALE_SECONDS
    assert len(scene.claims.coming(scene.pods)) == 1
    scene.now += 1.0
    assert scene.claims.coming(scene.pods) == []
    assert scene.claims.numbers("s", []) == []


def test_only_what_is_new_counts_as_a_change() -> None:
    scene = Scene()
    for asked in (3, 3, 4, 4):
        scene.put(asked)
    assert scene.claims.changes == 2


def test_the_newest_word_on_a_number_counts() -> None:
    scene = Scene()
    scene.put(3, generation=7)
    assert scene.claims.numbers("s", [workload("w1", 9, generation=7)]) == [Asked(R1, 3)], "ours is on its way to the watch"
    assert scene.claims.numbers("s", [workload("w1", 9, generation=8)]) == [Asked(R1, 9)], "somebody else wrote since"
    assert scene.claims.numbers("s", [workload("w2", 5)]) == [Asked(R1, 3), Asked(R1, 5)], "another process's workload"
    assert scene.claims.numbers("elsewhere", []) == []


def test_a_kind_that_keeps_its_number_or_its_labels_elsewhere_is_passed_over() -> None:
    claims = Claims()
    for odd in (workload("a", None), workload("b", "3"), workload("c", 3, selector="app=r1"), workload("d", 3, selector={"app": "r1"})):
        assert claims.numbers("s", [odd]) == []
