"""The quoter: asks sources of quotes in turn, and publishes what is new, or what would expire.

Owns the pace: once a minute of wall time, sooner after a failure, and never all sources of many processes in step.
It must not read a source; `controlplane.quotes` does. A price that doesn't come is left to expire: it is not made up.
"""

import asyncio
import random

import structlog
from nats.aio.client import Client

from controlplane.bus.publish import Publisher, PublishError
from controlplane.clocks import Clock
from controlplane.contracts.events import Quote
from controlplane.contracts.fleet import Fleet
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
        self._said: dict[str, Quote] = {}
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Ask and publish until stopped."""
        while not self._stopping.is_set():
            for source in self._sources:
                await self._ask(source)
            try:
                async with asyncio.timeout(self._period_seconds * random.uniform(0.9, 1.1)):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    def stop(self) -> None:
        """Let `run` end."""
        self._stopping.set()

    async def _ask(self, source: QuoteSource) -> None:
        try:
            for quote in quotes_of(await source.read(), self._offers, self._clock.now()):
                await self._say(quote)
        except (QuoteError, PublishError) as error:
            log.warning("quotes are not known", reason=str(error))

    async def _say(self, quote: Quote) -> None:
        said = self._said.get(quote.offer)
        if said is not None and said.model_copy(update={"time": quote.time, "expires": quote.expires}) == quote:
            age = (quote.time - said.time).total_seconds()
            if (age < RENEW_SECONDS and quote.expires == said.expires) or age < RENEW_SECONDS / 2:
                return
        await self._publisher.publish(quote)
        self._said[quote.offer] = quote
