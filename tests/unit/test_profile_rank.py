"""Serving profiles of one's own, and `tidegate profile rank`: who serves tokens cheapest within the SLO, and why somebody may not."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from controlplane.cli import main
from controlplane.config import load_policies
from controlplane.contracts.errors import PolicyError
from policies.capacity import Capacity, Unresolved, Want, find_best_capacity, find_capacity
from policies.capacity_file import read_profiles
from policies.document import read_documents
from policies.rank import POSSIBLE, rank
from policies.schema import FleetPolicy

HEADER = "model,engine,gpu,precision,gpus_per_replica,isl,osl,output_tok_s,ttft_ms,itl_ms,queueing,measured_at,source"
ROWS = (
    "acme/mine-7b,vllm,h200,fp8,1,1000,500,900,300,15,0,2026-10-01,load test",
    "acme/mine-7b,vllm,h200,fp8,1,1000,500,1800,700,28,0,2026-10-01,load test",
    "acme/mine-7b,vllm,h200,fp8,1,1000,500,2000,9000,40,1,2026-10-01,load test",
    "acme/mine-7b,vllm,B200,fp8,1,1000,500,3600,500,20,0,2026-10-01,load test",
)
POLICY = """\
apiVersion: tidegate.dev/v1alpha1
kind: Fleet
metadata: {name: f}
spec:
  serving:
    model: acme/mine-7b
    engine: vllm
    slo: {ttft: 1s, itl: ITL}
    shape: {inputTokens: 1000, outputTokens: 500}
  demand: {unit: requests, prometheus: {url: "http://prometheus:9090", spilled: litellm}}
  burst:
    - {name: h200, accelerator: {type: H200}, replicas: {max: 9}, usdPerReplicaHour: 3.6}
    - {name: b200, accelerator: {type: B200}, replicas: {max: 9}, usdPerReplicaHourCeiling: 10.8}
    - {name: unpriced, accelerator: {type: B200}, replicas: {max: 9}, simulated: {}}
    - {name: l4, accelerator: {type: L4}, replicas: {max: 9}, usdPerReplicaHour: 1}
  spill:
    - {name: hosted, usdPerMillionTokens: {input: 0.5, output: 2}}
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A policy and a profile file that nothing names yet."""
    monkeypatch.delenv("TIDEGATE_PROFILES", raising=False)
    policy, profiles = tmp_path / "policy.yaml", tmp_path / "profiles.csv"
    policy.write_text(POLICY.replace("ITL", "30ms"))
    profiles.write_text("\n".join((HEADER, *ROWS)) + "\n")
    return policy, profiles


def ranked(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, object]]:
    with pytest.raises(SystemExit) as ended:
        main(("profile", "rank", *arguments, "--json"))
    assert ended.value.code == 0
    rows = json.loads(capsys.readouterr().out)
    assert isinstance(rows, list)
    return rows


def test_offers_are_in_order_of_usd_per_million_tokens_within_the_slo(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """3.60 USD/h at 1800 tokens/s are 0.556 a million, 10.80 at 3600 are 0.833; a request costs 1500 millionths for 500 tokens: 3."""
    policy, profiles = files
    rows = ranked(capsys, str(policy), "--profiles", str(profiles))
    assert [row["name"] for row in rows] == ["h200", "b200", "hosted", "l4", "unpriced"]
    assert [row["usd_per_million"] for row in rows[:3]] == pytest.approx([0.5556, 0.8333, 3.0], rel=1e-3)
    assert "load test" in str(rows[0]["why"])
    assert str(rows[3]["why"]).startswith("not eligible: no profile of acme/mine-7b with vllm on 1 x L4")
    assert str(rows[4]["why"]).startswith("no price")


def test_a_tighter_slo_changes_the_order(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    policy, profiles = files
    policy.write_text(POLICY.replace("ITL", "22ms"))
    rows = ranked(capsys, str(policy), "--profiles", str(profiles))
    assert [row["name"] for row in rows[:2]] == ["b200", "h200"]
    assert rows[1]["output_tokens_per_second"] == 900.0


def test_a_gpu_that_could_be_rented_is_ranked_at_its_price(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    policy, profiles = files
    rows = ranked(capsys, str(policy), "--profiles", str(profiles), "--price", "b200=1.8", "--price", "T4=0.1")
    assert (rows[0]["name"], rows[0]["where"], rows[0]["usd_per_replica_hour"]) == ("vllm fp8", "could be rented", 1.8)
    assert any("on T4" in str(row["why"]) for row in rows)


def test_what_is_only_modelled_does_not_overrule_a_measurement_on_a_gpu_that_could_be_rented() -> None:
    policy = POLICY.replace("acme/mine-7b", "deepseek-ai/DeepSeek-R1").replace("engine: vllm", "engine: sglang").replace("ITL", "50ms")
    policy = policy.replace("inputTokens: 1000, outputTokens: 500", "inputTokens: 1024, outputTokens: 1024").replace("ttft: 1s", "ttft: 2s")
    spec = FleetPolicy.model_validate(read_documents(policy, "f.yaml")[0][0].tree).spec
    modelled = read_profiles(f"{HEADER}\nDeepSeek-R1,sglang,H200,fp8,8,1024,1024,99999,500,40,,,modelled by a wish", "m.csv")
    known, hoped = (
        {row.name: row for row in rank(spec, own, {"H200": 3.4}) if row.where == POSSIBLE and row.accelerators == "8 x H200"}
        for own in ((), modelled)
    )
    assert known["sglang fp8"].usd_per_million is not None
    assert hoped == known


def test_the_table_is_for_people_and_wrong_words_are_explained(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    policy, profiles = files
    for arguments, code, told in (
        ((str(policy), "--profiles", str(profiles)), 0, "USD per million"),
        ((str(policy), "--price", "H200"), 1, "write GPU=USD"),
        ((str(policy), "--fleet", "g"), 1, "name one fleet with --fleet: f"),
        ((str(policy), "--profiles", str(policy)), 1, "has no column model"),
        ((str(policy), "--profiles", "nowhere.csv"), 1, "cannot be read"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(("profile", "rank", *arguments))
        shown = capsys.readouterr()
        assert ended.value.code == code
        assert told in shown.out + shown.err


def test_everything_else_reads_the_file_that_the_environment_names(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    policy, profiles = files
    policy.write_text(POLICY.replace("ITL", "30ms").replace("    - {name: l4", "    # {name: l4"))
    assert len(load_policies([policy]).errors) == 3, "nothing measures the model"
    monkeypatch.setenv("TIDEGATE_PROFILES", str(profiles))
    (read,) = load_policies([policy]).policies
    assert [offer.capacity_per_second for offer in read.fleet.offers] == pytest.approx([3.6, 7.2, 7.2])
    assert "load test" in read.fleet.offers[0].capacity_source


def test_ones_own_measurement_comes_before_the_built_in_one_even_where_it_is_bad_news() -> None:
    want = Want("deepseek-ai/DeepSeek-R1", "sglang", "H200", 8, 1024, 1024, None, 2.0, 0.05)
    mine = read_profiles(f"{HEADER}\nDeepSeek-R1,sglang,H200,fp8,8,1024,1024,1234,500,40,,,", "mine.csv")
    slow = read_profiles(f"{HEADER}\nDeepSeek-R1,sglang,H200,fp8,8,1024,1024,1234,5000,40,,,", "mine.csv")
    other = read_profiles(f"{HEADER}\nDeepSeek-R1,sglang,B300,fp8,8,1024,1024,9999,500,40,,,", "mine.csv")
    found = find_best_capacity(want, mine)
    assert isinstance(found, Capacity)
    assert found.output_tokens_per_second == 1234.0
    assert "your own profile file" in found.source
    assert isinstance(find_best_capacity(want, slow), Unresolved)
    assert find_best_capacity(want, other) == find_capacity(want)


def test_a_precision_that_nobody_states_and_that_would_be_too_slow_is_a_doubt() -> None:
    both = ("acme/m,vllm,H200,bf16,1,1024,1024,900,5000,20,,,", "acme/m,vllm,H200,fp8,1,1024,1024,1800,1000,20,,,")
    rows = read_profiles("\n".join((HEADER, *both)), "mine.csv")
    tight, loose, stated = (
        find_capacity(Want("acme/m", "vllm", "H200", 1, 1024, 1024, precision, ttft), rows)
        for precision, ttft in ((None, 2.0), (None, 10.0), ("fp8", 2.0))
    )
    assert isinstance(tight, Capacity)
    assert (tight.precision, tight.output_tokens_per_second) == ("fp8", 1800.0)
    assert "in bf16 no point is inside the SLO" in tight.doubt
    assert isinstance(loose, Capacity)
    assert (loose.precision, loose.doubt) == ("bf16", "")
    assert isinstance(stated, Capacity)
    assert stated.doubt == ""


@pytest.mark.parametrize(
    ("model", "engine", "count"),
    [("deepseek-ai/DeepSeek-R1", "sglang", 8), ("openai/gpt-oss-120b", "vllm", 2), ("MiniMaxAI/MiniMax-M2.5", "vllm", 4)],
)
def test_a_mixture_of_experts_does_not_go_to_gpus_without_nvlink(model: str, engine: str, count: int) -> None:
    found = find_best_capacity(Want(model, engine, "H200", count, 1024, 1024, None, 2.0, 0.05, interconnect="pcie"))
    assert isinstance(found, Unresolved)
    assert "NVLink" in found.reason


@pytest.mark.parametrize(
    ("model", "engine", "gpu", "count"), [("meta-llama/Llama-3.1-70B", "vllm", "H200", 4), ("Qwen/Qwen3-32B", "trtllm", "H100", 2)]
)
def test_a_dense_model_goes_to_gpus_without_nvlink(model: str, engine: str, gpu: str, count: int) -> None:
    want = Want(model, engine, gpu, count, 1024, 1024, interconnect="pcie")
    assert find_best_capacity(want) == find_best_capacity(replace(want, interconnect=None))
    assert isinstance(find_best_capacity(want), Capacity)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("acme/m,vllm,H200,fp8,1,1000,500,fast,300,15", "mine.csv:2: output_tok_s is not a number: 'fast'"),
        ("acme/m,vllm,H200,fp8,1,1000,500,900,0,15", "ttft_ms must be more than 0"),
        ("acme/m,vllm,,fp8,1,1000,500,900,300,15", "gpu is empty"),
        ("acme/m,vllm,H200,fp8,1,1000,500,nan,300,15", "output_tok_s must be more than 0"),
        ("acme/m,vllm,H200,fp8,1,0.4,500,900,300,15", "isl must be at least 1"),
        ("acme/m,vllm,H200,fp8,0.5,1000,500,900,300,15", "gpus_per_replica must be at least 1"),
        ("acme/m,vllm,H200", "gpus_per_replica is not a number"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(row: str, message: str) -> None:
    with pytest.raises(PolicyError, match=message.replace("(", r"\(")):
        read_profiles(f"{HEADER}\n{row}\n", "mine.csv")
