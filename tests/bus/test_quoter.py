"""The quoter on the real server: what a policy states and what an address tells become one quote for each offer."""

import asyncio
import json

import httpx
from nats.aio.client import Client

from controlplane.bus.watch import newest
from controlplane.clocks import SystemClock
from controlplane.contracts.events import Quote
from controlplane.contracts.fleet import Fleet, Slo, Unit
from controlplane.contracts.subjects import INPUTS_STREAM, QUOTE
from controlplane.quotes import HttpQuotes, source_in
from controlplane.services.quoter import Quoter
from tests.contract.actuator_rigs import offer_with


async def test_an_offer_has_one_quote_however_many_sources_know_it(client: Client) -> None:
    offer = offer_with()
    told = {
        "quotes": [{"offer": offer.name, "usd_per_replica_hour": 7.5, "stock_replicas": 99}, {"offer": "another's", "stock_replicas": 1}]
    }
    answers = [httpx.Response(200, content=json.dumps({"quotes": told["quotes"][:1]})), httpx.Response(503), httpx.Response(503)]
    asked = HttpQuotes(
        "http://prices/quotes", transport=httpx.MockTransport(lambda _request: answers.pop(0) if answers else httpx.Response(503))
    )
    stated = source_in({"static": [{"offer": offer.name, "stock_replicas": 8}]})
    fleet = Fleet("r1", Slo(0.99), Unit.REQUESTS, (offer,))
    quoter = Quoter(client, fleet, (stated, asked), SystemClock(), period_seconds=0.02)
    running = asyncio.create_task(quoter.run())
    while answers:
        await asyncio.sleep(0.02)
    quoter.stop()
    await running
    said = await newest(client, INPUTS_STREAM, QUOTE.format(offer=offer.name))
    assert isinstance(said, Quote)
    assert (said.stock_replicas, said.usd_per_replica_hour) == (8, 7.5), "an address that falls silent leaves its price to expire"
    assert (await client.jetstream().stream_info(INPUTS_STREAM)).state.messages == 1
    await asked.close()
