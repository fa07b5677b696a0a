"""Read a request's body: all of it in time, or not at all.

Owns the size limit and the time-out against senders that trickle; it must not look inside. `routes` turns a refusal into its status.
"""

import asyncio
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request

from controlplane.web.settings import Limits


@dataclass(frozen=True, slots=True)
class Refusal:
    """A body that was not taken: an HTTP status and a word for the sender."""

    status: int
    error: str


async def read_body(request: Request, limits: Limits) -> bytes | Refusal:
    """Return the body, or why it is refused: 413 too large, 408 too slow, 415 not JSON, 400 broken off."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        # A web page that someone opens here can post plain text to loopback without asking; JSON it cannot.
        return Refusal(415, "send application/json")
    stated = request.headers.get("content-length", "0")
    if stated.isdecimal() and int(stated[:18]) > limits.body_bytes:
        return Refusal(413, f"the body is larger than {limits.body_bytes} bytes")
    chunks, size = [], 0
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limits.body_bytes:
                    return Refusal(413, f"the body is larger than {limits.body_bytes} bytes")
                chunks.append(chunk)
    except TimeoutError:
        return Refusal(408, f"the body did not arrive within {limits.body_seconds:g} s")
    except ClientDisconnect:
        return Refusal(400, "the body broke off")
    return b"".join(chunks)
