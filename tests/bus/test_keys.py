"""Which keys a bucket has, on the real server, as often as one asks."""

from nats.aio.client import Client

from controlplane.bus.keys import entries, keys_ever
from controlplane.contracts.subjects import LEDGER_BUCKET

ASKED = 100


async def test_every_listing_has_every_key_that_is_not_deleted(client: Client) -> None:
    js = client.jetstream()
    store = await js.key_value(LEDGER_BUCKET)
    for number in range(5):
        await store.put(f"r1.offer-{number}", str(number).encode())
    await store.delete("r1.offer-1")
    await store.purge("r1.offer-3")
    for _ in range(ASKED):
        assert [(entry.key, entry.value) for entry in await entries(js, LEDGER_BUCKET)] == [
            ("r1.offer-0", b"0"),
            ("r1.offer-2", b"2"),
            ("r1.offer-4", b"4"),
        ]
    assert len(await keys_ever(js, LEDGER_BUCKET)) == 5


async def test_a_bucket_with_nothing_in_it_has_no_keys(client: Client) -> None:
    assert await entries(client.jetstream(), LEDGER_BUCKET) == []
