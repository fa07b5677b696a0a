"""Snapshots of a fold's state in KV: schema version, the last stream sequence folded, and the state's bytes.

Owns their layout: a small head that is compared and set, and chunks where the state is larger than a message may be. A snapshot that
is not whole, or of another version, is refused: the state is then rebuilt from the stream. `fold` reads and writes them.
"""

import hashlib
import json
import secrets
import zlib
from collections.abc import Collection
from dataclasses import dataclass

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.kv import KeyValue

from controlplane.bus.keys import keys_ever
from controlplane.contracts.errors import BusError, SnapshotError
from controlplane.contracts.subjects import SNAPSHOT_BUCKET

# Every server takes a message of 1 MiB; the rest of it is left for headers.
CHUNK_BYTES = 768 * 1024
LAYOUT = 1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state and how far it was folded. `epoch` names the life of the stream that `sequence` counts in."""

    version: int
    sequence: int
    epoch: int
    state: bytes


class SnapshotStore:
    """The snapshots of one service and fleet. A store remembers the revision it saw last, and overwrites no other."""

    def __init__(self, client: Client, service: str, fleet: str) -> None:
        self._js = client.jetstream()
        self._key = f"{service}.{fleet}"
        self._revision = 0
        self._writer = secrets.token_hex(8)
        self._slot = ""
        self._chunks = 0
        self._left: list[str] = []

    async def load(self, version: int) -> Snapshot | None:
        """Return the newest snapshot, None if there is none; SnapshotError if it is damaged or not of `version`."""
        try:
            bucket = await self._js.key_value(SNAPSHOT_BUCKET)
            self._left = await keys_ever(self._js, SNAPSHOT_BUCKET, f"{self._key}.")
            entry = await self._entry(bucket, self._key)
            if entry is None:
                return None
            self._revision = entry.revision or 0
            head, inline = self._head(entry.value or b"")
            self._slot, self._chunks = str(head["slot"]), int(head["chunks"])
            if int(head["version"]) != version:
                raise SnapshotError(f"the snapshot {self._key} has version {head['version']}, this program reads {version}")
            packed = inline + b"".join([await self._chunk(bucket, index) for index in range(self._chunks)])
        except (nats.errors.Error, TimeoutError) as error:
            raise BusError(f"the snapshot {self._key} cannot be read: {error}") from error
        if hashlib.sha256(packed).hexdigest() != head["sha256"]:
            raise SnapshotError(f"the snapshot {self._key} is damaged: its checksum does not fit")
        return Snapshot(version, int(head["sequence"]), int(head["epoch"]), zlib.decompress(packed))

    async def save(self, snapshot: Snapshot) -> bool:
        """Write a snapshot; False, and nothing changed, when another writer was there since: it is ahead of us."""
        packed = zlib.compress(snapshot.state, 1)
        chunks = [packed[at : at + CHUNK_BYTES] for at in range(0, len(packed), CHUNK_BYTES)] if len(packed) > CHUNK_BYTES else []
        slot = secrets.token_hex(6) if chunks else ""
        head = {
            "layout": LAYOUT,
            "version": snapshot.version,
            "sequence": snapshot.sequence,
            "epoch": snapshot.epoch,
            "sha256": hashlib.sha256(packed).hexdigest(),
            "slot": slot,
            "chunks": len(chunks),
            "writer": self._writer,
        }
        value = json.dumps(head).encode() + b"\n" + (b"" if chunks else packed)
        try:
            bucket = await self._js.key_value(SNAPSHOT_BUCKET)
            for key, chunk in zip(self._chunk_keys(slot, len(chunks)), chunks, strict=True):
                await bucket.put(key, chunk)
            self._revision = await self._set_head(bucket, value)
        except nats.js.errors.KeyWrongLastSequenceError:
            await self._drop(self._chunk_keys(slot, len(chunks)))
            return False
        except (nats.errors.Error, TimeoutError) as error:
            raise BusError(f"the snapshot {self._key} cannot be written: {error}") from error
        # What others had begun to write when we loaded no head can name any more: ours has just overtaken them.
        await self._drop({*self._chunk_keys(self._slot, self._chunks), *self._left})
        self._slot, self._chunks, self._left = slot, len(chunks), []
        return True

    async def _set_head(self, bucket: KeyValue, value: bytes) -> int:
        try:
            if not self._revision:
                return await bucket.create(self._key, value)
            return await bucket.update(self._key, value, last=self._revision)
        except nats.js.errors.KeyWrongLastSequenceError:
            entry = await self._entry(bucket, self._key)
            if entry is None or self._head(entry.value or b"")[0]["writer"] != self._writer:
                raise
            # Our own earlier write, whose answer was lost.
            return await bucket.update(self._key, value, last=entry.revision)

    def _chunk_keys(self, slot: str, chunks: int) -> list[str]:
        return [f"{self._key}.{slot}.{index}" for index in range(chunks)]

    async def _drop(self, keys: Collection[str]) -> None:
        """Purge chunks that no head names any more. One that is left behind does no harm: the next process's first save drops it."""
        for key in keys:
            try:
                await self._js.purge_stream(f"KV_{SNAPSHOT_BUCKET}", subject=f"$KV.{SNAPSHOT_BUCKET}.{key}")
            except (nats.errors.Error, TimeoutError):
                return

    async def _chunk(self, bucket: KeyValue, index: int) -> bytes:
        entry = await self._entry(bucket, f"{self._key}.{self._slot}.{index}")
        if entry is None:
            raise SnapshotError(f"the snapshot {self._key} is damaged: chunk {index} is not there")
        return entry.value or b""

    def _head(self, value: bytes) -> tuple[dict[str, int | str], bytes]:
        line, _, inline = value.partition(b"\n")
        try:
            head = json.loads(line)
            if head["layout"] != LAYOUT:
                raise SnapshotError(f"the snapshot {self._key} has layout {head['layout']}, this program reads {LAYOUT}")
            return {name: head[name] for name in ("version", "sequence", "epoch", "sha256", "slot", "chunks", "writer")}, inline
        except (ValueError, KeyError, TypeError) as error:
            raise SnapshotError(f"{self._key} in the bucket {SNAPSHOT_BUCKET} is not a snapshot") from error

    @staticmethod
    async def _entry(bucket: KeyValue, key: str) -> KeyValue.Entry | None:
        try:
            return await bucket.get(key)
        except (nats.js.errors.KeyNotFoundError, nats.js.errors.KeyDeletedError):
            return None
