"""Rigs of what rents machine by machine: Lambda Cloud and RunPod over HTTP; and the store of a market's intents."""

from dataclasses import dataclass, field
from typing import Any

import httpx

from actuators.api import Actuator, Intent
from actuators.cloud_http import ApiKey, HttpApi
from actuators.lambda_cloud import LambdaCloud
from actuators.lots import machines_in
from actuators.purchasing import PurchasingActuator
from actuators.readiness import ReadinessProbe
from actuators.renting import GpuCloud, RentingSupplier
from actuators.runpod import Runpod
from controlplane.contracts.fleet import Offer
from tests.contract.gpu_clouds import KEY, LAMBDA_TYPE, RUNPOD_TYPE, CloudWorld
from tests.fakes import MemoryIntentStore

LEAD_SECONDS = 480.0
LAG_SECONDS = 60.0
OPTIONS: dict[str, dict[str, Any]] = {
    "lambda": {"instance_type": LAMBDA_TYPE, "ssh_key_names": ["serving"], "api_key_env": "LAMBDA_API_KEY"},
    "runpod": {
        "gpu_type": RUNPOD_TYPE,
        "gpu_count": 8,
        "image": "registry.example.com/serve:1",
        "cloud": "SECURE",
        "disk_gb": 200,
        "ports": ["8000/http"],
        "data_center_ids": [],
        "api_key_env": "RUNPOD_API_KEY",
    },
}


def cloud_of(kind: str, world: CloudWorld, regions: tuple[str, ...] = (), key: str | None = KEY, **options: Any) -> GpuCloud:
    """Return our side of a cloud, over real HTTP."""
    return cloud_at(kind, world.url, regions, key, **options)


def cloud_at(
    kind: str, url: str, regions: tuple[str, ...] = (), key: str | None = KEY, api: type[HttpApi] = HttpApi, **options: Any
) -> GpuCloud:
    """Return our side of the cloud at an address."""
    words = {**OPTIONS[kind], **options}
    signed = ApiKey(words, lambda name: key if name == words["api_key_env"] else None)
    http = api(url + ("/api/v1" if kind == "lambda" else ""), signed, httpx.AsyncClient(trust_env=False))
    return LambdaCloud(http, words, regions) if kind == "lambda" else Runpod(http, words, regions)


@dataclass
class CloudRig:
    """One fleet's offer at one cloud."""

    kind: str
    offer: Offer
    store: MemoryIntentStore = field(default_factory=MemoryIntentStore)
    world: CloudWorld = field(default_factory=lambda: CloudWorld(lag_seconds=LAG_SECONDS, lead_seconds=LEAD_SECONDS))
    # Both tell whether there is stock, and not how much.
    counts_stock = False

    def actuator(self) -> Actuator:
        probe = ReadinessProbe(f"{self.world.url}/ready/{{id}}", LEAD_SECONDS + 20.0)
        return PurchasingActuator(RentingSupplier(cloud_of(self.kind, self.world), probe, self.world.wall), self.store)

    def advance(self, seconds: float) -> None:
        self.world.wall.advance(seconds)

    def limit_stock(self, replicas: int) -> None:
        self.world.stock = machines_in(replicas, self.offer)

    def cut(self, is_cut: bool) -> None:
        self.world.is_down = is_cut

    def lose_purchase_replies(self, is_lost: bool) -> None:
        self.world.lost_orders = is_lost

    def refuse_purchases(self, is_refused: bool) -> None:
        self.world.refusal = (429, {"error": {"code": "global/too-many-requests", "message": "slow down"}}) if is_refused else None

    def held(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for one in self.world.held():
            state = self.world.state_of(one)
            counts[state] = counts.get(state, 0) + self.offer.replicas_per_lot
        return counts

    def purchases(self) -> int:
        return len({self._token(one.marks) for one in self.world.sold})

    def calls(self) -> int:
        return len(self.world.calls)

    def check(self) -> None:
        """No intent was ever sold more than it asked for."""
        wanted = {intent.token: machines_in(intent.count, self.offer) for intent in self.store.history}
        for token, count in wanted.items():
            assert sum(self._token(one.marks) == token for one in self.world.sold) <= count

    @staticmethod
    def _token(marks: dict[str, str]) -> str:
        return marks.get("tidegate-intent") or marks.get("TIDEGATE_INTENT") or ""


class MarketIntentStore(MemoryIntentStore):
    """A market keeps an intent per supplier: asked for the whole offer, this answers with the newest of its parts."""

    async def latest(self, fleet: str, offer: str) -> Intent | None:
        parts = [one for one in self.history if one.fleet == fleet and one.offer.partition("--")[0] == offer]
        return parts[-1] if parts and "--" not in offer else await super().latest(fleet, offer)


def cloud_rig(kind: str, offer: Offer, start_failure_share: float) -> CloudRig:
    rig = CloudRig(kind, offer)
    rig.world.starts = start_failure_share == 0.0
    return rig
