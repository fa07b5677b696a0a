"""Snapshots: a state of arrays to bytes and back, refused clearly when they are of another version or another method.

Owns the format: a magic, a JSON header (format, kind, settings, array shapes), a digest, then the arrays' bytes.
It must not interpret a state; any dataclass of arrays, nested or in a dict, will do.
"""

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from controlplane.contracts.errors import SnapshotError

MAGIC = b"tidegate-forecast\n"
FORMAT = 4
DIGEST_BYTES = 16


def pack(kind: str, settings: str, fleets: int, state: object) -> bytes:
    """Return the snapshot of a state; `kind` and `settings` must be the same to load it again."""
    leaves = dict(_leaves("", state))
    header = {
        "format": FORMAT,
        "kind": kind,
        "settings": settings,
        "fleets": fleets,
        "arrays": [[path, leaf.dtype.str, list(leaf.shape)] for path, leaf in leaves.items()],
    }
    body = json.dumps(header).encode() + b"\n" + b"".join(np.ascontiguousarray(leaf).tobytes() for leaf in leaves.values())
    return MAGIC + blake2b(body, digest_size=DIGEST_BYTES).digest() + body


def read_header(snapshot: bytes, kind: str, settings: str) -> tuple[int, dict[str, Any], memoryview]:
    """Return the number of fleets, the header and the arrays' bytes; SnapshotError says what is wrong."""
    if not snapshot.startswith(MAGIC):
        raise SnapshotError("not a forecaster's snapshot; rebuild the forecast from history")
    digest = snapshot[len(MAGIC) : len(MAGIC) + DIGEST_BYTES]
    body = snapshot[len(MAGIC) + DIGEST_BYTES :]
    if blake2b(body, digest_size=DIGEST_BYTES).digest() != digest:
        raise SnapshotError("the forecaster's snapshot is damaged (its digest does not fit); rebuild the forecast from history")
    line, _, rest = body.partition(b"\n")
    header = json.loads(line)
    for name, wanted in (("format", FORMAT), ("kind", kind), ("settings", settings)):
        if header.get(name) != wanted:
            raise SnapshotError(f"snapshot has {name} {header.get(name)!r}, this is {wanted!r}; rebuild the forecast from history")
    return int(header["fleets"]), header, memoryview(rest)


def unpack(header: dict[str, Any], data: memoryview, state: object) -> None:
    """Fill a fresh state's arrays from a snapshot, in place; SnapshotError where a shape differs."""
    leaves = dict(_leaves("", state))
    if [name for name, _, _ in header["arrays"]] != list(leaves):
        raise SnapshotError("the snapshot holds other arrays than this version's state; rebuild the forecast from history")
    start = 0
    for name, kind, shape in header["arrays"]:
        leaf = leaves[name]
        if leaf.dtype.str != kind or list(leaf.shape) != shape:
            raise SnapshotError(f"snapshot array {name} is {kind}{shape}, this version's is {leaf.dtype.str}{list(leaf.shape)}")
        leaf[...] = np.frombuffer(data[start : start + leaf.nbytes], dtype=leaf.dtype).reshape(leaf.shape)
        start += leaf.nbytes


def _leaves(path: str, node: object) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    if isinstance(node, np.ndarray):
        yield path, node
    elif isinstance(node, dict):
        for key in sorted(node):
            yield from _leaves(f"{path}/{key}", node[key])
    elif is_dataclass(node) and not isinstance(node, type):
        for item in fields(node):
            yield from _leaves(f"{path}/{item.name}", getattr(node, item.name))
