"""What objects of a cluster say, read without a cluster: pods, selectors, who owns a number, errors."""

import math
from collections.abc import Mapping
from typing import Any

import pytest

from actuators.kubernetes.errors import Busy, Conflict, Forbidden, Gone, NotFound, Refused, Request, SignedOut, error_of
from actuators.kubernetes.pods import PodState, parse_pod, quantity, remembered
from actuators.kubernetes.selectors import parse_selector, selector_of
from actuators.kubernetes.workloads import Owner, Workload, Written, contest, parse_workload
from controlplane.contracts.errors import SupplierError

CREATED = "2026-11-22T10:00:00Z"
CREATED_UNIX = 1_795_341_600.0


def raw_pod(spec: Mapping[str, Any] | None = None, status: Mapping[str, Any] | None = None, **meta: object) -> dict[str, Any]:
    known = {"uid": "u1", "name": "p1", "namespace": "serving", "labels": {"app": "r1"}, "creationTimestamp": CREATED}
    return {"metadata": {**known, **meta}, "spec": {"nodeName": "n1", "containers": [], **(spec or {})}, "status": status or {}}


def ready(is_ready: bool, at: str = "2026-11-22T10:04:00Z") -> dict[str, Any]:
    return {"type": "Ready", "status": str(is_ready), "lastTransitionTime": at}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"name": "engine", "state": {"waiting": {"reason": reason, "message": message}}}


RUNNING = {"name": "engine", "state": {"running": {}}}
UNPLACED = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/4 nodes are available"}


@pytest.mark.parametrize(
    ("pod", "state", "reason"),
    [
        (raw_pod(status={"conditions": [ready(True)]}), PodState.READY, ""),
        (raw_pod({"nodeName": ""}), PodState.WAITING, "waits for the scheduler"),
        (raw_pod({"nodeName": ""}, {"conditions": [UNPLACED]}), PodState.UNSCHEDULABLE, "0/4 nodes are available"),
        (raw_pod(), PodState.STARTING, "image"),
        (raw_pod(status={"containerStatuses": [waiting("ContainerCreating")]}), PodState.STARTING, "image"),
        (raw_pod(status={"containerStatuses": [RUNNING], "conditions": [ready(False)]}), PodState.STARTING, "weights"),
        (
            raw_pod(status={"containerStatuses": [waiting("ImagePullBackOff", "no such tag")]}),
            PodState.FAILED,
            "ImagePullBackOff: no such tag",
        ),
        (raw_pod(status={"initContainerStatuses": [waiting("CrashLoopBackOff")]}), PodState.FAILED, "CrashLoopBackOff: see the pod"),
        (raw_pod(status={"conditions": [ready(True)]}, deletionTimestamp=CREATED), PodState.DRAINING, "is being deleted"),
        (raw_pod(status={"phase": "Failed", "reason": "Evicted"}), PodState.FINISHED, "Evicted"),
        (raw_pod(status={"phase": "Succeeded"}, deletionTimestamp=CREATED), PodState.FINISHED, "Succeeded"),
    ],
)
def test_where_a_pod_is(pod: Mapping[str, Any], state: PodState, reason: str) -> None:
    parsed = parse_pod(pod)
    assert (parsed.state, parsed.reason) == (state, reason)


def test_what_is_kept_of_a_pod() -> None:
    limits = {"resources": {"limits": {"nvidia.com/gpu": "4"}}}
    spec = {"containers": [limits, limits], "initContainers": [limits]}
    owner = [{"kind": "ReplicaSet", "name": "r1-5f4", "controller": True}]
    notes = {"controller.kubernetes.io/pod-deletion-cost": "-10000", "tidegate.dev/in-flight-requests": "2"}
    pod = parse_pod(raw_pod(spec, {"conditions": [ready(True)]}, ownerReferences=owner, annotations=notes))
    assert (pod.gpus, pod.owner_kind) == (8, "ReplicaSet")
    assert (pod.deletion_cost, pod.in_flight) == (-10000, 2.0)
    assert (pod.created_unix, pod.ready_unix) == (CREATED_UNIX, CREATED_UNIX + 240.0)
    assert pod.keys == {"serving", "node/n1", "serving/app=r1"}


def test_what_is_kept_of_a_start() -> None:
    placed = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-11-22T10:00:04Z"}
    running = {"name": "engine", "state": {"running": {"startedAt": "2026-11-22T10:01:39Z"}}}
    loading = parse_pod(raw_pod(status={"conditions": [placed, ready(False)], "containerStatuses": [running]}))
    assert (loading.placed_unix, loading.running_unix, loading.ready_unix) == (CREATED_UNIX + 4.0, CREATED_UNIX + 99.0, None)
    half = parse_pod(raw_pod(status={"containerStatuses": [running, waiting("ContainerCreating")], "conditions": [UNPLACED]}))
    assert (half.placed_unix, half.running_unix) == (None, None)


def test_a_pod_was_ready_when_it_was_first() -> None:
    first = parse_pod(raw_pod(status={"conditions": [ready(True)]}))
    blip = remembered(first, parse_pod(raw_pod(status={"conditions": [ready(False, "2026-11-22T11:00:00Z")]})))
    again = remembered(blip, parse_pod(raw_pod(status={"conditions": [ready(True, "2026-11-22T11:00:09Z")]})))
    assert {pod.ready_unix for pod in (first, blip, again)} == {CREATED_UNIX + 240.0}
    assert [pod.state for pod in (first, blip, again)] == [PodState.READY, PodState.STARTING, PodState.READY]
    assert remembered(parse_pod(raw_pod()), first) == first


@pytest.mark.parametrize(("text", "requests"), [("3", 3.0), ("0", 0.0), ("-4", math.inf), ("nan", math.inf), ("some", math.inf)])
def test_requests_in_flight_that_cannot_be_are_not_taken_for_idleness(text: str, requests: float) -> None:
    assert parse_pod(raw_pod(annotations={"tidegate.dev/in-flight-requests": text})).in_flight == requests


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "cheap"])
def test_a_mark_that_is_no_time_is_none(text: str) -> None:
    notes = {"tidegate.dev/draining-since": text, "controller.kubernetes.io/pod-deletion-cost": text}
    pod = parse_pod(raw_pod(annotations=notes))
    assert (pod.draining_since_unix, pod.deletion_cost) == (None, 0)


@pytest.mark.parametrize(("text", "number"), [("8", 8.0), (8, 8.0), ("2k", 2000.0), ("1500m", 1.5), ("0", 0.0)])
def test_quantities(text: str | int, number: float) -> None:
    assert quantity(text) == number


@pytest.mark.parametrize(
    ("text", "labels", "is_match"),
    [
        ("app=r1", {"app": "r1", "tier": "x"}, True),
        ("app==r1,tier!=x", {"app": "r1", "tier": "x"}, False),
        ("app==r1,tier!=x", {"app": "r1"}, True),
        ("tier in (gpu, big)", {"tier": "big"}, True),
        ("tier notin (gpu,big),app", {"app": "anything"}, True),
        ("!old,app", {"app": "r1", "old": ""}, False),
        (
            "leaderworkerset.sigs.k8s.io/name=r1,leaderworkerset.sigs.k8s.io/worker-index=0",
            {"leaderworkerset.sigs.k8s.io/name": "r1"},
            False,
        ),
        ("", {}, True),
    ],
)
def test_selectors(text: str, labels: Mapping[str, str], is_match: bool) -> None:
    assert parse_selector(text).matches(labels) is is_match


@pytest.mark.parametrize("text", ["app in", "(a)", "a=b c=d", "=x"])
def test_what_is_no_selector_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a label selector"):
        parse_selector(text)


def test_the_selector_of_an_object() -> None:
    spec = {"matchLabels": {"app": "r1"}, "matchExpressions": [{"key": "old", "operator": "DoesNotExist"}]}
    assert selector_of(spec).matches({"app": "r1"})
    assert not selector_of(spec).matches({"app": "r1", "old": "1"})


REPLICAS = {"f:spec": {"f:replicas": {}}}


def workload(*entries: Mapping[str, Any], **spec: object) -> Workload:
    meta = {"uid": "w1", "name": "r1", "namespace": "serving", "resourceVersion": "7", "generation": 3, "managedFields": list(entries)}
    return parse_workload({"metadata": meta, "spec": spec, "status": {}})


def entry(manager: str, time: str, fields: Mapping[str, Any] = REPLICAS, **more: str) -> dict[str, Any]:
    return {"manager": manager, "operation": "Update", "time": time, "fieldsV1": fields, **more}


BEFORE, AFTER = "2026-11-22T09:00:00Z", "2026-11-22T10:00:30Z"
CREATOR = entry("kubectl-client-side-apply", BEFORE)
OURS = Written("w1", before=2, after=5, is_sure=True, at_unix=CREATED_UNIX)


@pytest.mark.parametrize(
    ("entries", "replicas", "written", "who"),
    [
        ([CREATOR], 2, None, ""),
        ([entry("kube-controller-manager", BEFORE)], 2, None, "a HorizontalPodAutoscaler (kube-controller-manager)"),
        ([entry("kube-controller-manager", BEFORE, {"f:status": {}})], 2, None, ""),
        ([CREATOR], 5, OURS, ""),
        ([CREATOR, entry("kubectl-edit", AFTER)], 3, OURS, "kubectl-edit"),
        (
            [CREATOR, entry("kube-controller-manager", AFTER, subresource="scale")],
            3,
            OURS,
            "a HorizontalPodAutoscaler (kube-controller-manager)",
        ),
        ([CREATOR, entry("tidegate", AFTER)], 3, OURS, "somebody through the scale subresource"),
        ([CREATOR], 2, Written("w1", 2, 5, is_sure=False), ""),
        ([CREATOR, entry("tidegate", AFTER, subresource="scale")], 7, Written("w1", 2, 5, is_sure=False), ""),
        ([CREATOR, entry("tidegate", AFTER, subresource="scale")], 7, OURS, "somebody through the scale subresource"),
        ([CREATOR], 2, OURS, "somebody through the scale subresource"),
        ([CREATOR], 2, Written("another-object-of-that-name", 2, 5, is_sure=True), ""),
    ],
)
def test_who_else_writes_the_number(entries: list[Mapping[str, Any]], replicas: int, written: Written | None, who: str) -> None:
    assert contest(workload(*entries), replicas, written) == who


def test_owners_come_newest_first() -> None:
    found = workload(CREATOR, entry("kubectl-edit", AFTER)).owners
    assert found == (Owner("kubectl-edit", AFTER), Owner("kubectl-client-side-apply", BEFORE))


def test_the_template_of_a_leader_worker_set_is_found() -> None:
    limits = {"resources": {"limits": {"nvidia.com/gpu": "8"}}}
    template = {"spec": {"containers": [limits], "nodeSelector": {"pool": "a"}}}
    for leader in ({}, {"leaderTemplate": {"spec": {"containers": [{}], "nodeSelector": {"pool": "cpu"}}}}):
        found = workload(leaderWorkerTemplate={**leader, "workerTemplate": template})
        assert (found.gpus, found.node_labels) == (8, {"pool": "a"}), "those that hold the GPUs, though the leader may have none"
    assert workload(size=3).gpus is None


SCALE = Request("patch", "deployments.apps/scale", "serving", "r1")


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (401, SignedOut, True),
        (403, Forbidden, False),
        (404, NotFound, False),
        (409, Conflict, True),
        (410, Gone, True),
        (422, Refused, False),
        (429, Busy, True),
        (500, Busy, True),
        (503, Busy, True),
    ],
)
def test_every_refusal_is_typed_and_names_verb_and_resource(status: int, kind: type[SupplierError], retryable: bool) -> None:
    error = error_of(SCALE, status, b'{"kind":"Status","message":"because"}', None)
    assert type(error) is kind
    assert error.retryable is retryable
    assert "patch deployments.apps/scale serving/r1" in str(error)
    assert "because" in str(error)


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), (None, None), ("Wed, 21 Oct 2026 07:28:00 GMT", None)])
def test_how_long_a_busy_server_asks_for(header: str | None, seconds: float | None) -> None:
    error = error_of(SCALE, 429, "busy", header)
    assert isinstance(error, Busy)
    assert error.wait_seconds == seconds
