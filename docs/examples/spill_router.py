"""A router's half of spill: take tidegate's allowance from NATS and enforce it locally. Run: python spill_router.py NATS_URL FLEET

Reads the work of one request a line from standard input and prints `spill` or `keep` for each; docs/spill.md has the rules."""

import asyncio
import json
import sys
import time
from datetime import datetime

import nats
from nats.js.api import ConsumerConfig, DeliverPolicy


class Allowance:
    """A bucket that fills at the authorised rate, is shut when the authority ends, and rests while the endpoint pushes back."""

    rate = until = level = rest = 0.0
    at, pause = time.time(), 30.0

    def hear(self, decision: dict) -> None:
        acting = decision["mode"] == "act" and decision.get("spill_until")
        self.rate = float(decision["spill_per_second"]) if acting else 0.0
        self.until = datetime.fromisoformat(decision["spill_until"]).timestamp() if acting else 0.0

    def take(self, work: float, now: float) -> bool:
        rate = self.rate if self.rest <= now < self.until else 0.0
        self.level, self.at = min(self.level + rate * (now - self.at), 10.0 * rate), now
        fits = 0.0 < work <= self.level
        self.level -= work if fits else 0.0
        return fits

    def pushed_back(self, now: float, retry_after: float | None = None) -> None:  # call it on a 429, a 503 or a time-out
        # What was sent before the rest began says nothing new; after a quiet minute it is a first push-back again.
        self.pause = 30.0 if now >= self.rest + 60.0 else self.pause * (2.0 if now >= self.rest else 1.0)
        self.rest = max(self.rest, now + (retry_after or self.pause))


async def main(url: str, fleet: str) -> None:
    allowance, client = Allowance(), await nats.connect(url)
    newest = ConsumerConfig(deliver_policy=DeliverPolicy.LAST_PER_SUBJECT)
    decisions = await client.jetstream().subscribe(f"tidegate.decision.{fleet}", ordered_consumer=True, config=newest)
    while line := await asyncio.to_thread(sys.stdin.readline):
        while decisions.pending_msgs:
            allowance.hear(json.loads((await decisions.next_msg()).data))
        print("spill" if allowance.take(float(line), time.time()) else "keep", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
