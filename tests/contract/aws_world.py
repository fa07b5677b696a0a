"""An EC2, SQS and Service Quotas API over HTTP, with what moto leaves out: tokens that are honoured, stock, lag, time moved by hand.

One server per test process; `AwsWorld` is what a test has power over, and a new one starts from nothing. Readiness pages of the machines
are served beside it. Capacity reservations and capacity blocks are in `aws_reserved`.
"""

import io
import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import Any
from urllib.parse import parse_qs

import boto3
from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import ec2_backends
from moto.ec2.responses import EC2Response
from moto.moto_api._internal import moto_api_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.servicequotas.responses import ServiceQuotasResponse
from werkzeug.serving import WSGIRequestHandler, make_server

from actuators.aws_api import AwsApi
from tests.fakes import FakeWall

REGION, ACCOUNT = "us-east-1", "123456789012"
TEMPLATE = "serve-r1"
INSTANCE_TYPE, VCPUS = "p5en.48xlarge", 192
NO_LIMIT = 100_000


class Refusal(EC2ClientError):
    """An error that EC2 answers with."""

    def __init__(self, code: str, message: str = "as the test wants it", status: int = 400) -> None:
        self.code, self.message, self.http_status_code = code, message, status
        super().__init__(message)


@dataclass
class AwsWorld:
    """What the region is like. `refusals` maps an operation to the error it answers with; `lost_replies` lists operations that are
    carried out and answered with a failure."""

    wall: FakeWall = field(default_factory=FakeWall)
    lag_seconds: float = 0.0
    lead_seconds: float = 0.0
    starts: bool = True
    stock: int = NO_LIMIT
    quota: int = NO_LIMIT
    is_down: bool = False
    refusals: dict[str, tuple[str, int]] = field(default_factory=dict)
    stock_error: str = "InsufficientInstanceCapacity"
    lost_replies: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    fleets: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    ran: dict[str | None, Any] = field(default_factory=dict)
    reserved: dict[str, dict[str, Any]] = field(default_factory=dict)
    reserved_by_token: dict[str, str] = field(default_factory=dict)
    blocks: list[dict[str, Any]] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        moto_api_backend.reset()
        _served().world = self
        self.client("ec2").create_launch_template(
            LaunchTemplateName=TEMPLATE, LaunchTemplateData={"ImageId": "ami-12c6146b", "InstanceType": INSTANCE_TYPE}
        )
        self.calls.clear()

    @cached_property
    def api(self) -> AwsApi:
        """Return our own way to it, with production's retries."""
        return AwsApi(REGION, self.url, self.session())

    @property
    def url(self) -> str:
        return _served().url

    def session(self) -> Any:
        return _session()

    def client(self, service: str) -> Any:
        return self.session().client(service, endpoint_url=self.url)

    def instances(self) -> list[Any]:
        """Return every instance that is held, listed yet or not."""
        return [one for one in self.ever() if one.state == "running"]

    def ever(self) -> list[Any]:
        """Return every instance that was ever started, those that have ended included."""
        return list(ec2_backends[ACCOUNT][REGION].all_instances())

    def age_seconds(self, instance: Any) -> float:
        return self.wall.now_unix - instance.launch_time.timestamp()

    def state_of(self, instance: Any) -> str:
        if self.age_seconds(instance) < self.lead_seconds:
            return "pending"
        return "ready" if self.starts else "failed"

    def readiness(self, machine: str) -> tuple[int, dict[str, float]]:
        for instance in self.instances():
            if instance.id == machine and self.state_of(instance) == "ready":
                return 200, {"ready_unix": instance.launch_time.timestamp() + self.lead_seconds}
        return 503, {}


class _Served:
    """The server, and whichever world it stands for now."""

    world: AwsWorld

    def __init__(self) -> None:
        self._inner = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=_Quiet)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith("/ready/"):
            status, page = self.world.readiness(environ["PATH_INFO"].removeprefix("/ready/"))
            return _answer(start_response, status, json.dumps(page))
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        operation = _operation(environ, body)
        with self.world.lock:
            self.world.calls.append(operation)
        if self.world.is_down:
            return _answer(start_response, 503, _error("Unavailable", "The service is down."))
        code, status = self.world.refusals.get(operation, ("", 0))
        if code:
            return _answer(start_response, status, _error(code, "refused, as the test wants it"))
        if operation not in self.world.lost_replies:
            return self._inner(environ, start_response)
        list(self._inner(environ, lambda *_: None))
        return _answer(start_response, 500, _error("InternalError", "An internal error has occurred."))


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        """Say nothing."""


def _operation(environ: dict[str, Any], body: bytes) -> str:
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    if target:
        return target.rpartition(".")[2]
    return parse_qs(body.decode(errors="replace")).get("Action", [""])[0]


def _answer(start_response: Callable[..., Any], status: int, body: str) -> Iterable[bytes]:
    start_response(f"{status} as told", [("Content-Type", "application/xml"), ("Content-Length", str(len(body.encode())))])
    return [body.encode()]


def _error(code: str, message: str) -> str:
    return f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors><RequestID>1</RequestID></Response>"


@cache
def _session() -> Any:
    """One for all tests: reading botocore's models takes a second each time."""
    return boto3.session.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)


@cache
def _served() -> _Served:
    _extend()
    return _Served()


def _extend() -> None:
    """Teach moto's EC2 what it leaves out."""
    from tests.contract import aws_reserved

    launch, describe, run = EC2Response.create_fleet, EC2Response.describe_instances, EC2Response.run_instances

    def run_instances(self: Any) -> ActionResult:
        world = _served().world
        token = self._get_param("ClientToken")
        with world.lock:
            if token is None or token not in world.ran:
                answer = run(self)
                for instance in answer.result.instances:
                    instance.launch_time = datetime.fromtimestamp(world.wall.now_unix, UTC)
                world.ran[token] = answer.result
            return ActionResult(world.ran[token])

    def create_fleet(self: Any) -> ActionResult:
        world = _served().world
        token = self._get_param("ClientToken")
        words = json.dumps(self.params, default=str, sort_keys=True)
        with world.lock:
            world.asked.append(json.loads(words))
            if token in world.fleets:
                if world.fleets[token][0] != words:
                    raise Refusal("IdempotentParameterMismatch")
                return ActionResult(world.fleets[token][1])
            wanted = self.params["TargetCapacitySpecification"]["TotalTargetCapacity"]
            given = min(wanted, max(0, world.stock - len(world.instances())))
            result: dict[str, Any] = {"FleetId": "fleet-none", "Instances": []}
            if given:
                self.params["TargetCapacitySpecification"]["TotalTargetCapacity"] = given
                result = dict(launch(self).result)
                result["Instances"] = list(result["Instances"])
                names = {name for group in result["Instances"] for name in group["InstanceIds"]}
                for instance in world.instances():
                    if instance.id in names:
                        instance.launch_time = datetime.fromtimestamp(world.wall.now_unix, UTC)
                world.fleets[token] = (words, result)
            if given < wanted:
                place = {"LaunchTemplateSpecification": {"LaunchTemplateName": TEMPLATE, "Version": "1"}}
                error = {"ErrorCode": world.stock_error, "ErrorMessage": "There is none.", "LaunchTemplateAndOverrides": place}
                result["Errors"] = [error]
            return ActionResult(result)

    def describe_instances(self: Any) -> ActionResult:
        world = _served().world
        answer = describe(self)
        listed = [
            reservation
            for reservation in answer.result["Reservations"]
            if all(world.age_seconds(instance) >= world.lag_seconds for instance in reservation.instances)
        ]
        return ActionResult({**answer.result, "Reservations": listed})

    def get_service_quota(self: Any) -> str:
        code = json.loads(self.body)["QuotaCode"]
        return json.dumps({"Quota": {"ServiceCode": "ec2", "QuotaCode": code, "Value": float(_served().world.quota)}})

    EC2Response.create_fleet, EC2Response.describe_instances, EC2Response.run_instances = create_fleet, describe_instances, run_instances
    ServiceQuotasResponse.get_service_quota = get_service_quota
    aws_reserved.extend(lambda: _served().world)
