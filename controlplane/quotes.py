"""Prices, stock and lead times that a file or an HTTP address tells, as Quotes.

Owns the reading of one JSON shape, from a file or by HTTP, and that a bad source keeps the last word rather than inventing one.
It must not publish; `controlplane.services.quoter` does. A price that the policy states needs no source; actuators quote for themselves.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from controlplane.contracts.errors import TidegateError
from controlplane.contracts.events import Quote
from controlplane.contracts.units import Count, Name, NonNegative, Time, from_unix

TIMEOUT_SECONDS = 5.0
LARGEST_BYTES = 1024 * 1024
DEFAULT_LIFE_SECONDS = 600.0


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
    """A JSON document at an address. A bearer token comes as a value, and is never part of a message."""

    def __init__(self, url: str, token: str | None = None, transport: httpx.AsyncBaseTransport | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.AsyncClient(timeout=TIMEOUT_SECONDS, headers=headers, transport=transport)
        self._url = url

    async def read(self) -> bytes:
        """Return the document, at most `LARGEST_BYTES` of it."""
        host = httpx.URL(self._url).host
        try:
            async with self._client.stream("GET", self._url) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise QuoteError(f"{host} answered {answer.status_code}")
                body = bytearray()
                async for chunk in answer.aiter_bytes():
                    body += chunk
                    if len(body) > LARGEST_BYTES:
                        raise QuoteError(f"{host} sends more than {LARGEST_BYTES} bytes")
                return bytes(body)
        except httpx.HTTPError as error:
            raise QuoteError(f"{host} does not answer: {type(error).__name__}") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def source_of(text: str, token: str | None = None) -> QuoteSource:
    """Return the source that an option names: an http(s) address, or a file."""
    if text.startswith(("http://", "https://")):
        return HttpQuotes(text, token)
    return FileQuotes(Path(text).expanduser())


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
