"""Objects that tests create: a Deployment of an engine, and a custom resource with a scale subresource at paths of its own."""

from typing import Any


def template(labels: dict[str, str], gpus: int, node_selector: dict[str, str] | None = None) -> dict[str, Any]:
    limits = {"nvidia.com/gpu": str(gpus)} if gpus else {}
    spec: dict[str, Any] = {"containers": [{"name": "engine", "image": "engine", "resources": {"limits": limits}}]}
    return {"metadata": {"labels": labels}, "spec": {**spec, "nodeSelector": node_selector or {}}}


def deployment(namespace: str, name: str, replicas: int = 0, gpus: int = 1, node_selector: dict[str, str] | None = None) -> dict[str, Any]:
    labels = {"app": name}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template(labels, gpus, node_selector)}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def stateful_set(namespace: str, name: str, replicas: int = 0, gpus: int = 1) -> dict[str, Any]:
    body = deployment(namespace, name, replicas, gpus)
    spec = {**body["spec"], "serviceName": name, "podManagementPolicy": "Parallel"}
    return {**body, "kind": "StatefulSet", "spec": spec}


def server_kind(group: str, *, replicas_path: str = ".spec.size") -> dict[str, Any]:
    """Return the definition of a kind `Server` whose number of replicas is not where a Deployment keeps it."""
    scale = {"specReplicasPath": replicas_path, "statusReplicasPath": ".status.size", "labelSelectorPath": ".status.selector"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema, "subresources": {"status": {}, "scale": scale}}
    names = {"plural": "servers", "singular": "server", "kind": "Server"}
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"servers.{group}"},
        "spec": spec,
    }


def leader_worker_set_kind() -> dict[str, Any]:
    """Return the LeaderWorkerSet's definition, as far as its scale subresource goes: its selector finds the leaders alone."""
    body = server_kind("leaderworkerset.x-k8s.io", replicas_path=".spec.replicas")
    names = {"plural": "leaderworkersets", "singular": "leaderworkerset", "kind": "LeaderWorkerSet"}
    scale = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.hpaPodSelector"}
    version = {**body["spec"]["versions"][0], "subresources": {"status": {}, "scale": scale}}
    meta = {"name": "leaderworkersets.leaderworkerset.x-k8s.io", "annotations": {"api-approved.kubernetes.io": "unapproved, of a test"}}
    return {**body, "metadata": meta, "spec": {**body["spec"], "names": names, "versions": [version]}}
