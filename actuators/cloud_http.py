"""JSON over HTTP to a GPU cloud: its key, its pace, and what a status leaves open.

Owns the way there and back only; what an answer means is the cloud's own module's to say (`lambda_cloud`, `runpod`). A key is read anew for
each call, and is never part of a message.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from controlplane.contracts.errors import AccessRefused, SupplierUnavailable

TIMEOUT_SECONDS = 8.0
UNSETTLED = (httpx.codes.REQUEST_TIMEOUT, httpx.codes.CONFLICT, httpx.codes.TOO_EARLY)
Secret = Callable[[str], str | None]


class ApiKey:
    """A cloud's API key, out of the environment variable or the file that the policy names; read anew each time, so it can be rotated."""

    def __init__(self, options: Mapping[str, Any], secret: Secret) -> None:
        """Keep the names, never the key."""
        self._variable, self._file, self._secret = str(options.get("api_key_env") or ""), options.get("api_key_file"), secret

    def headers(self) -> dict[str, str]:
        """Return the header that signs a request in; AccessRefused where there is no key."""
        if self._file:
            try:
                key = Path(str(self._file)).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise AccessRefused(f"the API key file {self._file} cannot be read: {type(error).__name__}") from error
        else:
            key = (self._secret(self._variable) or "").strip()
        if not (key and key.isascii() and key.isprintable()):
            raise AccessRefused(f"there is no API key in {self._file or self._variable}, or none that a header can hold")
        return {"Authorization": f"Bearer {key}"}


class Pace:
    """Turns at one account: at most a call every `seconds`, in the order in which they were asked for. `clock` is seconds of any kind."""

    def __init__(
        self,
        seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Let the first go at once."""
        self._seconds, self._clock, self._sleep = seconds, clock, sleep
        self._next = 0.0

    async def turn(self) -> None:
        """Wait for the next turn."""
        now = self._clock()
        at = max(now, self._next)
        self._next = at + self._seconds
        if at > now:
            await self._sleep(at - now)


class HttpApi:
    """JSON over HTTP. What went wrong on the way is SupplierUnavailable; answers are the caller's to judge."""

    def __init__(self, url: str, key: ApiKey, client: httpx.AsyncClient | None = None, pace: Pace | None = None) -> None:
        """Speak to `url`."""
        self._url, self._key, self._pace = url.rstrip("/"), key, pace or Pace()
        self._client = client or httpx.AsyncClient(timeout=TIMEOUT_SECONDS)

    async def call(self, method: str, path: str, **arguments: Any) -> tuple[httpx.Response, Any]:
        """Return an answer and its JSON body, an empty mapping where it has none or is a refusal in other words: a proxy's page."""
        await self._pace.turn()
        try:
            answer = await self._client.request(method, self._url + path, headers=self._key.headers(), **arguments)
        except httpx.HTTPError as error:
            raise SupplierUnavailable(f"{method} {path}: {type(error).__name__}") from error
        try:
            return answer, answer.json() if answer.content else {}
        except ValueError as error:
            if not answer.is_success:
                return answer, {}
            raise SupplierUnavailable(f"{method} {path}: {answer.status_code}, and no JSON") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def leaves_unknown(status: int) -> bool:
    """Whether an HTTP status leaves open what became of a request: a proxy's or a server's, after the request may have gone through."""
    return status in UNSETTLED or status >= httpx.codes.INTERNAL_SERVER_ERROR
