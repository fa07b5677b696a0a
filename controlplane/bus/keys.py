"""The keys of a KV bucket, for certain.

The client's own `keys()` listens until it has heard them all, and takes a listing that comes before it has listened for one that is
empty: one in some tens is. Here the server is asked which keys there are, and each for its newest value.
"""

import contextlib

from nats.js import JetStreamContext
from nats.js.errors import KeyNotFoundError
from nats.js.kv import KeyValue


async def keys_ever(js: JetStreamContext, bucket: str, under: str = "") -> list[str]:
    """Return every key in order, those among them that were deleted; the client's errors where NATS is away.

    `under` "planner.r1." leaves out all that do not begin so.
    """
    prefix = f"$KV.{bucket}."
    info = await js.stream_info(f"KV_{bucket}", subjects_filter=f"{prefix}{under}>")
    return sorted(subject.removeprefix(prefix) for subject in info.state.subjects or {})


async def entries(js: JetStreamContext, bucket: str) -> list[KeyValue.Entry]:
    """Return the newest entry of every key that is not deleted, in the order of the keys; the client's errors where NATS is away."""
    store = await js.key_value(bucket)
    found = []
    for key in await keys_ever(js, bucket):
        with contextlib.suppress(KeyNotFoundError):
            found.append(await store.get(key))
    return found
