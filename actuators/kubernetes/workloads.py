"""A scaled object, and who else writes its number of replicas: from what we wrote last, and from `metadata.managedFields`.

Pure. Owns what is kept of a workload and the reading of a conflict; what to do about one is the policy's, and `actuator` does it.
Servers before 1.22 keep no record of who used the scale subresource, so the number itself is compared first, and names come after.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actuators.kubernetes.pods import gpus_of, unix_of
from actuators.kubernetes.selectors import Selector, selector_of

MANAGER = "tidegate"
# Whoever owned the number before our last write is not who changed it since.
CLOCKS_APART_SECONDS = 2.0
# The controllers' own process writes a workload's replicas only as a HorizontalPodAutoscaler.
AUTOSCALERS = {"kube-controller-manager": "a HorizontalPodAutoscaler", "keda-operator": "KEDA", "keda": "KEDA"}
TEMPLATES = (("template",), ("leaderWorkerTemplate", "leaderTemplate"), ("leaderWorkerTemplate", "workerTemplate"), ("podTemplate",))


@dataclass(frozen=True, slots=True)
class Owner:
    """A field manager that owns the number of replicas."""

    manager: str
    time: str
    subresource: str = ""

    def __str__(self) -> str:
        """Print as `a HorizontalPodAutoscaler (kube-controller-manager)` or `kubectl-edit`."""
        known = AUTOSCALERS.get(self.manager)
        return f"{known} ({self.manager})" if known else self.manager


@dataclass(frozen=True, slots=True)
class Workload:
    """What is kept of a scaled object. `owners` are the field managers of its replicas, newest first; `controller` owns the object.

    `gpus` are those of a replica's pod, of that with the most, None where the kind keeps its template elsewhere; `node_labels` is that
    template's selector.
    `ready_replicas` is the status's word, None without one; `first_ordinal` is where a StatefulSet begins to count.
    `refusal` is why its controller may not create pods (a quota, an admission rule), "" while it may.
    `replicas` and `selector` are the spec's, None where a kind keeps them elsewhere: the scale subresource has the word on our own.
    """

    uid: str
    namespace: str
    name: str
    version: str
    generation: int
    owners: tuple[Owner, ...] = ()
    controller: str = ""
    gpus: int | None = None
    node_labels: Mapping[str, str] | None = None
    tolerations: tuple[Mapping[str, Any], ...] = ()
    ready_replicas: int | None = None
    first_ordinal: int = 0
    refusal: str = ""
    replicas: int | None = None
    selector: Selector | None = None

    @property
    def keys(self) -> frozenset[str]:
        """By namespace, and by namespace and name."""
        return frozenset((self.namespace, f"{self.namespace}/{self.name}"))


@dataclass(frozen=True, slots=True)
class Written:
    """What we wrote last, and when: from how many replicas to how many. `is_sure` is false while nobody knows whether it arrived.

    `owners` are those of the number before we wrote it, as far as that is remembered.
    """

    uid: str
    before: int
    after: int
    is_sure: bool
    at_unix: float = 0.0
    owners: tuple[Owner, ...] = ()


def parse_workload(raw: Mapping[str, Any]) -> Workload:
    """Return what is kept of a workload as the API server sends it, whatever its kind."""
    meta, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    templates = [found for path in TEMPLATES if (found := _at(spec, path))]
    template = max(templates, key=lambda each: gpus_of(each.get("spec") or {}), default=None)
    pod = (template or {}).get("spec") or {}
    controller: Mapping[str, Any] = next((each for each in meta.get("ownerReferences") or () if each.get("controller")), {})
    ready = status.get("readyReplicas", status.get("availableReplicas"))
    replicas, labels = spec.get("replicas"), spec.get("selector")
    return Workload(
        uid=meta["uid"],
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        version=meta["resourceVersion"],
        generation=int(meta.get("generation") or 0),
        owners=replica_owners(meta.get("managedFields") or ()),
        controller=f"{controller['kind']} {controller['name']}" if controller else "",
        gpus=gpus_of(pod) if template else None,
        node_labels=pod.get("nodeSelector") if template else None,
        tolerations=tuple(pod.get("tolerations") or ()),
        ready_replicas=int(ready) if ready is not None else None,
        first_ordinal=int((spec.get("ordinals") or {}).get("start") or 0),
        refusal=_refusal(status),
        replicas=replicas if isinstance(replicas, int) else None,
        selector=selector_of(labels) if isinstance(labels, Mapping) and labels.keys() & {"matchLabels", "matchExpressions"} else None,
    )


def _refusal(status: Mapping[str, Any]) -> str:
    failure: Mapping[str, Any] = next((each for each in status.get("conditions") or () if each.get("type") == "ReplicaFailure"), {})
    return str(failure.get("message") or failure.get("reason") or "unknown") if failure.get("status") == "True" else ""


def replica_owners(entries: Sequence[Mapping[str, Any]]) -> tuple[Owner, ...]:
    """Return who owns the number of replicas according to `managedFields`, the newest first."""
    owners = [
        Owner(entry.get("manager", "?"), entry.get("time") or "", entry.get("subresource") or "")
        for entry in entries
        if "f:replicas" in ((entry.get("fieldsV1") or {}).get("f:spec") or {}) or entry.get("subresource") == "scale"
    ]
    return tuple(sorted(owners, key=lambda owner: owner.time, reverse=True))


def contest(workload: Workload, replicas: int, written: Written | None) -> str:
    """Return who else writes the number of replicas, "" where nobody does.

    What somebody wrote before we first did is taken over without a word, as the policy names the workload, unless it is an autoscaler,
    which would go on writing. While nobody knows what arrived of ours, two writes may be on their way, and the later one is what we know
    of: a number that the server says is ours is ours.
    """
    others = [owner for owner in workload.owners if owner.manager != MANAGER]
    if written is None or written.uid != workload.uid:
        return str(next((owner for owner in others if owner.manager in AUTOSCALERS), ""))
    if replicas == written.after or (not written.is_sure and replicas == written.before):
        return ""
    if not written.is_sure and any(owner.manager == MANAGER and owner.subresource == "scale" for owner in workload.owners):
        return ""
    since = written.at_unix - CLOCKS_APART_SECONDS
    later = [owner for owner in others if owner not in written.owners and owner.time and unix_of(owner.time) >= since]
    return str(later[0]) if later else "somebody through the scale subresource"


def _at(tree: Mapping[str, Any], path: Sequence[str]) -> Mapping[str, Any] | None:
    found: Any = tree
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else None
