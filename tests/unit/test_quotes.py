"""Quotes from files and addresses: what is right is taken, what is not keeps the last word, and unknown is never zero."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from controlplane.contracts.errors import PolicyError
from controlplane.contracts.events import Quote
from controlplane.contracts.units import from_unix
from controlplane.quotes import FileQuotes, HttpQuotes, QuoteError, quotes_of, require_files, source_in, source_of
from controlplane.services.quoter import joined

NOW = 1_700_000_000.0
DOCUMENT = {
    "updated": "whenever",
    "quotes": [
        {"offer": "rented", "usd_per_replica_hour": 7.5, "stock_replicas": 4, "lead_time_seconds": 480, "expires": "2023-11-14T23:00:00Z"},
        {"offer": "hosted", "usd_per_unit": 0.004},
        {"offer": "of-somebody-else", "usd_per_replica_hour": 1},
    ],
}


def test_the_offers_asked_for_are_quoted() -> None:
    rented, hosted = quotes_of(json.dumps(DOCUMENT).encode(), ["rented", "hosted", "not-quoted"], NOW)
    assert (rented.offer, rented.usd_per_replica_hour, rented.stock_replicas, rented.lead_time_seconds) == ("rented", 7.5, 4, 480.0)
    assert (hosted.usd_per_unit, hosted.usd_per_replica_hour, hosted.stock_replicas) == (0.004, None, None)
    assert hosted.expires is not None
    assert hosted.expires.timestamp() == NOW + 600.0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"quotes": 3}',
        b'{"quotes": [{"offer": "a", "usd_per_replica_hour": -1}]}',
        b'{"quotes": [{"offer": "a", "usd": 1}]}',
        b"\xff",
    ],
)
def test_what_is_no_quote_is_an_error(body: bytes) -> None:
    with pytest.raises(QuoteError):
        quotes_of(body, ["a"], NOW)


async def test_a_file_is_read_anew(tmp_path) -> None:
    path = tmp_path / "quotes.json"
    source = source_of(str(path))
    assert isinstance(source, FileQuotes)
    with pytest.raises(QuoteError, match=r"quotes\.json"):
        await source.read()
    path.write_text("{}")
    assert await source.read() == b"{}"
    path.write_text("x" * 2_000_000)
    with pytest.raises(QuoteError, match="larger"):
        await source.read()


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (lambda request: httpx.Response(503), "503"),
        (lambda request: httpx.Response(200, content=b"x" * 2_000_000), "more than"),
    ],
)
async def test_an_address_that_does_not_answer_as_it_should_is_said_without_its_secrets(answer, word) -> None:
    source = HttpQuotes("http://user:secret@prices/quotes", "t0ken", httpx.MockTransport(answer))
    with pytest.raises(QuoteError, match=word) as caught:
        await source.read()
    assert "secret" not in str(caught.value)
    await source.close()


async def test_an_address_that_drips_its_answer_is_left_in_time() -> None:
    async def drip() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b" "
            await asyncio.sleep(0.05)

    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=drip()))
    source = HttpQuotes("http://prices/quotes", transport=transport, whole_seconds=0.2)
    with pytest.raises(QuoteError, match="prices does not answer: TimeoutError"):
        await source.read()
    await source.close()


async def test_a_token_that_fits_into_no_header_is_not_repeated() -> None:
    source = HttpQuotes("http://prices/quotes", "not-a-secret-of-ånybody", httpx.MockTransport(lambda request: httpx.Response(200)))
    with pytest.raises(QuoteError, match="does not answer") as caught:
        await source.read()
    assert "nybody" not in str(caught.value)
    await source.close()


async def test_an_address_is_asked_with_its_token() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=request.headers["authorization"])

    source = HttpQuotes("http://prices/quotes", "t0ken", httpx.MockTransport(answer))
    assert await source.read() == b"Bearer t0ken"
    await source.close()


async def test_what_a_policy_states_is_a_source_like_any_other() -> None:
    source = source_in({"static": [{"offer": "rented", "stock_replicas": 8}, {"offer": "other", "usd_per_replica_hour": 2.0}]})
    (quote,) = quotes_of(await source.read(), ["rented"], NOW)
    assert (quote.stock_replicas, quote.usd_per_replica_hour) == (8, None)
    await source.close()


async def test_a_token_of_the_policy_comes_from_a_variable_or_is_read_anew_from_its_file(tmp_path) -> None:
    block = {"http": {"url": "http://prices/quotes", "bearer_token_env": "PRICES_TOKEN"}}
    with pytest.raises(PolicyError, match="PRICES_TOKEN, which holds the token of"):
        source_in(block, {}.get)
    await source_in(block, {"PRICES_TOKEN": "t0ken"}.get).close()
    file = tmp_path / "token"
    echo = httpx.MockTransport(lambda request: httpx.Response(200, content=request.headers["authorization"]))
    source = HttpQuotes("http://prices/quotes", transport=echo, token_file=file)
    with pytest.raises(QuoteError, match="token file"):
        await source.read()
    for token in ("one", "two"):
        file.write_text(token + "\n")
        assert await source.read() == f"Bearer {token}".encode()
    await source.close()


def test_a_file_that_is_not_there_is_an_error_at_the_start(tmp_path) -> None:
    there = tmp_path / "quotes.json"
    there.write_text("{}")
    require_files([str(there), "https://prices/quotes"], [{"file": {"path": str(there)}}, {"http": {"url": "http://prices"}}])
    with pytest.raises(QuoteError, match=r"no-such\.json"):
        require_files([str(tmp_path / "no-such.json")])
    with pytest.raises(QuoteError, match=r"nor-this\.json"):
        require_files([], [{"file": {"path": "nor-this.json"}}])


def quote(expires: float, **figures: float) -> Quote:
    return Quote(time=from_unix(NOW), offer="rented", expires=from_unix(NOW + expires), **figures)


def test_of_several_sources_the_first_that_knows_a_figure_counts_while_it_holds() -> None:
    stated, asked = quote(600.0, stock_replicas=8), quote(300.0, stock_replicas=99, usd_per_replica_hour=7.5)
    both = joined([stated, asked], NOW)
    assert both == quote(300.0, stock_replicas=8, usd_per_replica_hour=7.5)
    later = joined([stated, asked], NOW + 301.0)
    assert later is not None
    assert (later.stock_replicas, later.usd_per_replica_hour) == (8, None)
    assert joined([], NOW) is None
