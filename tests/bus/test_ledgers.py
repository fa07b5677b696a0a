"""Ledgers in KV on the real server."""

from nats.aio.client import Client

from controlplane.bus.ledgers import KvLedgerStore


async def test_the_last_ledger_comes_back_to_whoever_asks_next(client: Client) -> None:
    assert await KvLedgerStore(client).read("r1", "rented--lambda") is None
    for text in ("{}", '{"leases": {}}'):
        await KvLedgerStore(client).write("r1", "rented--lambda", text)
    assert await KvLedgerStore(client).read("r1", "rented--lambda") == '{"leases": {}}'
    assert await KvLedgerStore(client).read("r1", "other") is None
