"""Snapshots: large ones, damaged ones, and two writers."""

import random

import pytest
from nats.aio.client import Client

from controlplane.bus.keys import keys_ever
from controlplane.bus.snapshots import CHUNK_BYTES, Snapshot, SnapshotStore
from controlplane.contracts.errors import SnapshotError
from controlplane.contracts.subjects import SNAPSHOT_BUCKET


def large(seed: int) -> bytes:
    return random.Random(seed).randbytes(3 * CHUNK_BYTES + 17)


async def test_large_states_come_back_whole_and_leave_no_old_chunks(client: Client) -> None:
    store = SnapshotStore(client, "planner", "r1")
    for number, state in enumerate([b"", large(1), large(2), b"small", large(3)]):
        assert await store.save(Snapshot(1, number, 7, state))
        assert await SnapshotStore(client, "planner", "r1").load(1) == Snapshot(1, number, 7, state)
    bucket = await client.jetstream().key_value(SNAPSHOT_BUCKET)
    assert len(await bucket.keys()) == 5, "one head and the chunks of the newest"


@pytest.mark.parametrize("first", [None, b"small", large(9)], ids=["no head", "small", "large"])
async def test_chunks_of_a_writer_that_was_killed_are_gone_with_the_next_snapshot(client: Client, first: bytes | None) -> None:
    bucket, other = await client.jetstream().key_value(SNAPSHOT_BUCKET), SnapshotStore(client, "planner", "r10")
    await other.save(Snapshot(1, 1, 7, large(8)))
    if first is not None:
        await SnapshotStore(client, "planner", "r1").save(Snapshot(1, 1, 7, first))
    for index in range(3):
        await bucket.put(f"planner.r1.0123456789ab.{index}", b"of a killed writer")
    store = SnapshotStore(client, "planner", "r1")
    before = await store.load(1)
    assert (before.state if before is not None else None) == first, "nothing is dropped before there is a newer one"
    assert await store.save(Snapshot(1, 2, 7, large(2)))
    kept = await keys_ever(client.jetstream(), SNAPSHOT_BUCKET)
    assert len([key for key in kept if key.startswith("planner.r1.")]) == 4
    assert len(kept) == 10
    assert await store.load(1) == Snapshot(1, 2, 7, large(2))
    assert await other.load(1) == Snapshot(1, 1, 7, large(8))


async def test_chunks_of_a_writer_that_overtook_us_stay(client: Client) -> None:
    ours, theirs = SnapshotStore(client, "planner", "r1"), SnapshotStore(client, "planner", "r1")
    await theirs.save(Snapshot(1, 10, 7, b"x"))
    await ours.load(1)
    await theirs.save(Snapshot(1, 20, 7, large(1)))
    assert not await ours.save(Snapshot(1, 15, 7, large(2)))
    assert await ours.load(1) == Snapshot(1, 20, 7, large(1))


async def test_none_is_none(client: Client) -> None:
    assert await SnapshotStore(client, "planner", "r1").load(1) is None


async def test_another_version_is_refused_and_may_be_overwritten(client: Client) -> None:
    await SnapshotStore(client, "planner", "r1").save(Snapshot(1, 10, 7, b"x"))
    store = SnapshotStore(client, "planner", "r1")
    with pytest.raises(SnapshotError, match="has version 1, this program reads 2"):
        await store.load(2)
    assert await store.save(Snapshot(2, 11, 7, b"y"))


async def test_a_writer_that_was_overtaken_changes_nothing(client: Client) -> None:
    ours, theirs = SnapshotStore(client, "planner", "r1"), SnapshotStore(client, "planner", "r1")
    await ours.save(Snapshot(1, 10, 7, b"x"))
    await theirs.load(1)
    await theirs.save(Snapshot(1, 20, 7, b"y"))
    assert not await ours.save(Snapshot(1, 15, 7, large(1)))
    assert await ours.load(1) == Snapshot(1, 20, 7, b"y")


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]\n", b'{"layout": 9}\n'])
async def test_what_is_no_snapshot_is_refused(client: Client, body: bytes) -> None:
    bucket = await client.jetstream().key_value(SNAPSHOT_BUCKET)
    await bucket.put("planner.r1", body)
    with pytest.raises(SnapshotError):
        await SnapshotStore(client, "planner", "r1").load(1)


async def test_a_missing_chunk_is_noticed(client: Client) -> None:
    await SnapshotStore(client, "planner", "r1").save(Snapshot(1, 10, 7, large(1)))
    bucket = await client.jetstream().key_value(SNAPSHOT_BUCKET)
    chunk = next(key for key in await bucket.keys() if key.endswith(".1"))
    await bucket.delete(chunk)
    with pytest.raises(SnapshotError, match="chunk 1 is not there"):
        await SnapshotStore(client, "planner", "r1").load(1)
