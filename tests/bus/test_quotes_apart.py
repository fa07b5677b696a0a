"""Services that are started apart: who does not read quotes needs neither their files nor their tokens."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from controlplane.app import Settings, running
from controlplane.config import load_fleets
from controlplane.contracts.errors import PolicyError
from controlplane.quotes import QuoteError
from controlplane.serve import ServeOptions, settings_of

POLICY = """
apiVersion: tidegate.dev/v1alpha1
kind: Fleet
metadata: {{name: r1}}
spec:
  serving: {{model: m, slo: {{attainment: 0.99}}}}
  demand: {{unit: requests, nats: {{}}}}
  quotes: [{source}]
  burst:
    - {{name: rented, accelerator: {{type: H200}}, capacityPerSecond: 10, replicas: {{max: 8}}, usdPerReplicaHour: 60}}
"""
TOKEN = "{http: {url: 'https://prices.example.com/quotes', bearerTokenEnv: TIDEGATE_TEST_NO_SUCH_TOKEN}}"
APART = ("planner", "forecaster", "actuator")


def policy_in(folder: Path, source: str) -> Path:
    path = folder / "policy.yaml"
    path.write_text(POLICY.format(source=source))
    return path


@pytest.mark.parametrize("service", [*APART, "web"])
def test_only_the_process_that_reads_quotes_needs_their_file(tmp_path: Path, service: str) -> None:
    path = policy_in(tmp_path, f"{{file: {{path: '{tmp_path}/no-such.json'}}}}")
    apart = ServeOptions((path,), "nats://127.0.0.1:4222", service=service)
    assert settings_of(apart).services == (service,)
    for reads in ("collector", None):
        with pytest.raises(QuoteError, match=r"no-such\.json"):
            settings_of(ServeOptions((path,), "nats://127.0.0.1:4222", service=reads))


async def test_only_the_process_that_reads_quotes_needs_their_token(tmp_path: Path) -> None:
    fleets = load_fleets([policy_in(tmp_path, TOKEN)])
    async with running(Settings(fleets, tmp_path / "apart", services=APART)) as plane:
        assert plane.failure == ""
    with pytest.raises(PolicyError, match="TIDEGATE_TEST_NO_SUCH_TOKEN"):
        async with running(Settings(fleets, tmp_path / "together", services=("collector",))):
            pass


async def test_what_cannot_be_made_for_one_fleet_starts_nothing_for_the_others(tmp_path: Path) -> None:
    (good,) = load_fleets([policy_in(tmp_path, "{file: {path: quotes.json}}")])
    (bad,) = load_fleets([policy_in(tmp_path, TOKEN)])
    before = asyncio.all_tasks()
    with pytest.raises(PolicyError, match="TIDEGATE_TEST_NO_SUCH_TOKEN"):
        async with running(Settings((good, replace(bad, name="r2")), tmp_path / "together")):
            pass
    assert asyncio.all_tasks() == before
