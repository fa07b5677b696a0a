"""Push what a fleet is offered to tidegate with nothing but nats-py, for a policy that says `demand: {nats: {}}`.

    python push_observations.py nats://127.0.0.1:4222 FLEET < demand.txt

Each line of standard input is the work that arrived per second, in the fleet's unit, since the line before: arrivals, never completions,
and with it whatever was spilled or refused. A line that says nothing pushes null: not known is not zero. The message id is made of the
content, so a repeated push is stored once; an acknowledgement means that the observation is on disk.
"""

import asyncio
import json
import sys
from datetime import UTC, datetime

import nats


async def main(url: str, fleet: str) -> None:
    """Push every line as one observation of this moment."""
    client = await nats.connect(url, max_reconnect_attempts=-1)
    stream = client.jetstream()
    for line in sys.stdin:
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        body = {"time": now, "fleet": fleet, "demand_per_second": float(line) if line.strip() else None, "source": "push_observations"}
        headers = {"ce-specversion": "1.0", "ce-type": "dev.tidegate.observation.v1", "ce-source": "push_observations"}
        headers |= {"ce-id": f"{fleet}-{now}", "ce-time": now, "Nats-Msg-Id": f"{fleet}-{now}"}
        stored = await stream.publish(f"tidegate.observation.{fleet}", json.dumps(body).encode(), headers=headers)
        print(f"stored as number {stored.seq}", flush=True)
    await client.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
