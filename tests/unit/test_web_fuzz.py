"""No body, header or path makes the server fail inside, act on what it must not, or repeat in its log what it was sent."""

import asyncio
import contextlib
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
from hypothesis import given
from hypothesis import strategies as st

from controlplane.contracts.events import Alert, Tick
from controlplane.contracts.fleet import Offer
from controlplane.web.auth import signature_of
from controlplane.web.settings import Limits, Secrets
from tests.unit.web_rig import FLEET, Rig, alertmanager, grafana, sent

SECRET, TOKEN = "the-signing-key-0123456789", "t0ken-of-the-api-0123456789"
MARK = "s3kr1t-in-the-body"
STATUSES = {200, 400, 401, 413, 415, 422}

texts = st.text(max_size=40) | st.sampled_from(["r1", "lift", "freeze", "tick", "3", "firing", "resolved", MARK])
jsons: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=12,
)
labels = st.dictionaries(
    st.sampled_from(["tidegate_fleet", "tidegate_action", "tidegate_lift_replicas", "tidegate_expires", "alertname", "x"]),
    texts,
    max_size=5,
)
FIELDS = ["version", "groupKey", "status", "receiver", "truncatedAlerts", "alerts", "orgId"]
ALERT_FIELDS = ["status", "labels", "annotations", "startsAt", "endsAt", "fingerprint"]


@contextlib.contextmanager
def listening() -> Iterator[io.StringIO]:
    """Everything that is printed or logged meanwhile."""
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    logging.getLogger().addHandler(handler)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            yield said
    finally:
        logging.getLogger().removeHandler(handler)


def bounded(rig: Rig) -> None:
    """Whatever was published is of our fleet, within its bounds, and expires within the hour."""
    for event in rig.outlet.events:
        assert isinstance(event, Alert | Tick)
        assert event.fleet == "r1"
        event.model_dump_json()
        if isinstance(event, Alert):
            assert event.lift_replicas <= sum(offer.max_replicas for offer in FLEET.offers if isinstance(offer, Offer))
            assert event.expires is not None
            assert 0.0 < (event.expires - event.time).total_seconds() <= 3600.0


def post(rig: Rig, body: bytes, **headers: str) -> httpx.Response:
    return asyncio.run(rig.alert(body, "/webhooks/alerts", **headers))


@given(st.binary(max_size=200))
def test_any_bytes(body: bytes) -> None:
    rig = Rig()
    assert post(rig, body).status_code in STATUSES
    assert rig.outlet.events == []


@given(jsons, st.sampled_from([alertmanager, grafana]), st.sampled_from(FIELDS), st.sampled_from(ALERT_FIELDS), st.booleans())
def test_any_value_in_any_place(value: Any, make: Any, field: str, alert_field: str, in_alert: bool) -> None:
    alert = sent(action="lift", lift_replicas="2")
    body = make({**alert, alert_field: value}) if in_alert else {**make(alert), field: value}
    rig = Rig()
    with listening() as said:
        answer = post(rig, json.dumps(body).encode())
    assert answer.status_code in STATUSES
    assert MARK not in said.getvalue()
    assert MARK not in answer.text
    bounded(rig)


@given(st.lists(st.tuples(labels, labels, texts.filter(bool)), max_size=4))
def test_any_labels(alerts: list[tuple[dict[str, str], dict[str, str], str]]) -> None:
    rig = Rig()
    body = alertmanager(*({**sent(name), "labels": first, "annotations": second} for first, second, name in alerts))
    with listening() as said:
        answer = post(rig, json.dumps(body).encode())
    assert answer.status_code in STATUSES
    assert MARK not in said.getvalue()
    if answer.status_code == 200:
        assert sum(answer.json().values()) == len(alerts)
    for note in rig.outlet.notes:
        assert len(json.dumps(note.alert)) < 4000
    bounded(rig)


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=80),
    st.sampled_from(["authorization", "x-grafana-alerting-signature"]),
)
def test_any_proof_that_is_not_ours(proof: str, header: str) -> None:
    rig = Rig(Secrets(token=TOKEN, hmac_secret=SECRET))
    body = json.dumps(grafana(sent())).encode()
    with listening() as said:
        answer = asyncio.run(
            rig.ask(
                "POST",
                "/webhooks/grafana",
                content=body,
                headers=[(b"content-type", b"application/json"), (header.encode(), proof.encode("latin-1"))],
            )
        )
    assert answer.status_code == 401
    assert rig.outlet.calls == 0
    assert TOKEN not in said.getvalue() + answer.text
    assert SECRET not in said.getvalue() + answer.text
    assert len(proof) < 8 or proof not in said.getvalue()


@given(st.integers(0, 600), st.data())
def test_a_signed_body_that_is_changed_anywhere(position: int, data: st.DataObject) -> None:
    body = bytearray(json.dumps(grafana(sent())).encode())
    signature = signature_of(SECRET, bytes(body))
    place = position % len(body)
    body[place] = data.draw(st.integers(0, 255).filter(lambda value: value != body[place]))
    rig = Rig(Secrets(hmac_secret=SECRET))
    answer = post(rig, bytes(body), **{"x-grafana-alerting-signature": signature})
    assert answer.status_code == 401
    assert rig.outlet.calls == 0


@given(st.integers(1, 3000))
def test_any_size(size: int) -> None:
    rig = Rig(limits=Limits(body_bytes=1000))
    assert post(rig, b"[" * size).status_code == (413 if size > 1000 else 400)
    assert rig.outlet.calls == 0


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=6), st.lists(st.integers(0, 5), max_size=12))
def test_repeats_in_any_order_act_once(names: list[str], order: list[int]) -> None:
    bodies = [json.dumps(alertmanager(*(sent(name) for name in names[: index + 1]))).encode() for index in range(len(names))]
    rig = Rig()
    for index in [*range(len(bodies)), *(place % len(bodies) for place in order)]:
        assert post(rig, bodies[index]).status_code == 200
    published = [alert.name for alert in rig.outlet.alerts]
    assert sorted(published) == sorted({f"QueueIsLong/{name}" for name in names})


@given(jsons)
def test_any_launch(value: Any) -> None:
    rig = Rig()
    fields = value if isinstance(value, dict) else {"fleet": "r1", "name": "v4", "starts": value, "ramp": value, "peak_multiple": value}
    answer = asyncio.run(rig.ask("POST", "/launches", content=json.dumps(fields), headers={"content-type": "application/json"}))
    assert answer.status_code in {202, 404, 422}
    for event in rig.outlet.events:
        event.model_dump_json()


@given(st.sampled_from(["GET", "PUT", "DELETE", "PATCH", "POST"]), st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30))
def test_any_path(method: str, path: str) -> None:
    rig = Rig(Secrets(token=TOKEN))
    answer = asyncio.run(rig.ask(method, "/" + path.replace("?", "").replace("#", "")))
    assert answer.status_code in {200, 401, 404, 405, 307}
    assert rig.outlet.calls == 0
