"""The reserved pool as it is: nodes that may take a fleet's replicas, their GPUs, what holds them, and how many replicas still fit.

Pure. Owns what is kept of a node and the counting; it must not place anything: the scheduler does.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from actuators.kubernetes.pods import GPU, Pod, PodState, quantity

ALL = "nodes"


@dataclass(frozen=True, slots=True)
class Taint:
    """A taint that keeps pods away: its effect is NoSchedule or NoExecute."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class Node:
    """What is kept of a node. `is_usable` is false while it is not ready or cordoned."""

    uid: str
    name: str
    labels: Mapping[str, str]
    gpus: int
    is_usable: bool
    taints: tuple[Taint, ...] = ()

    @property
    def keys(self) -> frozenset[str]:
        """All together, as there are few."""
        return frozenset((ALL,))


@dataclass(frozen=True, slots=True)
class Inventory:
    """The GPUs of the nodes that a fleet may use.

    `room` is how many more replicas fit, node by node, beside everything placed and the `waiting` pods that have no node yet.
    """

    nodes: int
    gpus: int
    free_gpus: int
    room: int
    holders: Mapping[str, int]
    waiting: int = 0

    def __str__(self) -> str:
        """Print as `3 nodes, 24 GPUs, 8 free; held by serving/r1 12, batch/train 4`."""
        held = ", ".join(f"{name} {gpus}" for name, gpus in sorted(self.holders.items(), key=lambda item: (-item[1], item[0]))[:5])
        return (
            f"{self.nodes} nodes, {self.gpus} GPUs, {self.free_gpus} free"
            + (f", {self.waiting} wait for a place" if self.waiting else "")
            + (f"; held by {held}" if held else "")
        )


@dataclass(frozen=True, slots=True)
class Waiting:
    """So many pods alike that have no node yet, each of so many GPUs, and where they may go."""

    gpus: int
    labels: Mapping[str, str]
    tolerations: tuple[Mapping[str, Any], ...]
    pods: int


def parse_node(raw: Mapping[str, Any]) -> Node:
    """Return what is kept of a node as the API server sends it."""
    meta, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    ready = next((each["status"] for each in status.get("conditions") or () if each.get("type") == "Ready"), "Unknown")
    taints = tuple(
        Taint(each["key"], each.get("value") or "", each["effect"])
        for each in spec.get("taints") or ()
        if each.get("effect") in ("NoSchedule", "NoExecute")
    )
    gpus = int(quantity((status.get("allocatable") or {}).get(GPU) or "0"))
    return Node(meta["uid"], meta["name"], meta.get("labels") or {}, gpus, ready == "True" and not spec.get("unschedulable"), taints)


def takes(node: Node, labels: Mapping[str, str] | None, tolerations: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether a pod with this node selector and these tolerations may go to a node that has GPUs."""
    if not node.is_usable or node.gpus <= 0 or any(node.labels.get(key) != value for key, value in (labels or {}).items()):
        return False
    return all(taint.key == GPU or any(_tolerates(each, taint) for each in tolerations) for taint in node.taints)


def _tolerates(toleration: Mapping[str, Any], taint: Taint) -> bool:
    if toleration.get("effect") not in (None, "", taint.effect):
        return False
    key = toleration.get("key") or ""
    if toleration.get("operator") == "Exists":
        return key in ("", taint.key)
    return key == taint.key and (toleration.get("value") or "") == taint.value


@dataclass(frozen=True, slots=True)
class Demand:
    """What a replica asks of the nodes: labels to be on them, taints that its pods tolerate, the GPUs of a pod, and how many pods it is."""

    labels: Mapping[str, str]
    tolerations: tuple[Mapping[str, Any], ...]
    gpus_per_pod: int
    pods_per_replica: int

    @property
    def key(self) -> str:
        """The same text for the same demand."""
        return f"{sorted(self.labels.items())} {self.tolerations} {self.gpus_per_pod} {self.pods_per_replica}"


def inventory(
    nodes: Sequence[Node],
    pods: Mapping[str, Sequence[Pod]],
    gpus_per_pod: int,
    pods_per_replica: int = 1,
    unplaced: Iterable[Pod] = (),
    coming: Iterable[Waiting] = (),
) -> Inventory:
    """Return what the nodes hold. `pods` are all pods by the name of their node; those that are being deleted still hold their GPUs.

    Three nodes of 8 GPUs with 4, 8 and 0 in use have room for 1 + 0 + 2 = 3 pods of 4 GPUs, so for one replica of two such pods. What is
    `unplaced` or `coming` and fits takes its place first, whosever it is and of whatever size: the scheduler gives it to them. With one
    pod of 8 GPUs waiting, the same nodes have room for 1.
    """
    count = total = free = 0
    frees: dict[str, int] = {}
    holders: Counter[str] = Counter()
    for node in nodes:
        used = 0
        for pod in pods.get(node.name, ()):
            if pod.state is not PodState.FINISHED and pod.gpus:
                used += pod.gpus
                holders[f"{pod.namespace}/{holder_of(pod)}"] += pod.gpus
        count, total = count + 1, total + node.gpus
        frees[node.name] = max(node.gpus - used, 0)
        free += frees[node.name]
    waiting = 0
    there = (Waiting(pod.gpus, pod.node_labels, pod.tolerations, 1) for pod in unplaced if pod.is_counted and pod.gpus)
    for group in _alike((*there, *coming)):
        possible = [node.name for node in nodes if takes(node, group.labels, group.tolerations)]
        waiting += group.pods if possible else 0
        _seat(group, possible, frees, gpus_per_pod)
    room = sum(left // gpus_per_pod for left in frees.values()) if gpus_per_pod > 0 else 0
    return Inventory(count, total, free, room // pods_per_replica, holders, waiting)


def _alike(waiting: Iterable[Waiting]) -> list[Waiting]:
    """Return pods of one kind together, so that they are looked at once, the largest first."""
    sample: dict[str, Waiting] = {}
    for each in waiting:
        key = f"{each.gpus} {sorted(each.labels.items())} {each.tolerations}"
        known = sample.get(key)
        sample[key] = replace(each, pods=each.pods + (known.pods if known is not None else 0))
    return sorted(sample.values(), key=lambda each: -each.gpus)


def _seat(group: Waiting, possible: Sequence[str], frees: dict[str, int], gpus_per_pod: int) -> None:
    """Take the places of a group that fits from what is free: first those that cost us most, as the scheduler may choose them."""

    def loss(name: str) -> int:
        size = max(gpus_per_pod, 1)
        return frees[name] // size - (frees[name] - group.gpus) // size

    left = group.pods
    for name in sorted((name for name in possible if frees[name] >= group.gpus), key=lambda name: (-loss(name), frees[name])):
        seats = min(frees[name] // group.gpus, left)
        frees[name] -= seats * group.gpus
        left -= seats
        if left == 0:
            break


def holder_of(pod: Pod) -> str:
    """Return what a person calls the thing that a pod belongs to: a Deployment's name without the hash of its ReplicaSet."""
    hashed = pod.labels.get("pod-template-hash")
    if pod.owner_kind == "ReplicaSet" and hashed and pod.owner.endswith(f"-{hashed}"):
        return pod.owner[: -len(hashed) - 1]
    return pod.owner or pod.name
