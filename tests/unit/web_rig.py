"""A web application with everything real but NATS: an outlet that remembers, and can be away; and bodies as the two senders make them."""

import json
from dataclasses import dataclass, field
from typing import Any

import httpx

from controlplane.clocks import VirtualClock
from controlplane.contracts.errors import BusError
from controlplane.contracts.events import Alert, Event, Forecast, Tick
from controlplane.contracts.fleet import Fleet, Offer, Slo, Tier, Unit
from controlplane.web.board import Board
from controlplane.web.intake import Intake
from controlplane.web.mapping import Note
from controlplane.web.metrics import Meter
from controlplane.web.routes import Web, application
from controlplane.web.settings import Limits, Secrets, WebSettings
from tests.fakes import FakeWall

STARTS = "2023-11-14T22:00:00Z"  # ten minutes before FakeWall's start
OFFERS = (
    Offer("reserved", Tier.FLOOR, 4.0, 1, 2, 3.0, 180.0),
    Offer("rented", Tier.BURST, 4.0, 0, 10, 5.0, 480.0),
)
FLEET = Fleet("r1", Slo(0.99), Unit.REQUESTS, OFFERS)


@dataclass
class Outlet:
    """What would be on the streams. The call number `fails_at`, from 1, fails; stored all the same if `stores_what_fails`."""

    events: list[Event] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    identities: set[str] = field(default_factory=set)
    calls: int = 0
    fails_at: int = 0
    stores_what_fails: bool = False

    def _store(self, identity: str, what: Event | Note) -> bool:
        self.calls += 1
        fails = self.calls == self.fails_at
        is_new = identity not in self.identities
        if is_new and (not fails or self.stores_what_fails):
            self.identities.add(identity)
            if isinstance(what, Note):
                self.notes.append(what)
            else:
                self.events.append(what)
        if fails:
            raise BusError("NATS is away")
        return is_new

    async def publish(self, event: Event, identity: str) -> bool:
        return self._store(identity, event)

    async def note(self, note: Note, identity: str) -> bool:
        return self._store(identity, note)

    @property
    def alerts(self) -> list[Alert]:
        return [event for event in self.events if isinstance(event, Alert)]

    @property
    def pokes(self) -> list[Tick]:
        return [event for event in self.events if isinstance(event, Tick)]


class Ready:
    """A probe whose answer is set by hand."""

    def __init__(self) -> None:
        self.lacking: tuple[str, ...] = ()

    def missing(self) -> tuple[str, ...]:
        return self.lacking


class Rig:
    """The application, its parts, and a client that calls it without a socket."""

    def __init__(self, secrets: Secrets | None = None, limits: Limits | None = None, host: str = "127.0.0.1") -> None:
        self.outlet, self.wall, self.ready = Outlet(), FakeWall(), Ready()
        self.clock = VirtualClock(self.wall())
        self.board, self.meter = Board({"r1": FLEET}), Meter("0")
        self.intake = Intake({"r1": FLEET}, self.outlet, self.clock, self.wall)
        settings = WebSettings(host, 8080, secrets or Secrets(), limits or Limits())
        self.web = Web(settings, self.intake, self.board, self.meter, self.ready, self.wall, self._forecast)
        self.app = application(self.web)
        self.forecast: Forecast | None = None

    async def _forecast(self, fleet: str) -> Forecast | None:
        return self.forecast

    async def ask(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
            return await client.request(method, path, **arguments)

    async def alert(self, body: bytes | dict[str, Any], path: str = "/webhooks/alertmanager", **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.ask("POST", path, content=content, headers={"content-type": "application/json", **headers})


def sent(fingerprint: str = "f1", status: str = "firing", starts: str = STARTS, **labels: str) -> dict[str, Any]:
    """Return one alert as both senders write it; labels without the `tidegate_` prefix."""
    known = {f"tidegate_{name}": value for name, value in {"fleet": "r1", **labels}.items()}
    ends = "0001-01-01T00:00:00Z" if status == "firing" else "2023-11-14T22:13:00Z"
    annotations = {"summary": "the queue is long"}
    return {
        "status": status,
        "labels": {"alertname": "QueueIsLong", **known},
        "annotations": annotations,
        "startsAt": starts,
        "endsAt": ends,
        "generatorURL": "http://prometheus:9090/graph",
        "fingerprint": fingerprint,
    }


def alertmanager(*alerts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a body of Alertmanager's webhook, version 4."""
    return {
        "version": "4",
        "groupKey": '{}:{alertname="QueueIsLong"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "tidegate",
        "groupLabels": {"alertname": "QueueIsLong"},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "alerts": list(alerts),
        **fields,
    }


def grafana(*alerts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a body of Grafana's webhook contact point, version 1."""
    more = {
        "values": {"A": 12.5},
        "silenceURL": "http://g/s",
        "dashboardURL": "",
        "panelURL": "",
        "imageURL": "",
        "valueString": "[ A=12.5 ]",
    }
    extra = {"version": "1", "orgId": 1, "title": "[FIRING:1] QueueIsLong", "state": "alerting", "message": "**Firing**"}
    return {**alertmanager(*({**alert, **more} for alert in alerts)), **extra, **fields}
