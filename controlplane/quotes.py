"""Prices, stock and lead times that a file or an HTTP address tells, or a policy states, as Quotes.

Owns the reading of one JSON shape, wherever it comes from, and that a bad source keeps the last word rather than inventing one.
It must not publish; `controlplane.services.quoter` does. An offer's own price needs no source; actuators quote for themselves.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from controlplane.config import read_secret
from controlplane.contracts.errors import PolicyError, TidegateError
from controlplane.contracts.events import Quote
from controlplane.contracts.units import Count, Name, NonNegative, Time, from_unix

TIMEOUT_SECONDS = 5.0
# Who drips an answer keeps within every other time-out, and the other sources waiting.
WHOLE_SECONDS = 10.0
LARGEST_BYTES = 1024 * 1024
DEFAULT_LIFE_SECONDS = 600.0
ADDRESSES = ("http://", "https://")


class QuoteError(TidegateError):
    """A source of quotes that does not answer, or not with quotes."""


class QuotedLine(BaseModel):
    """One offer's quote in a source. Fields left out or null are unknown. Without `expires` it holds ten minutes from when it was read."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    offer: Name
    usd_per_replica_hour: NonNegative | None = None
    usd_per_unit: NonNegative | None = None
    stock_replicas: Count | None = None
    lead_time_seconds: NonNegative | None = None
    expires: Time | None = None


class QuotedLines(BaseModel):
    """The whole of a source."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    quotes: tuple[QuotedLine, ...] = Field(description="one for each offer")


class QuoteSource(Protocol):
    """Where quotes come from."""

    async def read(self) -> bytes:
        """Return the source's JSON; QuoteError when it cannot be had."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class StatedQuotes:
    """Quotes that a policy states: lines of the document, in its own words."""

    def __init__(self, lines: Sequence[Mapping[str, Any]]) -> None:
        self._document = json.dumps({"quotes": lines}).encode()

    async def read(self) -> bytes:
        """Return the document."""
        return self._document

    async def close(self) -> None:
        """Nothing is open."""


class FileQuotes:
    """A JSON file, read anew each time: whoever writes it should replace it in one step."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def read(self) -> bytes:
        """Return the file."""
        try:
            if self._path.stat().st_size > LARGEST_BYTES:
                raise QuoteError(f"{self._path.name} is larger than {LARGEST_BYTES} bytes")
            return self._path.read_bytes()
        except OSError as error:
            raise QuoteError(f"{self._path.name} cannot be read: {error.strerror}") from error

    async def close(self) -> None:
        """Nothing is open."""


class HttpQuotes:
    """A JSON document at an address. A bearer token, a value or in a file that is read each time, is never part of a message."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        token_file: Path | None = None,
        whole_seconds: float = WHOLE_SECONDS,
    ) -> None:
        self._whole_seconds = whole_seconds
        self._client = httpx.AsyncClient(timeout=TIMEOUT_SECONDS, transport=transport)
        self._url, self._token, self._token_file = url, token, token_file

    async def read(self) -> bytes:
        """Return the document, at most `LARGEST_BYTES` of it."""
        host = httpx.URL(self._url).host
        try:
            async with asyncio.timeout(self._whole_seconds):
                return await self._fetched(host)
        except (httpx.HTTPError, TimeoutError, UnicodeEncodeError) as error:
            raise QuoteError(f"{host} does not answer: {type(error).__name__}") from error

    async def _fetched(self, host: str) -> bytes:
        async with self._client.stream("GET", self._url, headers=self._headers()) as answer:
            if answer.status_code != httpx.codes.OK:
                raise QuoteError(f"{host} answered {answer.status_code}")
            body = bytearray()
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > LARGEST_BYTES:
                    raise QuoteError(f"{host} sends more than {LARGEST_BYTES} bytes")
            return bytes(body)

    def _headers(self) -> dict[str, str]:
        try:
            token = self._token if self._token_file is None else self._token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise QuoteError(f"the bearer token file {self._token_file} cannot be read: {type(error).__name__}") from error
        return {"Authorization": f"Bearer {token}"} if token else {}

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def source_of(text: str, token: str | None = None) -> QuoteSource:
    """Return the source that an option names: an http(s) address, or a file."""
    if text.startswith(ADDRESSES):
        return HttpQuotes(text, token)
    return FileQuotes(Path(text).expanduser())


def source_in(block: Mapping[str, Any], secret: Callable[[str], str | None] = read_secret) -> QuoteSource:
    """Return the source that an entry of a policy's `quotes` names; PolicyError where its token's variable is not set."""
    if "static" in block:
        return StatedQuotes(block["static"])
    if "file" in block:
        return FileQuotes(Path(block["file"]["path"]).expanduser())
    http = block["http"]
    name, token_file = http.get("bearer_token_env"), http.get("bearer_token_file")
    token = secret(name) if name else None
    if name and token is None:
        raise PolicyError(f"spec.quotes: the environment variable {name}, which holds the token of {http['url']}, is not set")
    return HttpQuotes(http["url"], token, token_file=Path(token_file).expanduser() if token_file else None)


def require_files(texts: Sequence[str], blocks: Sequence[Mapping[str, Any]] = ()) -> None:
    """Raise QuoteError where a file that an option or a policy names is not there: a typing error must not pass for a price unknown."""
    named = [text for text in texts if not text.startswith(ADDRESSES)] + [block["file"]["path"] for block in blocks if "file" in block]
    missing = [name for name in named if not Path(name).expanduser().is_file()]
    if missing:
        raise QuoteError(f"there is no file of quotes {', '.join(missing)}; name a JSON file that is there, or an http(s) address")


def quotes_of(body: bytes, offers: Sequence[str], now_unix: float) -> tuple[Quote, ...]:
    """Return the quotes in a document for these offers; one that has expired says that price and stock are unknown."""
    try:
        lines = QuotedLines.model_validate_json(body).quotes
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise QuoteError(f"not quotes: {where}: {first['msg']}") from error
    by_offer: Mapping[str, QuotedLine] = {line.offer: line for line in lines}
    return tuple(_quote(by_offer[name], now_unix) for name in offers if name in by_offer)


def _quote(line: QuotedLine, now_unix: float) -> Quote:
    expires = line.expires if line.expires is not None else from_unix(now_unix + DEFAULT_LIFE_SECONDS)
    return Quote(time=from_unix(now_unix), **{**line.model_dump(), "expires": expires})
