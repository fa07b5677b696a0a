"""AWS calls through boto3, off the event loop, with its errors as the domain's own.

Owns clients, time limits and the table of error codes; it must not know an offer. `aws` buys through it. Credentials come from
boto3's own chain (environment, profile, role), never from a policy. Codes: https://docs.aws.amazon.com/ec2/latest/devguide/ec2-error-codes.html
"""

import asyncio
import threading
from collections.abc import Iterable, Mapping
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError, PartialCredentialsError

from controlplane.contracts.errors import AccessRefused, InsufficientCapacity, QuotaExceeded, SupplierError, SupplierUnavailable, Throttled

# A call that only reads or gives back is tried twice: at the worst 2 × (3 + 8) s and a pause, which the caller's time limit may cut off.
ATTEMPTS = 2
CONNECT_SECONDS, READ_SECONDS = 3, 8
# These are sent once. A second sending by botocore could buy again where there is no token, and would hide what became of the first: it
# reports its last error only, so that a purchase whose reply was lost would read as refused. `intents` asks again, under the same token.
BUYING = frozenset({"create_capacity_reservation", "create_fleet", "purchase_capacity_block", "run_instances"})

INSUFFICIENT = frozenset(
    {
        "InsufficientInstanceCapacity",
        "InsufficientCapacity",
        "InsufficientHostCapacity",
        "InsufficientReservedInstanceCapacity",
        "InsufficientFreeAddressesInSubnet",
        "ReservationCapacityExceeded",
        "SpotMaxPriceTooLow",
        "UnfulfillableCapacity",
        "Unsupported",
        "CapacityBlockOfferingNotFound",
    }
)
QUOTA = frozenset(
    {
        "InstanceLimitExceeded",
        "MaxFleetCountExceeded",
        "MaxSpotInstanceCountExceeded",
        "ReservedInstancesLimitExceeded",
        "ResourceCountExceeded",
        "VcpuLimitExceeded",
    }
)
THROTTLED = frozenset(
    {
        "EC2ThrottledException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
REFUSED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AuthFailure",
        "Blocked",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "OptInRequired",
        "PendingVerification",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnauthorizedOperation",
        "UnrecognizedClientException",
    }
)
NOT_THERE = frozenset({"InvalidCapacityReservationId.NotFound", "InvalidInstanceID.NotFound"})
# The token was used with other words: something was asked for, and only the listing says what came of it.
ASKED_BEFORE = frozenset({"IdempotentParameterMismatch", "IdempotentInstanceTerminated"})


class NotThere(SupplierError):
    """EC2 does not know it, or no longer."""


KINDS: tuple[tuple[frozenset[str], type[SupplierError]], ...] = (
    (INSUFFICIENT, InsufficientCapacity),
    (QUOTA, QuotaExceeded),
    (THROTTLED, Throttled),
    (REFUSED, AccessRefused),
    (NOT_THERE, NotThere),
)


def typed(code: str, message: str, status: int | None = None) -> SupplierError:
    """Return what an error code means; an unknown one without a server's status is a request that cannot be carried out."""
    text = f"{code}: {message}"
    for codes, kind in KINDS:
        if code in codes:
            return kind(text)
    if code in ASKED_BEFORE or (status is not None and status >= 500):
        return SupplierUnavailable(text)
    return SupplierError(text)


def most_telling(errors: Iterable[Mapping[str, Any]]) -> SupplierError:
    """Return what several pools' errors come to: a lack of stock anywhere outweighs the rest, as another hour may bring it.

    Each pool that a fleet tried answers for itself; the message names them all, each code once.
    """
    found = [typed(str(error.get("ErrorCode", "")), str(error.get("ErrorMessage", ""))) for error in errors]
    order = (InsufficientCapacity, QuotaExceeded, Throttled, AccessRefused, SupplierError)
    worst = min(found, key=lambda error: order.index(type(error)) if type(error) in order else len(order), default=None)
    if worst is None:
        return InsufficientCapacity("nothing was launched, and no pool says why")
    return type(worst)("; ".join(dict.fromkeys(str(error) for error in found)))


class AwsApi:
    """One region. `endpoint_url` None: AWS, or what AWS_ENDPOINT_URL names."""

    def __init__(self, region: str, endpoint_url: str | None = None, session: Any = None) -> None:
        """Make no connection yet; `session` is a boto3 session with credentials of its own."""
        self._session = session or boto3.session.Session(region_name=region)
        self._endpoint_url = endpoint_url
        self._clients: dict[tuple[str, int], Any] = {}
        self._lock = threading.Lock()

    def _client(self, service: str, attempts: int = ATTEMPTS) -> Any:
        with self._lock:  # making a client is not thread-safe, using one is
            if (service, attempts) not in self._clients:
                made = self._session.client(service, endpoint_url=self._endpoint_url, config=_config(attempts))
                self._clients[service, attempts] = made
            return self._clients[service, attempts]

    async def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """Return the answer of one operation; SupplierUnavailable where nobody knows what came of it."""
        return await asyncio.to_thread(self._call, service, operation, parameters)

    async def pages(self, service: str, operation: str, key: str, **parameters: Any) -> list[Any]:
        """Return the items under `key` of every page of an operation."""
        return await asyncio.to_thread(self._pages, service, operation, key, parameters)

    def _call(self, service: str, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        client = self._client(service, 1 if operation in BUYING else ATTEMPTS)
        try:
            answer: dict[str, Any] = getattr(client, operation)(**parameters)
        except (ClientError, BotoCoreError) as error:
            raise _typed(operation, error) from error
        return answer

    def _pages(self, service: str, operation: str, key: str, parameters: Mapping[str, Any]) -> list[Any]:
        try:
            pages = self._client(service).get_paginator(operation).paginate(**parameters)
            return [item for page in pages for item in page.get(key, ())]
        except (ClientError, BotoCoreError) as error:
            raise _typed(operation, error) from error

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            client.close()


def _config(attempts: int) -> Config:
    retries = {"total_max_attempts": attempts, "mode": "standard"}
    return Config(connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS, retries=retries, max_pool_connections=32)


def _typed(operation: str, error: Exception) -> SupplierError:
    if isinstance(error, ClientError):
        about = error.response.get("Error", {})
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return typed(str(about.get("Code", "")), f"{operation}: {about.get('Message', '')}", status)
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return AccessRefused(f"{operation}: {error}")
    if isinstance(error, ParamValidationError):  # nothing was sent
        return SupplierError(f"{operation}: {error}")
    return SupplierUnavailable(f"{operation}: {type(error).__name__} {error}")
