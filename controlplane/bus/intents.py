"""Purchase intents in KV, the newest per fleet and offer, written with compare-and-set before a supplier is asked.

Owns only their storage, behind `actuators.api.IntentStore`; numbering, tokens and what a state means belong to the actuators.
"""

import json
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import asdict, fields, replace

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.kv import KeyValue

from actuators.api import Intent, IntentConflict
from controlplane.contracts.errors import BusError
from controlplane.contracts.subjects import INTENT_BUCKET


class KvIntentStore:
    """An IntentStore over the bucket of intents. BusError when NATS does not answer: nothing may be bought then."""

    def __init__(self, client: Client) -> None:
        self._js = client.jetstream()

    async def latest(self, fleet: str, offer: str) -> Intent | None:
        """Return the newest intent of an offer, None if there never was one."""
        entry = await self._asked(fleet, offer, lambda bucket: _entry(bucket, _key(fleet, offer)))
        return None if entry is None else _intent(fleet, offer, entry)

    async def put(self, intent: Intent) -> Intent:
        """Write the intent as the successor of revision `intent.revision` (0: there was none); IntentConflict if another came first."""
        key = _key(intent.fleet, intent.offer)
        # The writer's mark tells our own write, whose answer was lost, from one that says the same but is another's.
        mark = secrets.token_hex(8)
        body = {**asdict(intent), "mark": mark}

        async def write(bucket: KeyValue) -> int:
            try:
                value = json.dumps(body).encode()
                return await (bucket.update(key, value, last=intent.revision) if intent.revision else bucket.create(key, value))
            except (nats.js.errors.KeyWrongLastSequenceError, nats.errors.TimeoutError) as error:
                there = await _entry(bucket, key)
                if there is not None and json.loads(there.value or b"{}").get("mark") == mark:
                    return there.revision or 0
                if isinstance(error, nats.errors.TimeoutError):
                    raise
                raise IntentConflict(f"the intent of {intent.fleet}/{intent.offer} is no longer at revision {intent.revision}") from error

        return replace(intent, revision=await self._asked(intent.fleet, intent.offer, write))

    async def _asked[T](self, fleet: str, offer: str, question: Callable[[KeyValue], Awaitable[T]]) -> T:
        try:
            return await question(await self._js.key_value(INTENT_BUCKET))
        except (nats.errors.Error, OSError, TimeoutError) as error:
            text = str(error) or type(error).__name__
            raise BusError(f"the purchase intents of {fleet}/{offer} cannot be reached: {text}") from error


def _key(fleet: str, offer: str) -> str:
    return f"{fleet}.{offer}"


async def _entry(bucket: KeyValue, key: str) -> KeyValue.Entry | None:
    try:
        return await bucket.get(key)
    except (nats.js.errors.KeyNotFoundError, nats.js.errors.KeyDeletedError):
        return None


def _intent(fleet: str, offer: str, entry: KeyValue.Entry) -> Intent:
    body = json.loads(entry.value or b"{}")
    known = {field.name for field in fields(Intent)} & body.keys()
    stored = {name: body[name] for name in known} | {"replicas": tuple(body.get("replicas", ()))}
    return Intent(**{**stored, "fleet": fleet, "offer": offer, "revision": entry.revision or 0})
