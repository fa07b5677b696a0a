"""One API server over HTTP: signing in, typed errors, waiting when it asks for patience, discovery of kinds, counting of calls.

Owns the connection; it must not know a fleet. Who we are comes from a kubeconfig context, or from the pod's own service account.
`mirror` lists and watches through it, `actuator` patches.
"""

import asyncio
import contextlib
import json
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import client as untyped_client
from kubernetes.aio import config as untyped_config

from actuators.kubernetes.errors import Busy, Conflict, Gone, NotFound, Refused, Request, SignedOut, error_of
from controlplane.contracts.errors import SupplierUnavailable

FIELD_MANAGER = "tidegate"
TIMEOUT_SECONDS = 10.0
# Bookmarks come about every minute, also of a kind of which nothing changes: a watch that says nothing for longer may be dead.
SILENT_SECONDS = 90.0
# Together with the time-outs this stays below the time that one attempt of the actuator has.
PATIENCE_SECONDS = 8.0
FIRST_PAUSE_SECONDS = 0.2
# A server that has not been heard of for longer may hang, and do what it is asked when it wakes up, however much later that is.
HEARD_SECONDS = 1.0
QUESTIONS_AT_ONCE = 100
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
# The first event of a watch that the server took; the others are the server's own.
OPENED = "OPENED"
Json = dict[str, Any]
# The official client comes without types.
client: Any = untyped_client
config: Any = untyped_config


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind as discovery tells of it. `path` is that of its group and version, such as `/apis/apps/v1`."""

    path: str
    plural: str
    kind: str
    is_namespaced: bool = True
    has_scale: bool = False

    @property
    def group(self) -> str:
        """The API group, "" for the core."""
        return self.path.split("/")[2] if self.path.startswith("/apis/") else ""

    @property
    def name(self) -> str:
        """The name in RBAC's words, such as `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def url(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the path of all objects, of those in a namespace, or of one and its subresource."""
        parts = [self.path, *(["namespaces", namespace] if namespace else []), self.plural, name, subresource]
        return "/".join(part for part in parts if part)


PODS = Resource("/api/v1", "pods", "Pod")
NODES = Resource("/api/v1", "nodes", "Node", is_namespaced=False)
EVENTS = Resource("/api/v1", "events", "Event")


@dataclass(slots=True)
class _SignedIn:
    """The official client with one set of credentials, and how many requests are using it."""

    client: Any
    users: int = 0


class ApiServer:
    """A connection to one cluster, signed in on first use. `calls` counts requests by verb and resource.

    `context` None is the pod's own cluster, outside a pod the kubeconfig's current context. `patience_seconds` is how long one question
    may be asked again while the server is busy, `timeout_seconds` how long one answer may take, `silent_seconds` how long a watch is
    believed to be alive that says nothing.
    """

    def __init__(
        self,
        context: str | None = None,
        kubeconfig: Path | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        silent_seconds: float = SILENT_SECONDS,
    ) -> None:
        self._context, self._kubeconfig, self._patience_seconds = context, kubeconfig, patience_seconds
        self._timeout_seconds, self._silent_seconds = timeout_seconds, silent_seconds
        self._signed: _SignedIn | None = None
        self._signing_in = asyncio.Lock()
        self._questions = asyncio.Semaphore(QUESTIONS_AT_ONCE)
        # By API version and kind: a group that does not answer must keep nobody from the others.
        self._discovering: dict[tuple[str, str], asyncio.Lock] = {}
        self._resources: dict[tuple[str, str], Resource] = {}
        self._version: tuple[int, int] | None = None
        self._not_before = 0.0
        self._heard = float("-inf")
        self.calls: Counter[tuple[str, str]] = Counter()

    async def get(self, resource: Resource, namespace: str = "", name: str = "", subresource: str = "", **query: str) -> Json:
        """Return one object, or a list."""
        verb = "get" if name else "list"
        return await self._asked(verb, "GET", resource, (namespace, name, subresource), query)

    async def patch(self, resource: Resource, target: tuple[str, str, str], body: Json, content: str, **query: str) -> Json:
        """Change one object (namespace, name, subresource) as field manager `tidegate`."""
        return await self._asked("patch", "PATCH", resource, target, {"fieldManager": FIELD_MANAGER, **query}, body, content)

    def is_awake(self) -> bool:
        """Return whether the server was heard of a moment ago, by an answer or by a watch."""
        return time.monotonic() - self._heard <= HEARD_SECONDS

    async def create(self, resource: Resource, namespace: str, body: Json) -> Json:
        """Create an object."""
        return await self._asked("create", "POST", resource, (namespace, "", ""), {"fieldManager": FIELD_MANAGER}, body)

    async def resource(self, api_version: str, kind: str) -> Resource:
        """Return what discovery says about a kind; NotFound where the cluster does not have it. What is found is remembered."""
        key = (api_version, kind)
        if key not in self._resources:
            async with self._discovering.setdefault(key, asyncio.Lock()):
                if key not in self._resources:
                    self._resources[key] = await self._discovered(api_version, kind)
        return self._resources[key]

    async def _discovered(self, api_version: str, kind: str) -> Resource:
        path = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        listed = await self._patient(Request("discover", api_version), "GET", path)
        entries = listed.get("resources", [])
        plain = next((entry for entry in entries if entry["kind"] == kind and "/" not in entry["name"]), None)
        if plain is None:
            raise NotFound(f"{api_version} has no kind {kind} in this cluster", 404)
        has_scale = any(entry["name"] == f"{plain['name']}/scale" for entry in entries)
        return Resource(path, plain["name"], kind, bool(plain["namespaced"]), has_scale)

    async def version(self) -> tuple[int, int]:
        """Return the server's version, such as (1, 31); (0, 0) where it does not say."""
        if self._version is None:
            said = await self._patient(Request("get", "version"), "GET", "/version")
            found = re.match(r"v?(\d+)\.(\d+)", str(said.get("gitVersion") or ""))
            self._version = (int(found[1]), int(found[2])) if found else (0, 0)
        return self._version

    async def watch(self, resource: Resource, namespace: str, since: str, seconds: int) -> AsyncIterator[Json]:
        """Yield `OPENED`, and watch events from a resource version on, until the server ends it or falls silent; Gone where it is too old.

        What fell silent is asked for anew, which shows at once whether the server is there: a connection may be dead without saying so.
        """
        query = {"watch": "1", "resourceVersion": since, "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
        request = Request("watch", resource.name, namespace)
        self.calls[request.verb, request.resource] += 1
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._timeout_seconds, sock_read=self._silent_seconds)
        try:
            async with self._answering("GET", resource.url(namespace) + "?" + urlencode(query), None, "", timeout) as answer:
                if answer.status != 200:
                    raise error_of(request, answer.status, await answer.read(), answer.headers.get("Retry-After"))
                yield {"type": OPENED}
                while line := await _line(answer.content):
                    self._heard = time.monotonic()
                    yield _event(request, line)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise Busy(f"{request}: {_text(error)}") from error

    async def close(self) -> None:
        """Close the connections."""
        signed, self._signed = self._signed, None
        if signed is not None:
            await signed.client.close()

    async def _asked(
        self,
        verb: str,
        method: str,
        resource: Resource,
        target: tuple[str, str, str],
        query: Mapping[str, str],
        body: Json | None = None,
        content: str = "application/json",
    ) -> Json:
        namespace, name, subresource = target
        request = Request(verb, resource.name + (f"/{subresource}" if subresource else ""), namespace, name)
        url = resource.url(namespace, name, subresource) + (f"?{urlencode(query)}" if query else "")
        return await self._patient(request, method, url, body, content)

    async def _patient(self, request: Request, method: str, url: str, body: Json | None = None, content: str = "application/json") -> Json:
        """Ask, and ask again while the server is busy and there is patience left: what is asked here is safe to repeat.

        When the server says how long to wait, every request of this process waits that long.
        """
        give_up, pause, is_first = time.monotonic() + self._patience_seconds, FIRST_PAUSE_SECONDS, True
        while True:
            await asyncio.sleep(max(self._not_before - time.monotonic(), 0.0))
            try:
                return await self._once(request, method, url, body, content)
            except (Conflict, Refused, SignedOut) as refusal:
                refusal.asked_before = not is_first
                raise
            except Busy as busy:
                is_first = False
                wait = max(busy.wait_seconds or 0.0, pause * random.uniform(0.5, 1.5))
                if busy.wait_seconds is not None:
                    self._not_before = max(self._not_before, time.monotonic() + min(wait, self._patience_seconds))
                if time.monotonic() + wait > give_up:
                    raise
                pause *= 2.0
                await asyncio.sleep(wait)

    async def _once(self, request: Request, method: str, url: str, body: Json | None, content: str) -> Json:
        self.calls[request.verb, request.resource] += 1
        try:
            asking = self._answering(method, url, body, content, aiohttp.ClientTimeout(total=self._timeout_seconds))
            async with asyncio.timeout(self._timeout_seconds), self._questions, asking as answer:
                text = await answer.read()
                if answer.status >= 300:
                    raise error_of(request, answer.status, text, answer.headers.get("Retry-After"))
                found: Json = json.loads(text)
                return found
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise Busy(f"{request}: {_text(error)}") from error

    @contextlib.asynccontextmanager
    async def _answering(
        self, method: str, url: str, body: Json | None, content: str, timeout: aiohttp.ClientTimeout
    ) -> AsyncIterator[Any]:
        """Give the answer's stream, as aiohttp does.

        After a 401 the next request signs in anew; watches and calls under way keep their connection, and the last one closes it.
        """
        signed = await self._signed_in()
        signed.users += 1
        try:
            headers = {"Accept": "application/json", "User-Agent": FIELD_MANAGER, **({"Content-Type": content} if body is not None else {})}
            await signed.client.update_params_for_auth(headers, [], ["BearerToken"], url, method, body)
            where = signed.client.configuration.host + url
            async with asyncio.timeout(self._timeout_seconds):
                answer = await signed.client.rest_client.request(method, where, headers, body, _request_timeout=timeout)
            self._heard = time.monotonic()
            async with answer.response as response:
                if response.status == 401 and self._signed is signed:
                    self._signed = None
                yield response
        finally:
            signed.users -= 1
            if self._signed is not signed and signed.users == 0:
                await signed.client.close()

    async def _signed_in(self) -> _SignedIn:
        async with self._signing_in:
            if self._signed is None:
                settings = client.Configuration()
                try:
                    await self._load(settings)
                except (config.ConfigException, OSError) as error:
                    which = f"context {self._context}" if self._context else "the current context, nor a pod's own cluster"
                    raise SupplierUnavailable(f"no way to sign in to Kubernetes with {which}: {error}") from error
                settings.retries = None
                # A watch keeps its connection, and there may be one for each namespace: it is questions that are limited.
                settings.connection_pool_maxsize = 0
                self._signed = _SignedIn(client.ApiClient(settings))
            return self._signed

    async def _load(self, settings: Any) -> None:
        if self._context is None and self._kubeconfig is None:
            try:
                config.load_incluster_config(client_configuration=settings)
            except config.ConfigException:
                pass
            else:
                return
        where = str(self._kubeconfig) if self._kubeconfig is not None else None
        await config.load_kube_config(config_file=where, context=self._context, client_configuration=settings, persist_config=False)


async def _line(stream: Any) -> bytes:
    """Return the next line of a watch, empty at its end and where it has fallen silent."""
    try:
        line: bytes = await stream.readline()
    except TimeoutError:
        return b""
    return line


def _event(request: Request, line: bytes) -> Json:
    event: Json = json.loads(line)
    if event["type"] == "ERROR":
        status = event["object"]
        raise Gone(str(status)) if status.get("code") == 410 else error_of(request, int(status.get("code") or 500), json.dumps(status))
    return event


def _text(error: Exception) -> str:
    return f"{type(error).__name__} {error}".rstrip()
