"""Where the replicas are: a fixed list, the addresses of a DNS name, or the running, ready pods of a label selector.

Owns finding them; each is the address of a metrics page. Kubernetes is asked through its asyncio client, imported when it is needed.
It must not ask replicas anything: `scrape` does.
"""

import asyncio
import json
import socket
from collections.abc import Mapping
from typing import Any, Protocol

from controlplane.collectors.api import SourceError
from controlplane.config import environment_variables

PODS_TIMEOUT_SECONDS = 10.0
DNS_TIMEOUT_SECONDS = 5.0


class Targets(Protocol):
    """Finds metrics pages."""

    async def find(self) -> frozenset[str]:
        """Return the addresses of now; SourceError where they cannot be found out."""
        ...

    async def close(self) -> None:
        """Let connections go."""
        ...


class FixedTargets:
    """A list that does not change."""

    def __init__(self, addresses: tuple[str, ...], path: str) -> None:
        self._pages = frozenset(address.rstrip("/") + path for address in addresses)

    async def find(self) -> frozenset[str]:
        """Return the list."""
        return self._pages

    async def close(self) -> None:
        """Do nothing."""


class DnsTargets:
    """Every address of a name. A name without an address is an empty list: a fleet may be scaled to nothing."""

    def __init__(self, name: str, port: int, scheme: str, path: str) -> None:
        self._name, self._port, self._scheme, self._path = name, port, scheme, path

    async def find(self) -> frozenset[str]:
        """Ask the resolver."""
        loop = asyncio.get_running_loop()
        try:
            found = await asyncio.wait_for(loop.getaddrinfo(self._name, self._port, type=socket.SOCK_STREAM), DNS_TIMEOUT_SECONDS)
        except socket.gaierror as error:
            if error.errno in (socket.EAI_NONAME, socket.EAI_NODATA):
                return frozenset()
            raise SourceError(f"{self._name} cannot be resolved: {error.strerror}") from error
        except (OSError, TimeoutError) as error:
            raise SourceError(f"{self._name} cannot be resolved: {type(error).__name__}") from error
        hosts = {str(address[0]) for *_, address in found}
        return frozenset(f"{self._scheme}://{f'[{host}]' if ':' in host else host}:{self._port}{self._path}" for host in hosts)

    async def close(self) -> None:
        """Do nothing."""


class PodTargets:
    """Every running, ready pod of a label selector that is not being deleted."""

    def __init__(self, options: Mapping[str, Any], path: str) -> None:
        self._options, self._path = options, path
        self._client: Any = None

    async def find(self) -> frozenset[str]:
        """Ask the API server."""
        from aiohttp import ClientError
        from kubernetes.aio import client
        from kubernetes.aio.client.exceptions import ApiException
        from kubernetes.aio.config import ConfigException

        namespace, selector = str(self._options["namespace"]), str(self._options["selector"])
        try:
            if self._client is None:
                self._client = await self._connect()
            answer = await client.CoreV1Api(self._client).list_namespaced_pod_without_preload_content(
                namespace, label_selector=selector, _request_timeout=PODS_TIMEOUT_SECONDS
            )
            body = await answer.read()
            if answer.status >= 300:
                raise SourceError(f"pods of {namespace} with {selector} are refused: HTTP {answer.status}")
            hosts = [pod["status"]["podIP"] for pod in json.loads(body)["items"] if is_serving(pod)]
        except ConfigException as error:
            raise SourceError(f"no cluster to ask for pods: {error}") from error
        except (ApiException, ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError) as error:
            raise SourceError(f"pods of {namespace} with {selector} cannot be listed: {type(error).__name__}") from error
        scheme, port = self._options.get("scheme") or "http", self._options["port"]
        return frozenset(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{self._path}" for host in hosts)

    async def close(self) -> None:
        """Let the connection go."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _connect(self) -> Any:
        """Return a client of the named context, of the cluster this runs in, or of the current context."""
        from kubernetes.aio import client, config

        configuration = client.Configuration()
        context = self._options.get("context")
        if context is None:
            try:
                config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
                return client.ApiClient(configuration)
            except config.ConfigException:
                configuration = client.Configuration()
        # The library looks at the environment once, when it is imported; a process that imported it earlier means what it says now.
        where = environment_variables().get("KUBECONFIG") or None
        await config.load_kube_config(where, context=context, client_configuration=configuration)  # type: ignore[no-untyped-call]
        return client.ApiClient(configuration)


def is_serving(pod: Mapping[str, Any]) -> bool:
    """Whether a pod, as the API server describes it, is one to ask."""
    status = pod.get("status") or {}
    ready = any(each.get("type") == "Ready" and each.get("status") == "True" for each in status.get("conditions") or ())
    leaving = (pod.get("metadata") or {}).get("deletionTimestamp") is not None
    return bool(status.get("podIP")) and status.get("phase") == "Running" and ready and not leaving


def targets_of(options: Mapping[str, Any]) -> Targets:
    """Return what finds the replicas of a policy's `engines` block."""
    path = str(options.get("path") or "/metrics")
    if options.get("dns"):
        dns = options["dns"]
        return DnsTargets(str(dns["name"]), int(dns["port"]), str(dns.get("scheme") or "http"), path)
    if options.get("pods"):
        return PodTargets(options["pods"], path)
    return FixedTargets(tuple(options.get("targets") or ()), path)
