"""The quoter: asks sources of quotes in turn, and publishes what is new, or what would expire.

Owns the pace: once a minute of wall time, sooner after a failure, and never all sources of many processes in step.
Of several sources that know an offer, the first counts, figure by figure. It must not read a source; `controlplane.quotes` does. A price
that doesn't come is left to expire: it is not made up.
"""

import asyncio
import random
from collections.abc import Sequence

import structlog
from nats.aio.client import Client

from controlplane.bus.publish import Publisher, PublishError
from controlplane.clocks import Clock
from controlplane.contracts.events import Quote
from controlplane.contracts.fleet import Fleet
from controlplane.contracts.units import from_unix
from controlplane.quotes import DEFAULT_LIFE_SECONDS, QuoteError, QuoteSource, quotes_of

SERVICE = "quoter"
PERIOD_SECONDS = 60.0
RENEW_SECONDS = DEFAULT_LIFE_SECONDS / 2

log = structlog.get_logger(__name__)


class Quoter:
    """Publishes one fleet's quotes from these sources while its lease is held."""

    def __init__(
        self, client: Client, fleet: Fleet, sources: tuple[QuoteSource, ...], clock: Clock, period_seconds: float = PERIOD_SECONDS
    ) -> None:
        self._sources, self._clock, self._period_seconds = sources, clock, period_seconds
        self._offers = [offer.name for offer in fleet.offers] + ([fleet.spill.name] if fleet.spill else [])
        self._publisher = Publisher(client, f"tidegate/{SERVICE}/{fleet.name}")
        self._heard: list[dict[str, Quote]] = [{} for _ in sources]
        self._said: dict[str, Quote] = {}
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Ask and publish until stopped."""
        while not self._stopping.is_set():
            for index, source in enumerate(self._sources):
                await self._ask(index, source)
            await self._say_all()
            try:
                async with asyncio.timeout(self._period_seconds * random.uniform(0.9, 1.1)):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    def stop(self) -> None:
        """Let `run` end."""
        self._stopping.set()

    async def _ask(self, index: int, source: QuoteSource) -> None:
        try:
            quotes = quotes_of(await source.read(), self._offers, self._clock.now())
        except QuoteError as error:
            log.warning("quotes are not known", reason=str(error))
            return
        self._heard[index] = {quote.offer: quote for quote in quotes}

    async def _say_all(self) -> None:
        """Publish each offer's quote, out of all that was heard and still holds."""
        for offer in self._offers:
            quote = joined([heard[offer] for heard in self._heard if offer in heard], self._clock.now())
            try:
                if quote is not None:
                    await self._say(quote)
            except PublishError as error:
                log.warning("a quote was not published", offer=offer, reason=str(error))

    async def _say(self, quote: Quote) -> None:
        said = self._said.get(quote.offer)
        if said is not None and said.model_copy(update={"time": quote.time, "expires": quote.expires}) == quote:
            age = (quote.time - said.time).total_seconds()
            if (age < RENEW_SECONDS and quote.expires == said.expires) or age < RENEW_SECONDS / 2:
                return
        await self._publisher.publish(quote)
        self._said[quote.offer] = quote


def joined(quotes: Sequence[Quote], now_unix: float) -> Quote | None:
    """Return one offer's quote out of several sources': of each figure the first that is known, for as long as all of them hold."""
    holding = [quote for quote in quotes if quote.expires is None or quote.expires.timestamp() > now_unix]
    if not holding:
        return quotes[-1] if quotes else None
    known = [quote.model_dump(exclude_none=True) for quote in holding]
    figures = {name: value for said in reversed(known) for name, value in said.items()}
    expires = min((quote.expires for quote in holding if quote.expires is not None), default=None)
    return Quote(**{**figures, "time": from_unix(now_unix), "expires": expires})
