"""Which replicas go when a workload shrinks, so that it costs least: what does not serve, then whole nodes, the idle, the young.

Pure. Owns the order and the deletion costs that make a ReplicaSet follow it; `actuator` writes them before it lowers the number.
Only a ReplicaSet asks for costs (since Kubernetes 1.22): a StatefulSet and a LeaderWorkerSet always drop the highest ordinal, whatever
it is busy with, so that it is the highest that are waited for.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from actuators.kubernetes.pods import Pod, PodState

# The order in which what is not serving goes; all of it before anything that is.
IDLE = {PodState.FAILED: 0, PodState.UNSCHEDULABLE: 1, PodState.WAITING: 2, PodState.STARTING: 3, PodState.READY: 4}
# A pod without the annotation costs 0: those that go must cost less, and are told apart from what a person may have set.
CHEAPEST = -10_000
GROUP_INDEX = "leaderworkerset.sigs.k8s.io/group-index"


@dataclass(frozen=True, slots=True)
class Leaving:
    """The pods that should go, the cheapest first, and the annotations to write so that they do: cost by pod name, None to remove it."""

    pods: tuple[Pod, ...]
    costs: Mapping[str, int | None]

    @property
    def in_flight(self) -> float:
        """Requests that the leaving replicas still work on."""
        return sum(pod.in_flight for pod in self.pods)


def leaving(pods: Sequence[Pod], count: int, gpus_held_on: Mapping[str, int]) -> Leaving:
    """Return which `count` of a workload's replicas go. `gpus_held_on` are all GPUs in use by node, other workloads' included.

    A node whose GPUs are all of leaving replicas can be given back, so nodes are emptied one after the other, those with the least
    held by others first; a node that would be emptied only in part comes after those that can be emptied whole.
    """
    counted = sorted((pod for pod in pods if pod.is_counted), key=_by_cost)
    chosen = [pod for pod in counted if pod.state is not PodState.READY][:count]
    ready = [pod for pod in counted if pod.state is PodState.READY]
    # Whoever began to drain goes on, whatever the others are busy with now: a choice that changes at every look ends no drain.
    begun = [pod for pod in ready if pod.draining_since_unix is not None][: max(count - len(chosen), 0)]
    held = Counter(gpus_held_on)
    for pod in begun:
        held[pod.node] -= pod.gpus
    chosen += begun
    chosen += _by_node([pod for pod in ready if pod not in begun], count - len(chosen), held)
    if not all(pod.owner_kind == "ReplicaSet" for pod in counted):
        return Leaving(tuple(chosen), {})
    costs: dict[str, int | None] = {}
    for rank, pod in enumerate(chosen):
        if not is_ours(pod.deletion_cost):
            costs[pod.name] = CHEAPEST + rank
    names = {pod.name for pod in chosen}
    stale = [pod for pod in counted if pod.name not in names and is_ours(pod.deletion_cost)]
    return Leaving(tuple(chosen), costs | {pod.name: None for pod in stale})


def dropped(pods: Sequence[Pod], first_gone: int) -> Leaving:
    """Return the replicas of a StatefulSet or a LeaderWorkerSet that go: those from the ordinal `first_gone` on, the highest first."""
    numbered = [(ordinal, pod) for pod in pods if pod.is_counted and (ordinal := ordinal_of(pod)) is not None]
    return Leaving(tuple(pod for ordinal, pod in sorted(numbered, key=lambda each: -each[0]) if ordinal >= first_gone), {})


def serving_lost(pods: Sequence[Pod], asked: int, wanted: int, first_ordinal: int) -> int:
    """Return how many ready replicas go when `wanted` are asked for in place of `asked`, beside those that are told to go already.

    Of 4 with one that is not ready, a ReplicaSet lets that one go first, and loses none of 3 that serve; a StatefulSet drops its last,
    whichever it is that is not ready. In the middle of a rollout nobody knows from which ReplicaSet a Deployment takes it.
    """
    if not goes_by_ordinal(pods):
        ready = min(sum(pod.state is PodState.READY for pod in pods), asked)
        return min(ready, asked - wanted) if is_rollout(pods) else max(ready - wanted, 0)
    going, told = (dropped(pods, first_ordinal + number).pods for number in (wanted, asked))
    return sum(pod.state is PodState.READY for pod in going) - sum(pod.state is PodState.READY for pod in told)


def is_rollout(pods: Iterable[Pod]) -> bool:
    """Return whether these are of two generations: their workload is being replaced pod by pod."""
    return len({pod.owner for pod in pods if pod.is_counted}) > 1


def goes_by_ordinal(pods: Sequence[Pod]) -> bool:
    """Return whether these replicas' controller drops the highest ordinal: it is no ReplicaSet, and all of them have one."""
    return bool(pods) and all(pod.owner_kind != "ReplicaSet" and ordinal_of(pod) is not None for pod in pods)


def ordinal_of(pod: Pod) -> int | None:
    """Return the number of a LeaderWorkerSet's group, else that at the end of the pod's name, 12 of `r1-12`; None without one."""
    last = pod.labels.get(GROUP_INDEX) or pod.name.rpartition("-")[2]
    return int(last) if last.isdecimal() else None


def is_ours(cost: int | None) -> bool:
    """Return whether a deletion cost is one that we wrote."""
    return cost is not None and CHEAPEST <= cost < CHEAPEST // 2


def _by_cost(pod: Pod) -> tuple[int, float, float, str]:
    """Order by what is lost: the state, the requests in flight, and the warmth of an old replica's cache."""
    return IDLE[pod.state], pod.in_flight, -pod.created_unix, pod.name


def _by_node(ready: Sequence[Pod], count: int, gpus_held_on: Mapping[str, int]) -> list[Pod]:
    if count <= 0:
        return []
    nodes: dict[str, list[Pod]] = {}
    for pod in ready:
        nodes.setdefault(pod.node, []).append(pod)

    def order(node: str) -> tuple[int, float, int, str]:
        others = gpus_held_on.get(node, 0) - sum(pod.gpus for pod in nodes[node])
        return max(others, 0), sum(pod.in_flight for pod in nodes[node]), len(nodes[node]), node

    chosen: list[Pod] = []
    partly: list[Pod] = []
    for node in sorted(nodes, key=order):
        if len(chosen) + len(nodes[node]) <= count and order(node)[0] == 0:
            chosen += nodes[node]
        else:
            partly += nodes[node]
    return chosen + sorted(partly, key=_by_cost)[: count - len(chosen)]
