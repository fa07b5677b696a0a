"""Buyers for the kill test on GPU clouds: each applies one target and kills itself with SIGKILL at the step that it is told.

Usage: python -m tests.contract.cloud_buyer URL FOLDER NOW. One buyer, a process of its own, for each of KINDS and STEPS; prints the signals
that ended them.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from actuators.api import Actuator, IntentStore
from actuators.cloud_http import HttpApi
from actuators.market import MarketActuator
from actuators.purchasing import PurchasingActuator
from actuators.readiness import ReadinessProbe
from actuators.renting import RentingSupplier
from controlplane.contracts.fleet import Offer, Tier
from controlplane.sim.drill import DrillLedger
from tests.contract.cloud_rigs import cloud_at
from tests.dying import DyingStore, die_at

OFFER = Offer("rented", Tier.BURST, 1.0, 0, 40, 50.0, 60.0)
TARGET = 3
KINDS = ("lambda", "runpod", "market")
STEPS = ("before-intent", "after-intent", "after-first-order", "before-record", "after-record")


def fleet_of(kind: str, step: str) -> str:
    """Return the name of the fleet that one buyer buys for."""
    return f"{kind}-killed-{step}"


class DyingApi(HttpApi):
    """Dies when the cloud has sold the first machine, before anyone has heard of it."""

    step = "none"

    async def call(self, method: str, path: str, **arguments: Any) -> tuple[httpx.Response, Any]:
        answer = await super().call(method, path, **arguments)
        if method == "POST":
            die_at(self.step, "after-first-order")
        return answer


def actuator_of(kind: str, url: str, store: IntentStore, clock: Callable[[], float], api: type[HttpApi] = HttpApi) -> Actuator:
    """Return an actuator of one cloud, or of the market of both."""

    def supplier(name: str) -> RentingSupplier:
        return RentingSupplier(cloud_at(name, url, api=api), ReadinessProbe(f"{url}/ready/{{id}}", 3600.0), clock)

    if kind == "market":
        return MarketActuator({name: supplier(name) for name in ("lambda", "runpod")}, store, clock=clock, ledger=DrillLedger())
    return PurchasingActuator(supplier(kind), store)


async def buy(kind: str, url: str, folder: Path, step: str, now_unix: float) -> None:
    DyingApi.step = step
    actuator = actuator_of(kind, url, DyingStore(folder, step), lambda: now_unix, DyingApi)
    await actuator.quote(OFFER)
    await actuator.apply(fleet_of(kind, step), OFFER, TARGET)


def main(url: str, folder: Path, now_unix: float) -> None:
    for kind in KINDS:
        for step in STEPS:
            # A child each, so that what takes longest, the imports, is done once.
            child = os.fork()
            if not child:
                asyncio.run(buy(kind, url, folder, step, now_unix))
                os._exit(0)
            print(-os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
