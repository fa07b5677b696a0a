"""What else is read of a real Prometheus: gateways, GPUs, the policy's own queries, and who we are to it.

One Prometheus scrapes an engine, a LiteLLM, an Envoy and a DCGM exporter; another one wants a client certificate and a password.
"""

import asyncio
import math
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from controlplane.collectors.api import SourceError
from controlplane.collectors.credentials import Login
from controlplane.collectors.prometheus import PrometheusSource
from controlplane.collectors.prometheus_api import PrometheusApi
from controlplane.contracts.events import Flag, Observation
from controlplane.contracts.fleet import Fleet, Slo, Spill, Unit
from tests.integration.prometheus_process import PrometheusProcess
from tests.integration.replay_exporter import VLLM, Exporter, Replica, dcgm_page, envoy_page, litellm_page, swinging

pytestmark = pytest.mark.needs("prometheus")

ENGINE_PER_SECOND, SPILLED_PER_SECOND, SHED_PER_SECOND = 100.0, 30.0, 10.0
PASSWORD = "not-a-secret-of-anybody"
PASSWORD_BCRYPT = "$2b$04$wnWEqDz3wXj2zh0..6XM4OBUHrR.SDuX3jrl6fYKVODIWWhvR3edW"


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PrometheusProcess, Exporter]]:
    """A Prometheus that has scraped everything for a second."""
    start = time.time()
    with Exporter() as exporter, PrometheusProcess(tmp_path_factory.mktemp("prometheus")) as prometheus:
        exporter.replicas["engine"] = Replica(VLLM, "r1", *swinging(ENGINE_PER_SECOND, 0.0, 1.0), start)
        exporter.pages["litellm"] = lambda now: litellm_page(
            SPILLED_PER_SECOND * (now - start), SHED_PER_SECOND * (now - start), ENGINE_PER_SECOND * (now - start)
        )
        exporter.pages["idle-litellm"] = lambda now: (
            litellm_page(0.0, 0.0, now - start).replace('"r1"', '"idle"').replace('"own"', '"other"')
        )
        exporter.pages["envoy"] = lambda now: envoy_page(SPILLED_PER_SECOND * (now - start), SHED_PER_SECOND * (now - start))
        exporter.pages["dcgm"] = lambda now: dcgm_page(0.6, 60_000.0, 20_000.0)
        prometheus.target(exporter.address, {name: f"/{name}/metrics" for name in ("engine", *exporter.pages)})
        asyncio.run(_scraped(prometheus, 5))
        yield prometheus, exporter


async def _scraped(prometheus: PrometheusProcess, count: int) -> None:
    api = PrometheusApi({"url": prometheus.url})
    for _ in range(150):
        answer = await api.instant("count(up == 1)")
        if answer and answer[0].points[0][1] == count:
            break
        await asyncio.sleep(0.1)
    await asyncio.sleep(1.5)
    await api.close()


def fleet_of(url: str, unit: Unit = Unit.REQUESTS, spill: Spill | None = None, **more: object) -> Fleet:
    source = {"kind": "prometheus", "url": url, "interval_seconds": 1.0, "timeout_seconds": 3.0, "output_tokens": 10.0, **more}
    return Fleet(name="r1", slo=Slo(0.99), unit=unit, offers=(), spill=spill, demand_source=source)


async def second_reading(fleet: Fleet) -> Observation:
    """Return the second reading of a source: the first one's window is a minute."""
    source = PrometheusSource(fleet)
    try:
        await source.read(time.time())
        await asyncio.sleep(1.0)
        return (await source.read(time.time()))[-1]
    finally:
        await source.close()


async def test_what_litellm_spilled_and_shed_is_demand(scraped: tuple[PrometheusProcess, Exporter]) -> None:
    labels = {"preset": "vllm", "match_labels": {"model_name": "r1"}, "spilled": "litellm", "shed_labels": {"requested_model": "r1"}}
    spill = Spill("s", 1.0, actuator="gateway", actuator_options={"backend": "hosted"})
    seen = await second_reading(fleet_of(scraped[0].url, spill=spill, **labels))

    assert seen.spilled_per_second == pytest.approx(SPILLED_PER_SECOND, rel=0.01)
    assert seen.late_per_second == pytest.approx(SHED_PER_SECOND, rel=0.01), "a bad request (400) was not shed"
    assert seen.demand_per_second == pytest.approx(ENGINE_PER_SECOND + SPILLED_PER_SECOND + SHED_PER_SECOND, rel=0.02)


async def test_envoy_counts_by_cluster_and_work_is_in_the_fleets_unit(scraped: tuple[PrometheusProcess, Exporter]) -> None:
    labels = {"preset": "vllm", "spilled": "envoy", "spilled_labels": {"envoy_cluster_name": "hosted"}}
    seen = await second_reading(fleet_of(scraped[0].url, Unit.OUTPUT_TOKENS, **labels))

    assert seen.spilled_per_second == pytest.approx(SPILLED_PER_SECOND * 200.0, rel=0.01)
    assert seen.demand_per_second == pytest.approx((ENGINE_PER_SECOND + SPILLED_PER_SECOND) * 200.0, rel=0.02)
    assert seen.late_per_second is None, "shedding was not asked for"


async def test_a_counter_that_never_counted_is_zero_where_the_gateway_is_heard(scraped: tuple[PrometheusProcess, Exporter]) -> None:
    labels = {"preset": "vllm", "spilled": "litellm", "spilled_labels": {"requested_model": "nobody"}}
    seen = await second_reading(fleet_of(scraped[0].url, **labels))

    assert seen.spilled_per_second == 0.0
    assert not seen.flags


async def test_gpus_are_read_from_dcgm(scraped: tuple[PrometheusProcess, Exporter]) -> None:
    seen = await second_reading(fleet_of(scraped[0].url, preset="vllm", gpus={"match_labels": {"Hostname": "node-1"}}))

    assert seen.gpu_used_share == pytest.approx(0.6, rel=0.01), "SM_ACTIVE, not GPU_UTIL, which says 100 %"
    assert seen.gpu_memory_used_share == pytest.approx(0.75)


async def test_own_queries_replace_the_presets_and_an_arrivals_counter_stands_alone(scraped: tuple[PrometheusProcess, Exporter]) -> None:
    queries = {
        "demand": 'sum(rate(litellm_proxy_total_requests_metric_total{requested_model="r1"}[2s])) * 3',
        "spilled": 'sum(rate(litellm_deployment_success_responses_total{requested_model="hosted"}[2s]))',
        "backlog": "vector(12)",
        "ttft": "vector(0.7)",
    }
    seen = await second_reading(fleet_of(scraped[0].url, preset="vllm", queries=queries))

    assert seen.demand_per_second == pytest.approx(ENGINE_PER_SECOND * 3.0, rel=0.05)
    assert seen.spilled_per_second == pytest.approx(SPILLED_PER_SECOND, rel=0.05)
    assert (seen.backlog, seen.ttft_seconds_p95) == (12.0, 0.7)
    assert seen.running_requests == pytest.approx(ENGINE_PER_SECOND * 0.5, abs=1.0), "the preset still says the rest"


@pytest.mark.parametrize(
    "query", ["no_such_metric", "vector(0) / 0", "vector(-5)", "up"], ids=["empty", "not a number", "negative", "several"]
)
async def test_an_answer_that_is_no_number_is_unknown_never_zero(scraped: tuple[PrometheusProcess, Exporter], query: str) -> None:
    seen = await second_reading(fleet_of(scraped[0].url, queries={"demand": query}))

    assert seen.demand_per_second is None
    assert Flag.STALE in seen.flags


async def test_labels_that_match_nothing_are_unknown_never_zero(scraped: tuple[PrometheusProcess, Exporter]) -> None:
    seen = await second_reading(fleet_of(scraped[0].url, preset="vllm", match_labels={"model_name": "no-such-model"}))

    assert seen.demand_per_second is None
    assert seen.backlog is None
    assert Flag.STALE in seen.flags


async def test_a_query_that_is_wrong_is_said_and_not_tried_again(scraped: tuple[PrometheusProcess, Exporter]) -> None:
    api = PrometheusApi({"url": scraped[0].url})
    with pytest.raises(SourceError, match="parse error") as refused:
        await api.instant("sum(")
    await api.close()

    assert not refused.value.retryable
    assert api.breaker.failures == 0


async def test_label_values_are_quoted(scraped: tuple[PrometheusProcess, Exporter]) -> None:
    awkward = {"model_name": 'a"b\\c\n{}'}
    seen = await second_reading(fleet_of(scraped[0].url, preset="vllm", match_labels=awkward))

    assert seen.demand_per_second is None


@asynccontextmanager
async def asked(options: dict[str, object], secrets: dict[str, str] | None = None) -> AsyncIterator[PrometheusApi]:
    secret: Callable[[str], str | None] = (secrets or {}).get
    api = PrometheusApi(options, Login(options, secret))
    try:
        yield api
    finally:
        await api.close()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PrometheusProcess, Path]]:
    """A Prometheus that wants a client certificate and a password, and the folder of the certificates."""
    folder = tmp_path_factory.mktemp("guarded")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    openssl(*["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test-ca"])
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("server", "client"):
        openssl(*f"req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}".split())
        openssl(*f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days 2 -extfile names".split())
    (folder / "web.yml").write_text(
        "tls_server_config: {cert_file: server.pem, key_file: server.key, client_auth_type: RequireAndVerifyClientCert, "
        f"client_ca_file: ca.pem}}\nbasic_auth_users: {{reader: {PASSWORD_BCRYPT}}}\n"
    )
    process = PrometheusProcess(folder / "p", arguments=[f"--web.config.file={folder / 'web.yml'}"], is_guarded=True)
    with process:
        yield process, folder


def guarded_options(url: str, folder: Path) -> dict[str, object]:
    files = {"ca_file": str(folder / "ca.pem"), "cert_file": str(folder / "client.pem"), "key_file": str(folder / "client.key")}
    return {"url": url, "auth": {**files, "username_env": "READER", "password_env": "READER_PASSWORD"}, "timeout_seconds": 2.0}


@pytest.mark.needs("openssl")
async def test_mutual_tls_and_a_password_open_the_door(guarded: tuple[PrometheusProcess, Path]) -> None:
    options = guarded_options(guarded[0].url, guarded[1])
    async with asked(options, {"READER": "reader", "READER_PASSWORD": PASSWORD}) as api:
        assert math.isfinite(await api.clock_offset())


@pytest.mark.needs("openssl")
async def test_a_wrong_password_is_refused_and_never_told(guarded: tuple[PrometheusProcess, Path]) -> None:
    options = guarded_options(guarded[0].url, guarded[1])
    async with asked(options, {"READER": "reader", "READER_PASSWORD": "wrong-and-private"}) as api:
        with pytest.raises(SourceError, match="401") as refused:
            await api.instant("up")

    assert "wrong-and-private" not in str(refused.value)
    assert not refused.value.retryable


@pytest.mark.needs("openssl")
async def test_without_a_certificate_there_is_no_connection(guarded: tuple[PrometheusProcess, Path]) -> None:
    options = guarded_options(guarded[0].url, guarded[1])
    options["auth"] = {"ca_file": str(guarded[1] / "ca.pem")}
    async with asked(options) as api:
        with pytest.raises(SourceError):
            await api.instant("up")
