"""What an API server refuses with, as the domain's typed errors: each names the verb and the resource.

Owns the translation of a status code and its body; it must not retry. `api_server` raises these, `actuator` answers with them.
"""

import json
from dataclasses import dataclass

from controlplane.contracts.errors import SupplierError, SupplierUnavailable


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked, in RBAC's words. `resource` is such as `deployments.apps/scale`; `name` "" is all of them."""

    verb: str
    resource: str
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        """Print as `patch deployments.apps/scale serving/r1`."""
        where = f"{self.namespace}/{self.name}" if self.namespace and self.name else self.name or self.namespace
        return f"{self.verb} {self.resource} {where}".rstrip()


class Refused(SupplierError):
    """The request was understood and will not be done: not found, invalid, not supported.

    `asked_before`, here and below: it was asked before and the reply did not come, so that it may have been done then.
    """

    asked_before = False

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Forbidden(Refused):
    """Role-based access control does not let us."""


class SignedOut(SupplierUnavailable):
    """Nobody knows who we are (401): a token that has run out, or a server that cannot check it now. The next request signs in anew."""

    asked_before = False


class NotFound(Refused):
    """There is no such object or kind."""


class Conflict(SupplierUnavailable):
    """Somebody changed the object since it was read: read it again."""

    asked_before = False


class Gone(SupplierUnavailable):
    """The resource version is too old to go on from: list again."""


class Busy(SupplierUnavailable):
    """Throttled, failing inside, or not reachable. `wait_seconds` is what the server asked for, None where it did not say."""

    def __init__(self, message: str, wait_seconds: float | None = None) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


def changed_nothing(error: SupplierError) -> bool:
    """Return whether a request surely changed nothing: it was refused, and not asked before without a reply."""
    return isinstance(error, Conflict | Refused | SignedOut) and not error.asked_before


def error_of(request: Request, status: int, body: bytes | str, retry_after: str | None = None) -> SupplierError:
    """Return the typed error of an answer that is not a success."""
    said = _message(body) or f"status {status}"
    if status == 403:
        return Forbidden(f"not allowed to {request}: {said}", status)
    if status == 401:
        return SignedOut(f"not signed in, so not allowed to {request}: {said}")
    text = f"{request}: {said}"
    if status == 404:
        return NotFound(text, status)
    if status == 409:
        return Conflict(text)
    if status == 410:
        return Gone(text)
    if status == 429 or status >= 500:
        return Busy(f"{text} ({status})", _seconds(retry_after))
    return Refused(text, status)


def _message(body: bytes | str) -> str:
    """Return the `message` of a Status object, else the beginning of the text."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else body
    try:
        status = json.loads(text)
    except ValueError:
        return text.strip()[:200]
    return str(status.get("message") or status.get("reason") or "")[:300] if isinstance(status, dict) else ""


def _seconds(retry_after: str | None) -> float | None:
    """Return the seconds of a Retry-After header; a date there is not read, as API servers send seconds."""
    try:
        return max(float(retry_after), 0.0) if retry_after is not None else None
    except ValueError:
        return None
