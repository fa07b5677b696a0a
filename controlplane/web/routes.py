"""The HTTP application: every route, its proof of identity, and the status it answers with. A reader of `web` starts here.

    POST /webhooks/{alertmanager,grafana,alerts} ─▶ auth ─▶ payload ─▶ intake ─▶ Alert, then an early Tick
    POST /launches ─▶ auth ─▶ intake ─▶ Launch            GET /, /api/*, /metrics, /healthz, /readyz ◀─ board, meter, Probe

Owns statuses: 2xx the stream has it, 4xx do not send it again, 503 do. It must not decide anything, nor log what a caller sent.
"""

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Protocol

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from controlplane import tracing
from controlplane.contracts.errors import BusError
from controlplane.contracts.events import Event
from controlplane.web.auth import may_alert, may_use, presents_proof
from controlplane.web.board import Board
from controlplane.web.bodies import Refusal, read_body
from controlplane.web.intake import Intake
from controlplane.web.launches import launch_of
from controlplane.web.metrics import CONTENT_TYPE, Meter
from controlplane.web.payload import notification_of
from controlplane.web.settings import Limits, WebSettings, is_loopback

RETRY_SECONDS = "5"
PAGE = {"/": ("page.html", "text/html"), "/page.css": ("page.css", "text/css"), "/page.js": ("page.js", "text/javascript")}
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

log = structlog.get_logger(__name__)
Handler = Callable[[Request], Awaitable[Response]]


class Probe(Protocol):
    """Whether this process can do its work; an empty answer is yes, else what is missing."""

    def missing(self) -> tuple[str, ...]:
        """Return what keeps it from being ready."""
        ...


@dataclass(frozen=True, slots=True)
class Web:
    """Everything that the routes use. `wall` is wall time, for signatures; `forecast` reads a fleet's newest forecast."""

    settings: WebSettings
    intake: Intake
    board: Board
    meter: Meter
    probe: Probe
    wall: Callable[[], float]
    forecast: Callable[[str], Awaitable[Event | None]]

    @property
    def limits(self) -> Limits:
        """Return what a caller may take."""
        return self.settings.limits


def application(web: Web) -> Starlette:
    """Return the ASGI application."""
    alerts = _guarded(web, "webhooks", _alerts(web), is_open=True)
    routes = [
        Route("/webhooks/alerts", alerts, methods=["POST", "PUT"]),
        Route("/webhooks/alertmanager", alerts, methods=["POST", "PUT"]),
        Route("/webhooks/grafana", alerts, methods=["POST", "PUT"]),
        Route("/launches", _guarded(web, "launches", _launches(web)), methods=["POST"]),
        Route("/api/fleets", _guarded(web, "api", _fleets(web)), methods=["GET"]),
        Route("/api/fleets/{fleet}", _guarded(web, "api", _fleet(web)), methods=["GET"]),
        Route("/metrics", _guarded(web, "metrics", _metrics(web)), methods=["GET"]),
        Route("/healthz", _guarded(web, "healthz", _healthz, is_open=True), methods=["GET"]),
        Route("/readyz", _guarded(web, "readyz", _readyz(web), is_open=True), methods=["GET"]),
        *(Route(path, _guarded(web, "page", _file(name, kind), is_open=True), methods=["GET"]) for path, (name, kind) in PAGE.items()),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _http_error})


def _guarded(web: Web, name: str, handler: Handler, *, is_open: bool = False) -> Handler:
    """Return a handler with what all share: the host, the token, the time it took, and an answer whatever goes wrong inside."""

    async def handle(request: Request) -> Response:
        with web.meter.request(name) as outcome:
            outcome.status = 500
            try:
                response = await _refused(web, request, is_open=is_open) or await handler(request)
            except Exception as error:
                # The text of an error may hold what was sent, so that only its kind is logged.
                log.error("a request failed inside", route=name, error=type(error).__name__)
                response = _error(500, "it failed inside; tidegate's log has the time and the kind")
            outcome.status = response.status_code
        response.headers.update(SECURITY_HEADERS)
        return response

    return handle


async def _refused(web: Web, request: Request, *, is_open: bool) -> Response | None:
    secrets = web.settings.secrets
    if secrets.token is None and web.settings.is_loopback and not is_loopback(request.url.hostname or ""):
        # Without a token, a name that resolves to loopback would let any web page in.
        return _error(421, "ask for 127.0.0.1 or localhost, or set a token")
    if not is_open and not may_use(secrets, request.headers):
        return _unauthorized()
    return None


def _alerts(web: Web) -> Handler:
    async def alerts(request: Request) -> Response:
        secrets, limits = web.settings.secrets, web.limits
        if not presents_proof(secrets, request.headers):
            return _unauthorized()
        body = await read_body(request, limits)
        if isinstance(body, Refusal):
            return _error(body.status, body.error)
        if not may_alert(secrets, request.headers, body, web.wall(), limits.replay_window_seconds):
            log.warning("a webhook was refused: its proof does not hold")
            return _unauthorized()
        notification = notification_of(body)
        if isinstance(notification, str):
            log.warning("a webhook was not understood", reason=notification)
            return _error(400 if notification == "the body is not JSON" else 422, notification)
        try:
            with tracing.span("alert", request.headers, kind="server", sender=notification.sender):
                taken = await web.intake.take(notification)
        except BusError:
            log.warning("a webhook waits for NATS: the sender is asked to try again", sender=notification.sender)
            return _away()
        web.meter.took(notification.sender, taken)
        log.info("alerts came in", sender=notification.sender, **asdict(taken))
        return JSONResponse(asdict(taken))

    return alerts


def _no_fleet(web: Web, name: str) -> Response:
    return _error(404, f"there is no such fleet here: {name[:63]!r}; there are {', '.join(sorted(web.intake.fleets))}")


def _launches(web: Web) -> Handler:
    async def launches(request: Request) -> Response:
        body = await read_body(request, web.limits)
        if isinstance(body, Refusal):
            return _error(body.status, body.error)
        launch = launch_of(body, web.intake.now())
        if isinstance(launch, str):
            return _error(422, launch)
        if launch.fleet not in web.intake.fleets:
            return _no_fleet(web, launch.fleet)
        try:
            with tracing.span("launch", request.headers, kind="server", fleet=launch.fleet):
                await web.intake.announce(launch)
        except BusError:
            return _away()
        log.info("a launch was announced", fleet=launch.fleet, starts=launch.starts.isoformat(), cancelled=launch.cancelled)
        return JSONResponse({"accepted": launch.model_dump(mode="json")}, status_code=202)

    return launches


def _fleets(web: Web) -> Handler:
    async def fleets(_request: Request) -> Response:
        now = web.intake.now()
        return JSONResponse({"now": now, "fleets": [web.board.summary(name, now) for name in sorted(web.intake.fleets)]})

    return fleets


def _fleet(web: Web) -> Handler:
    async def fleet(request: Request) -> Response:
        name = request.path_params["fleet"]
        if name not in web.intake.fleets:
            return _no_fleet(web, name)
        newest = await web.forecast(name)
        if newest is not None:
            web.board.hear(newest)
        return JSONResponse(web.board.detail(name, web.intake.now()))

    return fleet


def _metrics(web: Web) -> Handler:
    async def metrics(_request: Request) -> Response:
        return Response(web.meter.text(), media_type=CONTENT_TYPE)

    return metrics


async def _healthz(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


def _readyz(web: Web) -> Handler:
    async def readyz(_request: Request) -> Response:
        missing = web.probe.missing()
        return JSONResponse({"ready": not missing, "missing": missing}, status_code=503 if missing else 200)

    return readyz


def _file(name: str, kind: str) -> Handler:
    # The page holds no data: it asks the API, with the token that its user gives it.
    content = (files("controlplane.web") / name).read_bytes()

    async def file(_request: Request) -> Response:
        return Response(content, media_type=kind)

    return file


async def _http_error(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return _error(status, {404: "there is nothing here", 405: "not with this method"}.get(status, "no"))


def _error(status: int, text: str) -> JSONResponse:
    # A body that was not read to its end cannot be followed by another request on the same connection.
    headers = {"Connection": "close"} if status in (401, 408, 413, 415) else {}
    return JSONResponse({"error": text}, status_code=status, headers=headers)


def _unauthorized() -> Response:
    response = _error(401, "who is this? the proof is missing or does not hold")
    response.headers["WWW-Authenticate"] = 'Bearer realm="tidegate"'
    return response


def _away() -> Response:
    response = _error(503, "NATS does not answer: send it again")
    response.headers["Retry-After"] = RETRY_SECONDS
    return response
