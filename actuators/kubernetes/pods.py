"""What a pod says about the replica that it is: ready, starting and at what, not placed and why, failed, draining.

Pure. Owns what is kept of a pod, small enough to keep all pods of a cluster. `status` counts them, `shrink` chooses among them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

GPU = "nvidia.com/gpu"
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
IN_FLIGHT = "tidegate.dev/in-flight-requests"
DRAINING_SINCE = "tidegate.dev/draining-since"
# Requests in flight on a replica that may be busy with anything: more than any number.
UNKNOWN = math.inf
# Waiting for one of these never ends by itself soon; the kubelet's back-off says the same of others.
FAILURES = frozenset(
    {"CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError"}
)


class PodState(StrEnum):
    """Where a replica is. `FINISHED` pods are left-overs that count for nothing."""

    READY = "ready"
    STARTING = "starting"
    WAITING = "waiting"
    UNSCHEDULABLE = "unschedulable"
    FAILED = "failed"
    DRAINING = "draining"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Pod:
    """What is kept of a pod. Times are unix seconds; `reason` says why it is in its state; `gpus` are what its containers ask for.

    `placed_unix` is when it got its node, `running_unix` when its containers ran last, `ready_unix` when it was ready first.
    `node_labels` and `tolerations` are kept of those alone that have no node yet and want GPUs: where they may go.
    Our own marks are no news to anybody, so that they do not count when two are compared.
    """

    uid: str
    namespace: str
    name: str
    labels: Mapping[str, str]
    state: PodState
    reason: str
    created_unix: float
    ready_unix: float | None = None
    placed_unix: float | None = None
    running_unix: float | None = None
    node: str = ""
    gpus: int = 0
    owner: str = ""
    owner_kind: str = ""
    address: str = ""
    in_flight: float = 0.0
    deletion_cost: int | None = field(default=None, compare=False)
    draining_since_unix: float | None = field(default=None, compare=False)
    node_labels: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()

    @property
    def keys(self) -> frozenset[str]:
        """By namespace, by label, and by node."""
        labels = (f"{self.namespace}/{key}={value}" for key, value in self.labels.items())
        return frozenset((self.namespace, f"node/{self.node}", *labels))

    @property
    def is_counted(self) -> bool:
        """Whether it is, or may become, a replica."""
        return self.state not in (PodState.DRAINING, PodState.FINISHED)


def parse_pod(raw: Mapping[str, Any]) -> Pod:
    """Return what is kept of a pod as the API server sends it."""
    meta, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    state, reason = state_of(meta, spec, status)
    notes = meta.get("annotations") or {}
    owner: Mapping[str, Any] = next((each for each in meta.get("ownerReferences") or () if each.get("controller")), {})
    ready = _condition(status, "Ready")
    gpus = gpus_of(spec)
    is_unplaced = gpus > 0 and not spec.get("nodeName")
    return Pod(
        uid=meta["uid"],
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        labels=meta.get("labels") or {},
        state=state,
        reason=reason,
        created_unix=unix_of(meta["creationTimestamp"]),
        ready_unix=_since(ready) if state is PodState.READY else None,
        placed_unix=_since(_condition(status, "PodScheduled")),
        running_unix=_running_unix(status),
        node=spec.get("nodeName") or "",
        gpus=gpus,
        owner=owner.get("name", ""),
        owner_kind=owner.get("kind", ""),
        address=status.get("podIP") or "",
        in_flight=_requests(notes.get(IN_FLIGHT)),
        deletion_cost=int(_number(notes[DELETION_COST]) or 0) if DELETION_COST in notes else None,
        draining_since_unix=_number(notes.get(DRAINING_SINCE)),
        node_labels=(spec.get("nodeSelector") or {}) if is_unplaced else {},
        tolerations=tuple(spec.get("tolerations") or ()) if is_unplaced else (),
    )


def remembered(old: Pod, new: Pod) -> Pod:
    """Return the new state of a pod with when it was ready first: Kubernetes tells of the last time alone, a blip makes that anew."""
    if old.ready_unix is None:
        return new
    return replace(new, ready_unix=min(old.ready_unix, new.ready_unix if new.ready_unix is not None else old.ready_unix))


def state_of(meta: Mapping[str, Any], spec: Mapping[str, Any], status: Mapping[str, Any]) -> tuple[PodState, str]:
    """Return where a pod is, and why. A pod that ran through or was evicted is FINISHED: its controller makes another."""
    phase = status.get("phase")
    if phase in ("Succeeded", "Failed"):
        return PodState.FINISHED, str(status.get("reason") or phase)
    if meta.get("deletionTimestamp"):
        return PodState.DRAINING, "is being deleted"
    if _condition(status, "Ready").get("status") == "True":
        return PodState.READY, ""
    if not spec.get("nodeName"):
        placed = _condition(status, "PodScheduled")
        if placed.get("status") == "False" and placed.get("reason") == "Unschedulable":
            return PodState.UNSCHEDULABLE, str(placed.get("message") or "no node takes it")
        return PodState.WAITING, "waits for the scheduler"
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    waiting = [waits for each in containers if (waits := (each.get("state") or {}).get("waiting"))]
    failing = next((waits for waits in waiting if waits.get("reason") in FAILURES), None)
    if failing is not None:
        return PodState.FAILED, f"{failing['reason']}: {failing.get('message') or 'see the pod'}"[:200]
    if not containers or waiting:
        return PodState.STARTING, "image"
    return PodState.STARTING, "weights"


def gpus_of(spec: Mapping[str, Any]) -> int:
    """Return the GPUs that a pod holds: the sum of its containers, or its largest init container if that is more."""
    main = sum(_gpus(each) for each in spec.get("containers") or ())
    return max(main, max((_gpus(each) for each in spec.get("initContainers") or ()), default=0))


def _gpus(container: Mapping[str, Any]) -> int:
    resources = container.get("resources") or {}
    return int(quantity((resources.get("limits") or {}).get(GPU) or (resources.get("requests") or {}).get(GPU) or "0"))


def quantity(text: str | int) -> float:
    """Return the number of a Kubernetes quantity; devices are counted, so that only the decimal suffixes matter: 2k is 2000."""
    text = str(text)
    times = {"k": Decimal(1000), "m": Decimal("0.001")}.get(text[-1:], Decimal(1))
    return float(Decimal(text.rstrip("km")) * times)


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return next((each for each in status.get("conditions") or () if each.get("type") == kind), {})


def _since(condition: Mapping[str, Any]) -> float | None:
    at = condition.get("lastTransitionTime") if condition.get("status") == "True" else None
    return unix_of(at) if at else None


def _running_unix(status: Mapping[str, Any]) -> float | None:
    """Return when the last of the containers began to run, None while one does not."""
    running = [(each.get("state") or {}).get("running") or {} for each in status.get("containerStatuses") or ()]
    if not running or not all(each.get("startedAt") for each in running):
        return None
    return max(unix_of(each["startedAt"]) for each in running)


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _requests(text: str | None) -> float:
    """Return the requests in flight of an annotation: none without one, `UNKNOWN` where it says what cannot be."""
    value = _number(text if text is not None else "0")
    return value if value is not None and value >= 0.0 else UNKNOWN


def unix_of(text: str) -> float:
    """Return the unix seconds of a timestamp as the API server writes it."""
    return datetime.fromisoformat(text).timestamp()
