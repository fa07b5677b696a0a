"""What a policy may say about where signals come from, and what it is told when that cannot be."""

from pathlib import Path

import pytest

from controlplane.config import load_fleets, load_policies
from controlplane.services.collecting import SOURCES, is_read

POLICY = """\
apiVersion: tidegate.dev/v1alpha1
kind: Fleet
metadata: {{name: r1}}
spec:
  serving: {{model: m, engine: {engine}, slo: {{ttft: 2s, itl: 50ms, attainment: 0.99}}}}
  demand:
    unit: outputTokens
    {source}
  floor:
    - name: own
      accelerator: {{type: H200, perReplica: 8}}
      capacityPerSecond: 50
      replicas: {{max: 20}}
      usdPerReplicaHour: 10
      leadTime: 1m
{spill}"""
SPILL = "  spill:\n    - {name: hosted, usdPerUnit: 1}\n"


def written(folder: Path, source: str, engine: str = "vllm", spill: str = "") -> list[Path]:
    path = folder / "r1.yaml"
    path.write_text(POLICY.format(source=source, engine=engine, spill=spill))
    return [path]


@pytest.mark.parametrize(
    ("source", "place", "words"),
    [
        ("engines: {}", "spec.demand.engines", "does not say where the replicas are; name exactly one of targets, dns, pods"),
        ('engines: {targets: ["http://a"], dns: {name: a, port: 1}}', "spec.demand.engines", "names targets and dns"),
        ("engines: {dns: {name: a, port: 70000}}", "spec.demand.engines.dns.port", "at most 65535"),
        ('engines: {targets: ["http://a"], spilled: litellm}', "spec.demand.engines.gateways", "is required with spilled"),
        ("prometheus: {url: http://p, spilled: envoy}", "spec.demand.prometheus.spilledLabels", "is required with envoy"),
        ("prometheus: {url: http://p, spilled: envy}", "spec.demand.prometheus.spilled", "did you mean envoy?"),
        ("prometheus: {url: http://p, auth: {certFile: /c}}", "spec.demand.prometheus.auth", "certFile and keyFile go together"),
        ("prometheus: {url: http://p, auth: {usernameEnv: U}}", "spec.demand.prometheus.auth", "usernameEnv and passwordEnv go together"),
        ("prometheus: {url: http://p}\n    engines: {dns: {name: a, port: 1}}", "spec.demand", "names prometheus and engines"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, source: str, place: str, words: str) -> None:
    problems = load_policies(written(tmp_path, source)).problems

    assert any(problem.path == place and words in problem.message for problem in problems), [str(problem) for problem in problems]


def test_an_unknown_engine_needs_a_preset(tmp_path: Path) -> None:
    problems = load_policies(written(tmp_path, "engines: {dns: {name: a, port: 1}}", engine="other")).problems

    assert any("set preset to vllm, sglang, trtllm or lmdeploy" in problem.message for problem in problems)


def test_a_spill_tier_needs_its_signal_with_engines_too(tmp_path: Path) -> None:
    problems = load_policies(written(tmp_path, "engines: {dns: {name: a, port: 1}}", spill=SPILL)).problems

    assert any("set `spilled: litellm` and `gateways`" in problem.message for problem in problems)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("engines: {dns: {name: a, port: 8000}}", "engines:sglang"),
        ('engines: {targets: ["http://a:1"], preset: vllm, auth: {bearerTokenFile: /no/such/file}}', "engines:vllm"),
        ("engines: {pods: {namespace: n, selector: app=a, port: 8000}}", "engines:sglang"),
        ("prometheus: {url: http://p, tenant: t, gpus: {}, queries: {demand: vector(1)}}", "prometheus:sglang"),
    ],
)
async def test_a_policy_becomes_a_source(tmp_path: Path, source: str, name: str) -> None:
    (fleet,) = load_fleets(written(tmp_path, source, engine="sglang"))
    made = SOURCES[str(fleet.demand_source["kind"])](fleet)
    await made.close()

    assert is_read(fleet)
    assert made.name == name
    assert fleet.demand_source["interval_seconds"] == fleet.tick_seconds


def test_pushed_and_replayed_demand_is_not_read(tmp_path: Path) -> None:
    (fleet,) = load_fleets(written(tmp_path, "nats: {}"))

    assert not is_read(fleet)
