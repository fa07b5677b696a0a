"""React to tidegate's decisions with nothing but nats-py: here a line each is printed; put your own call in its place.

    python react_to_decisions.py nats://127.0.0.1:4222 [FLEET]

`tidegate up` prints the address of its server. To look on without a program: `nats sub 'tidegate.decision.*'` with the NATS command
line, or `tidegate events --nats ADDRESS`. Targets are absolute, so acting on one twice is harmless; not acting on one that has expired
is the only rule. A durable consumer, as here, goes on after a restart where it was.
"""

import asyncio
import json
import sys
from datetime import UTC, datetime

import nats
from nats.errors import TimeoutError as NothingYet
from nats.js.api import ConsumerConfig, DeliverPolicy


def react(decision: dict) -> None:
    """Make your world be what the decision says: {offer: replicas, ready and pending together}."""
    if datetime.fromisoformat(decision["expires"]) <= datetime.now(UTC):
        print(f"{decision['fleet']}: expired, left alone", flush=True)
    elif decision["mode"] == "act":
        print(f"{decision['fleet']}: set {decision['targets']}, spill at most {decision['spill_per_second']:g}/s", flush=True)
    else:
        print(f"{decision['fleet']}: would set {decision['targets']}", flush=True)


async def main(url: str, fleet: str = "*") -> None:
    """Follow decisions, starting with each fleet's newest, until interrupted."""
    client = await nats.connect(url, max_reconnect_attempts=-1)
    config = ConsumerConfig(deliver_policy=DeliverPolicy.LAST_PER_SUBJECT)
    subscription = await client.jetstream().pull_subscribe(f"tidegate.decision.{fleet}", "my-reactor", "TIDEGATE_OUTPUTS", config)
    while True:
        try:
            messages = await subscription.fetch(batch=10, timeout=5)
        except (TimeoutError, NothingYet):
            continue
        for message in messages:
            react(json.loads(message.data))
            await message.ack()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
