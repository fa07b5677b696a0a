"""Lambda Cloud and RunPod as their documentation describes them, over real HTTP on loopback, on a clock moved by hand.

One world is both clouds; each lists the machines that were ordered from it.

Shapes and error codes: https://docs.lambda.ai/public-cloud/cloud-api/ and https://docs.runpod.io/api-reference-v2/overview.
"""

import socket
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cache

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from tests.fakes import FakeWall

KEY = "a-key-that-no-log-may-hold"
NO_LIMIT = 100_000
LAMBDA_TYPE, RUNPOD_TYPE = "gpu_8x_h100_sxm5", "NVIDIA H200"
LAMBDA_REGIONS = ("europe-central-1", "us-east-1")
RUNPOD_PLACES = ("EU-RO-1", "US-KS-2")


@dataclass
class Sold:
    """One machine that was sold. `word`: what is said of its state, instead of that it runs."""

    id: str
    marks: dict[str, str]
    place: str
    sold_unix: float
    body: dict[str, object]
    ended: bool = False
    word: str = ""


@dataclass
class CloudWorld:
    """What a cloud is like. `lost_orders`: orders are carried out and answered with a failure; `refusal` answers every order;
    `catalogue_status` every question for price and stock; `page` is what a proxy in front answers every order with."""

    wall: FakeWall = field(default_factory=FakeWall)
    lag_seconds: float = 0.0
    lead_seconds: float = 0.0
    starts: bool = True
    stock: int = NO_LIMIT
    places: tuple[str, ...] | None = None
    is_down: bool = False
    lost_orders: bool = False
    refusal: tuple[int, dict[str, object]] | None = None
    catalogue_status: int = 200
    page: tuple[int, str] | None = None
    sold: list[Sold] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        _served().world = self

    @property
    def url(self) -> str:
        return _served().url

    def held(self) -> list[Sold]:
        return [one for one in self.sold if not one.ended]

    def listed(self) -> list[Sold]:
        return [one for one in self.held() if self.wall.now_unix - one.sold_unix >= self.lag_seconds]

    def state_of(self, one: Sold) -> str:
        if self.wall.now_unix - one.sold_unix < self.lead_seconds:
            return "pending"
        return "ready" if self.starts else "failed"

    def sell(self, marks: dict[str, str], place: str, body: dict[str, object]) -> Sold | None:
        if len(self.held()) >= self.stock:
            return None
        self.sold.append(Sold(f"machine-{len(self.sold)}", marks, place, self.wall.now_unix, body))
        return self.sold[-1]

    def end(self, name: str) -> bool:
        found = [one for one in self.held() if one.id == name]
        for one in found:
            one.ended = True
        return bool(found)


class _Served:
    """The server, and whichever world it stands for now."""

    world: CloudWorld

    def __init__(self) -> None:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.listen()
        server = uvicorn.Server(uvicorn.Config(self._application(), log_level="error", lifespan="off"))
        threading.Thread(target=server.run, args=([listener],), daemon=True).start()

    def _application(self) -> Starlette:
        def up(
            handler: Callable[[Request], Awaitable[Response]], *, sells: bool = False, tells: bool = False
        ) -> Callable[[Request], Awaitable[Response]]:
            async def guarded(request: Request) -> Response:
                world = self.world
                world.calls.append(f"{request.method} {request.url.path}")
                if world.is_down:
                    return JSONResponse({}, status_code=503)
                if request.headers.get("authorization") != f"Bearer {KEY}":
                    return _wrong_key(request)
                if tells and world.catalogue_status != 200:
                    return Response(status_code=world.catalogue_status)
                if sells and world.page is not None:
                    return HTMLResponse(world.page[1], status_code=world.page[0])
                if sells and world.refusal is not None:
                    return JSONResponse(world.refusal[1], status_code=world.refusal[0])
                answer = await handler(request)
                return JSONResponse({}, status_code=500) if sells and world.lost_orders and answer.status_code < 300 else answer

            return guarded

        return Starlette(
            routes=[
                Route("/api/v1/instances", up(self._lambda_instances)),
                Route("/api/v1/instance-types", up(self._lambda_types, tells=True)),
                Route("/api/v1/instance-operations/launch", up(self._lambda_launch, sells=True), methods=["POST"]),
                Route("/api/v1/instance-operations/terminate", up(self._lambda_terminate), methods=["POST"]),
                Route("/v2/pods", up(self._runpod_pods)),
                Route("/v2/pods", up(self._runpod_create, sells=True), methods=["POST"]),
                Route("/v2/pods/{id}", up(self._runpod_delete), methods=["DELETE"]),
                Route("/v2/catalog/gpus/{id}", up(self._runpod_catalogue, tells=True)),
                Route("/ready/{id}", self._ready),
            ]
        )

    async def _ready(self, request: Request) -> Response:
        for one in self.world.held():
            if one.id == request.path_params["id"] and self.world.state_of(one) == "ready":
                return JSONResponse({"ready_unix": one.sold_unix + self.world.lead_seconds})
        return JSONResponse({}, status_code=503)

    async def _lambda_instances(self, _: Request) -> Response:
        kind = {"name": LAMBDA_TYPE, "description": "8x H100", "price_cents_per_hour": 2392}
        data = [
            {
                "id": one.id,
                "name": one.body["name"],
                "ip": "10.0.0.1",
                "status": one.word or "active",
                "ssh_key_names": one.body["ssh_key_names"],
                "region": {"name": one.place, "description": ""},
                "instance_type": kind,
                "tags": [{"key": key, "value": value} for key, value in one.marks.items()],
            }
            for one in self.world.listed()
            if "ssh_key_names" in one.body
        ]
        return JSONResponse({"data": data})

    async def _lambda_types(self, _: Request) -> Response:
        world = self.world
        free = (world.places or LAMBDA_REGIONS) if len(world.held()) < world.stock else ()
        about = {"name": LAMBDA_TYPE, "description": "8x H100", "price_cents_per_hour": 2392, "specs": {"vcpus": 208, "gpus": 8}}
        regions = [{"name": name, "description": ""} for name in free]
        return JSONResponse({"data": {LAMBDA_TYPE: {"instance_type": about, "regions_with_capacity_available": regions}}})

    async def _lambda_launch(self, request: Request) -> Response:
        body = await request.json()
        sold = self.world.sell({tag["key"]: tag["value"] for tag in body.get("tags", [])}, body["region_name"], body)
        if sold is None:
            return lambda_error(400, "instance-operations/launch/insufficient-capacity", "Not enough capacity to fulfill launch request.")
        return JSONResponse({"data": {"instance_ids": [sold.id]}})

    async def _lambda_terminate(self, request: Request) -> Response:
        names = (await request.json())["instance_ids"]
        ended = [self.world.end(name) for name in names]
        if not all(ended):
            return lambda_error(404, "global/object-does-not-exist", "Specified instance does not exist.")
        return JSONResponse({"data": {"terminated_instances": [{"id": name, "status": "terminating"} for name in names]}})

    async def _runpod_pods(self, _: Request) -> Response:
        return JSONResponse({"pods": [self._pod(one) for one in self.world.listed() if "image" in one.body]})

    async def _runpod_create(self, request: Request) -> Response:
        body = await request.json()
        place = (body.get("dataCenterIds") or RUNPOD_PLACES)[0]
        sold = self.world.sell(body["env"], place, body)
        if sold is None:
            return problem(400, "Bad Request", "There are no longer any instances available with the requested specifications.")
        return JSONResponse(self._pod(sold), status_code=201)

    def _pod(self, one: Sold) -> dict[str, object]:
        """As documented, less what nobody reads."""
        about = {"id": one.id, "name": one.body["name"], "image": one.body["image"], "env": one.marks, "gpu": one.body["gpu"]}
        return {
            **about,
            "status": one.word or "RUNNING",
            "cloud": "SECURE",
            "dataCenterId": one.place,
            "cost": 31.92,
            "createdAt": "2026-06-01T12:00:00Z",
        }

    async def _runpod_delete(self, request: Request) -> Response:
        if self.world.end(request.path_params["id"]):
            return Response(status_code=204)
        return problem(404, "Not Found", "resource not found")

    async def _runpod_catalogue(self, request: Request) -> Response:
        world = self.world
        level = "MEDIUM" if len(world.held()) < world.stock else "NONE"
        places = [{"id": name, "name": name, "availability": level} for name in world.places or RUNPOD_PLACES]
        price = {"secure": 3.99, "community": 3.59}
        return JSONResponse({"id": request.path_params["id"], "price": price, "availability": level, "dataCenters": places})


def _wrong_key(request: Request) -> JSONResponse:
    if request.url.path.startswith("/v2/"):
        return problem(401, "Unauthorized", "missing bearer token")
    return lambda_error(401, "global/invalid-api-key", "API key was invalid, expired, or deleted.")


def lambda_error(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message, "suggestion": None}, "field_errors": {}}, status_code=status)


def problem(status: int, title: str, detail: str) -> JSONResponse:
    return JSONResponse({"title": title, "status": status, "detail": detail}, status_code=status, media_type="application/problem+json")


@cache
def _served() -> _Served:
    return _Served()
