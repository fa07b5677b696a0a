"""A buyer for the kill test: applies one target and kills itself with SIGKILL at the step that it is told.

Usage: python -m tests.sim.cloud_buyer URL FOLDER FLEET STEP, where STEP is one of STEPS or "none".
"""

import asyncio
import sys
from pathlib import Path

import httpx

from actuators.simulated import simulated_actuator
from controlplane.contracts.fleet import Offer, Tier
from tests.dying import DyingStore, die_at

OFFER = Offer("rented", Tier.BURST, 1.0, 0, 40, 1.0, 60.0)
TARGET = 3
STEPS = ("before-intent", "after-intent", "after-ask", "after-record")


class DyingTransport(httpx.AsyncHTTPTransport):
    """Dies around the purchase request."""

    step = "none"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        if request.method == "POST":
            die_at(self.step, "after-ask")
        return response


async def main(url: str, folder: Path, fleet: str, step: str) -> None:
    transport = DyingTransport()
    transport.step = step
    actuator = simulated_actuator(url, DyingStore(folder, step), transport=transport)
    print(await actuator.apply(fleet, OFFER, TARGET))
    await actuator.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4]))
