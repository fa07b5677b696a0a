"""Who is believed: bearer, basic and HMAC in both headers, with and without a time; and where a token must be."""

import base64
import json

import pytest

from controlplane.contracts.errors import TidegateError
from controlplane.web.auth import signature_of
from controlplane.web.settings import Limits, Secrets, web_settings_of
from tests.unit.web_rig import Rig, alertmanager, grafana, sent

TOKEN, OTHER = "t0ken-of-the-api-0123456789", "an0ther-token-0123456789"
SECRET = "the-signing-key-0123456789"
ALL = Secrets(token=TOKEN, webhook_token="webh00k-only-token", webhook_user="am", webhook_password="pa:ss", hmac_secret=SECRET)
BODY = json.dumps(grafana(sent())).encode()


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {TOKEN}"},
        {"authorization": "bearer webh00k-only-token"},
        {"authorization": basic("am", "pa:ss")},
        {"x-grafana-alerting-signature": signature_of(SECRET, BODY)},
        {"x-grafana-alert-signature": signature_of(SECRET, BODY)},
        {"x-grafana-alerting-signature": signature_of(SECRET, BODY, "1700000000"), "x-grafana-alerting-timestamp": "1700000000"},
        {"x-grafana-alerting-signature": signature_of(SECRET, BODY, "1699999701"), "x-grafana-alerting-timestamp": "1699999701"},
    ],
)
async def test_a_proof_that_holds_is_enough(headers) -> None:
    rig = Rig(ALL)
    assert (await rig.alert(BODY, **headers)).status_code == 200
    assert len(rig.outlet.alerts) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": TOKEN},
        {"authorization": f"Bearer {OTHER}"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": "Bearer "},
        {"authorization": basic("am", "pass")},
        {"authorization": basic("", "pa:ss")},
        {"authorization": "Basic !!!"},
        {"x-grafana-alerting-signature": signature_of(OTHER, BODY)},
        {"x-grafana-alerting-signature": signature_of(SECRET, BODY + b" ")},
        {"x-grafana-alerting-signature": signature_of(SECRET, BODY).upper()},
        {"x-grafana-alerting-signature": "sha256=" + signature_of(SECRET, BODY)},
        {"x-grafana-alerting-signature": signature_of(OTHER, BODY), "x-grafana-alert-signature": signature_of(SECRET, BODY)},
        # A signature that is wrong is not made good by another proof.
        {"x-grafana-alerting-signature": "0" * 64, "authorization": f"Bearer {TOKEN}"},
        # A time that was not signed, and signed times outside the window.
        {"x-grafana-alerting-signature": signature_of(SECRET, BODY), "x-grafana-alerting-timestamp": "1700000000"},
        {"x-grafana-alerting-signature": signature_of(SECRET, BODY, "1699999699"), "x-grafana-alerting-timestamp": "1699999699"},
        {"x-grafana-alerting-signature": signature_of(SECRET, BODY, "1700000301"), "x-grafana-alerting-timestamp": "1700000301"},
        {"x-grafana-alerting-signature": signature_of(SECRET, BODY, "now"), "x-grafana-alerting-timestamp": "now"},
        {"x-grafana-alerting-signature": signature_of(SECRET, BODY, "9" * 400), "x-grafana-alerting-timestamp": "9" * 400},
    ],
)
async def test_without_a_proof_that_holds_nothing_happens(headers) -> None:
    rig = Rig(ALL)
    answer = await rig.alert(BODY, **headers)
    assert answer.status_code == 401
    assert "www-authenticate" in answer.headers
    assert rig.outlet.events == []
    assert rig.outlet.notes == []


async def test_a_required_time_cannot_be_left_out() -> None:
    rig = Rig(Secrets(hmac_secret=SECRET, timestamp_header="x-when", timestamp_required=True))
    signed = signature_of(SECRET, BODY, "1700000000")
    assert (await rig.alert(BODY, **{"x-grafana-alerting-signature": signature_of(SECRET, BODY)})).status_code == 401
    assert (await rig.alert(BODY, **{"x-grafana-alerting-signature": signed, "x-when": "1700000000"})).status_code == 200


async def test_a_replay_within_the_window_changes_nothing_and_after_it_is_refused() -> None:
    rig = Rig(Secrets(hmac_secret=SECRET))
    headers = {
        "x-grafana-alerting-signature": signature_of(SECRET, BODY, "1700000000"),
        "x-grafana-alerting-timestamp": "1700000000",
    }
    assert (await rig.alert(BODY, **headers)).json()["accepted"] == 1
    assert (await rig.alert(BODY, **headers)).json() == {"accepted": 0, "duplicates": 1, "recorded": 0, "truncated": 0}
    rig.wall.advance(301.0)
    assert (await rig.alert(BODY, **headers)).status_code == 401
    assert len(rig.outlet.events) == 2


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api/fleets"), ("GET", "/api/fleets/r1"), ("GET", "/metrics"), ("POST", "/launches")]
)
async def test_the_rest_takes_the_token_and_not_the_webhooks_proof(method, path) -> None:
    rig = Rig(ALL, host="0.0.0.0")
    for header in ("", "Bearer webh00k-only-token", basic("am", "pa:ss"), f"Bearer {OTHER}"):
        assert (await rig.ask(method, path, headers={"authorization": header})).status_code == 401
    assert (await rig.ask(method, path, headers={"authorization": f"Bearer {TOKEN}"})).status_code != 401


async def test_health_and_the_empty_page_need_no_token() -> None:
    rig = Rig(ALL, host="0.0.0.0")
    assert (await rig.ask("GET", "/healthz")).status_code == 200
    assert (await rig.ask("GET", "/readyz")).json() == {"ready": True, "missing": []}
    rig.ready.lacking = ("nats",)
    assert (await rig.ask("GET", "/readyz")).status_code == 503
    assert (await rig.ask("GET", "/")).status_code == 200


async def test_without_a_token_another_host_name_and_plain_text_are_refused() -> None:
    """So that no web page that is open in a browser here can reach a server on loopback."""
    rig = Rig()
    body = json.dumps(alertmanager(sent())).encode()
    assert (await rig.alert(body, host="evil.example")).status_code == 421
    assert (await rig.alert(body, **{"content-type": "text/plain"})).status_code == 415
    assert (await rig.alert(body, host="localhost:8080")).status_code == 200
    assert len(rig.outlet.alerts) == 1


async def test_a_body_that_is_too_large_is_refused_however_it_is_sent() -> None:
    rig = Rig(limits=Limits(body_bytes=1000))
    assert (await rig.alert(b"x" * 1001)).status_code == 413

    async def pieces():
        for _ in range(20):
            yield b"x" * 100

    answer = await rig.ask("POST", "/webhooks/alerts", content=pieces(), headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert rig.outlet.events == []


def test_beyond_loopback_there_must_be_a_long_token() -> None:
    for listen in ("0.0.0.0:8080", "[::]:8080", "10.0.0.1:80", "tidegate.example:8080"):
        with pytest.raises(TidegateError, match="TIDEGATE_WEB_TOKEN"):
            web_settings_of(listen, {})
        with pytest.raises(TidegateError, match="shorter"):
            web_settings_of(listen, {"TIDEGATE_WEB_TOKEN": "short"})
        assert web_settings_of(listen, {"TIDEGATE_WEB_TOKEN": TOKEN}).secrets.token == TOKEN
    for listen in ("127.0.0.1:0", "localhost:8080", "[::1]:8080", ":8080"):
        assert web_settings_of(listen, {}).is_loopback


@pytest.mark.parametrize(
    ("variable", "value"),
    [("TIDEGATE_WEBHOOK_TOKEN", "short"), ("TIDEGATE_WEBHOOK_BASIC", "grafana:short"), ("TIDEGATE_WEBHOOK_HMAC_SECRET", "s")],
)
def test_beyond_loopback_no_secret_is_short(variable: str, value: str) -> None:
    variables = {"TIDEGATE_WEB_TOKEN": TOKEN, variable: value}
    with pytest.raises(TidegateError, match=f"{variable} is shorter than 16 characters"):
        web_settings_of("0.0.0.0:8080", variables)
    assert web_settings_of("127.0.0.1:8080", variables).is_loopback


def test_secrets_come_from_files_and_never_show(tmp_path) -> None:
    for name in ("token", "hmac"):
        (tmp_path / name).write_text(f"{TOKEN}\n")
    variables = {
        "TIDEGATE_WEB_TOKEN_FILE": str(tmp_path / "token"),
        "TIDEGATE_WEBHOOK_HMAC_SECRET_FILE": str(tmp_path / "hmac"),
        "TIDEGATE_WEBHOOK_BASIC": "am:passpasspasspass",
        "TIDEGATE_WEBHOOK_HMAC_HEADER": "X-Signed",
        "TIDEGATE_WEBHOOK_HMAC_TIMESTAMP_HEADER": "X-When",
    }
    settings = web_settings_of("0.0.0.0:8080", variables)
    assert (settings.secrets.token, settings.secrets.hmac_secret, settings.secrets.webhook_password) == (TOKEN, TOKEN, "pass" * 4)
    assert settings.secrets.signature_headers == ("x-signed",)
    assert settings.secrets.timestamp_required
    assert TOKEN not in repr(settings)
    assert "pass'" not in repr(settings)


@pytest.mark.parametrize("listen", ["8080", "host:", "host:http", "127.0.0.1:70000", ""])
def test_an_address_that_is_none_is_refused(listen) -> None:
    with pytest.raises(TidegateError, match="host:port"):
        web_settings_of(listen, {})


@pytest.mark.parametrize("variables", [{"TIDEGATE_WEB_TOKEN_FILE": "/nowhere/token"}, {"TIDEGATE_WEBHOOK_BASIC": "nobody"}])
def test_secrets_that_cannot_be_had_are_said(variables) -> None:
    with pytest.raises(TidegateError):
        web_settings_of("127.0.0.1:0", variables)
