"""Whether a replica's GPUs hold the model: against what is published and measured, and what becomes of an offer that cannot."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actuators.sold import sold_by
from controlplane.cli import main
from controlplane.contracts.errors import PolicyError
from controlplane.contracts.events import Observation, Tick
from controlplane.contracts.fleet import Fleet
from controlplane.contracts.units import from_unix
from controlplane.pipe import Pipe
from controlplane.planning import Planning
from policies.capacity import profiles
from policies.capacity_file import read_profiles
from policies.compile import compile_fleet
from policies.fit import BYTES_PER_PARAMETER, Load, gpus, models, name_key, precision_in_name, reckon, weights_bytes
from policies.reading import Known, Reading, read_policies

GIB = 2**30
POLICY = """\
apiVersion: tidegate.dev/v1alpha1
kind: Fleet
metadata: {{name: r1}}
spec:
  serving: {{model: {model}, engine: sglang, slo: {{ttft: 2s, itl: 50ms}}{serving}}}
  demand: {{unit: outputTokens, nats: {{}}}}
  burst:
    - {{name: h200, accelerator: {{type: H200, perReplica: 8}}, capacityPerSecond: 1900, replicas: {{max: 9}}, usdPerReplicaHour: 30}}
    - {{name: other, accelerator: {{{other}}}{capacity}, replicas: {{max: 9}}, usdPerReplicaHour: 16}}
"""
MINE = "model,engine,gpu,precision,gpus_per_replica,isl,osl,output_tok_s,ttft_ms,itl_ms"


def read(
    model: str = "deepseek-ai/DeepSeek-R1", other: str = "type: H100, perReplica: 8", serving: str = "", capacity: str = "", own: str = ""
) -> Reading:
    mine = read_profiles(f"{MINE}\n{own}", "mine.csv") if own else ()
    return read_policies([("f.yaml", POLICY.format(model=model, other=other, serving=serving, capacity=capacity))], Known(profiles=mine))


def ineligible(reading: Reading) -> dict[str, str]:
    assert reading.errors == ()
    return dict(reading.policies[0].fleet.ineligible)


@pytest.mark.parametrize(
    ("model", "precision", "bytes_published"),
    [
        pytest.param("openai/gpt-oss-120b", "fp4", 60.8 * GIB, id="gpt-oss model card, 2025-08"),
        pytest.param("openai/gpt-oss-20b", "fp4", 12.8 * GIB, id="gpt-oss-20b model card, 2025-08"),
        pytest.param(
            "deepseek-ai/DeepSeek-V3", "fp8", 671e9, id="DeepSeek-V3: 671 GB without the part for multi-token prediction, 2024-12"
        ),
        pytest.param("nvidia/Llama-3.1-70B-Instruct-FP8", "fp8", 72.7e9, id="Llama 3.1 70B in FP8, 2024-09"),
        pytest.param("meta-llama/Llama-3.1-405B", "bf16", 810e9, id="Llama 3.1 405B: 810 GB in BF16, 2024-07"),
        pytest.param("moonshotai/Kimi-K2-Thinking", "int4", 594e9, id="Kimi K2 Thinking: 594 GB in INT4, 2025-11"),
    ],
)
def test_weights_are_as_large_as_the_published_checkpoint(model: str, precision: str, bytes_published: float) -> None:
    known = models()[name_key(model)]
    assert weights_bytes(known, precision) == pytest.approx(bytes_published, rel=0.01)


@pytest.mark.parametrize(
    ("count", "gpu", "model", "precision", "holds"),
    [
        pytest.param(8, "H100", "deepseek-ai/DeepSeek-R1", "fp8", False, id="8 GPUs of 80 GB ran out of memory, LMDeploy, 2025-01"),
        pytest.param(8, "H20", "deepseek-ai/DeepSeek-R1", "fp8", True, id="8 x H20 serve it, eight requests of 16k at most, 2025-02"),
        pytest.param(8, "H200", "deepseek-ai/DeepSeek-R1", "fp8", True, id="measured on 8 x H200, 2026-03"),
        pytest.param(4, "B200", "deepseek-ai/DeepSeek-R1", "fp8", True, id="measured on 4 x B200, 2026-01"),
        pytest.param(1, "H100", "openai/gpt-oss-120b", "fp4", True, id="fits a single 80 GB GPU, gpt-oss model card, 2025-08"),
        pytest.param(8, "H100", "meta-llama/Llama-3.1-405B", "bf16", False, id="BF16 needs two nodes of 8 x H100, Llama 3.1, 2024-07"),
        pytest.param(8, "H100", "meta-llama/Llama-3.1-405B", "fp8", True, id="FP8 runs on one node of 8 x H100, Llama 3.1, 2024-07"),
        pytest.param(8, "MI300X", "meta-llama/Llama-3.1-405B", "bf16", True, id="BF16 runs on one node of 8 x MI300X, AMD, 2024-07"),
        pytest.param(2, "A100", "meta-llama/Llama-2-70b-hf", "bf16", True, id="measured on 2 x A100 of 80 GB, Splitwise, 2024"),
        pytest.param(2, "A100-40GB", "meta-llama/Llama-2-70b-hf", "bf16", False, id="138 GB do not go into 80 GB"),
        pytest.param(8, "H100", "moonshotai/Kimi-K2-Instruct", "fp8", False, id="16 x H800 is its smallest unit, vLLM, 2025-07"),
        pytest.param(16, "H100", "moonshotai/Kimi-K2-Instruct", "fp8", True, id="16 x H800 serve it, vLLM, 2025-07"),
        pytest.param(8, "H200", "moonshotai/Kimi-K2-Thinking", "int4", True, id="8 x H200 serve it, Kimi K2 Thinking's guide, 2025-11"),
    ],
)
def test_what_is_known_to_fit_fits_and_what_is_known_not_to_does_not(count: int, gpu: str, model: str, precision: str, holds: bool) -> None:
    fit = reckon(Load(model, 2048.0, precision=precision), gpu, count)
    assert fit is not None
    assert fit.holds is holds, fit.text


def test_copies_of_the_kv_cache_are_for_the_policy_to_state() -> None:
    """Kimi K2's guide of 2025-07: in FP8 with 128k tokens 16 x H200 are the smallest unit: tensor parallelism keeps a copy on each."""
    holds = {}
    for count in (8, 16):
        fit = reckon(Load("moonshotai/Kimi-K2-Instruct", 131_072.0, 1.0, "fp8", kv_bytes_per_token=70_272.0 * count), "H200", count)
        holds[count] = fit is not None and fit.holds
    assert holds == {8: False, 16: True}


def test_everything_that_was_measured_is_reckoned_to_fit() -> None:
    for row in profiles():
        precision = row.precision if row.precision in BYTES_PER_PARAMETER else None
        fit = reckon(Load(row.model, row.input_tokens + row.output_tokens, precision=precision), row.accelerator, row.per_replica)
        assert fit is not None, f"{row.model} on {row.accelerator} is measured, but no fact says how large they are"
        assert fit.holds, fit.text


@given(st.sampled_from(sorted(models())), st.sampled_from(sorted(gpus())), st.integers(1, 16), st.floats(1.0, 2e5), st.floats(1.0, 512.0))
def test_more_gpus_never_hold_less_and_more_to_hold_never_fits_better(
    model: str, gpu: str, count: int, tokens: float, requests: float
) -> None:
    def holds(count: int, tokens: float, requests: float, precision: str | None = None) -> bool:
        fit = reckon(Load(model, tokens, requests, precision), gpu, count)
        assert fit is not None
        return fit.holds

    if holds(count, tokens, requests):
        assert holds(count + 1, tokens, requests)
        assert holds(count, tokens / 2.0, requests)
        assert holds(count, tokens, requests / 2.0)
    if holds(count, tokens, requests, "bf16"):
        assert holds(count, tokens, requests, "fp8")
    if holds(count, tokens, requests, "fp8"):
        assert holds(count, tokens, requests, "int4")


@pytest.mark.needs("GPU prices")
def test_memories_of_gpus_are_those_that_suppliers_sell(gpu_prices: Path) -> None:
    sold: dict[str, Counter[float]] = {}
    for row in csv.DictReader(gpu_prices.open(newline="")):
        name = {"NVL": "H100-NVL"}.get(row["gpu_variant"], row["gpu"]) if row["gpu"] == "H100" else row["gpu"]
        name = "A100-40GB" if (row["gpu"], row["gpu_mem_gib"]) == ("A100", "40") else name
        sold.setdefault(name, Counter())[float(row["gpu_mem_gib"])] += 1
    assert len(sold) >= 10
    for name, sizes in sold.items():
        ((usual, _),) = sizes.most_common(1)
        memory = gpus()[name].memory_bytes
        assert usual in (pytest.approx(memory / GIB, rel=0.05), pytest.approx(memory / 1e9, rel=0.05)), f"{name}: suppliers mean GB or GiB"


@pytest.mark.parametrize(
    ("name", "key", "precision"),
    [
        ("RedHatAI/Llama-3.3-70B-Instruct-AWQ", "llama-3.3-70b", "int4"),
        ("nvidia/DeepSeek-R1-NVFP4", "deepseek-r1", "fp4"),
        ("Qwen/Qwen3-235B-A22B-FP8", "qwen3-235b-a22b", "fp8"),
        ("deepseek-ai/DeepSeek-R1-0528", "deepseek-r1", None),
        ("mistralai/Mixtral-8x22B-Instruct-v0.1", "mixtral-8x22b-instruct-v0.1", None),
    ],
)
def test_a_models_name_says_which_it_is_and_how_it_is_quantized(name: str, key: str, precision: str | None) -> None:
    assert name_key(name) == key
    assert key in models()
    assert precision_in_name(name) == precision


def test_an_offer_that_cannot_hold_the_model_is_not_eligible_and_validate_says_the_numbers() -> None:
    reading = read()
    assert list(ineligible(reading)) == ["other"]
    assert [offer.name for offer in reading.policies[0].fleet.offers] == ["h200"]
    (warning,) = reading.warnings
    assert (warning.line, warning.path) == (9, "spec.burst[1].accelerator")
    for said in ("not eligible", "weights 672.9 GB", "8 x H100 have 684.2 GB", "615.7 GB of it usable (90%)", "70272 bytes"):
        assert said in warning.message


def test_where_no_offer_holds_the_model_the_policy_is_an_error() -> None:
    text = POLICY.format(model="deepseek-ai/DeepSeek-R1", other="type: H100, perReplica: 8", serving=", precision: fp8", capacity="")
    reading = read_policies([("f.yaml", text.replace("type: H200, perReplica: 8", "type: H200, perReplica: 4"))])
    assert reading.policies == ()
    assert [error.path for error in reading.errors] == ["spec.burst[0].accelerator", "spec.burst[1].accelerator"]
    assert "no other offer is left" in reading.errors[0].message


def test_a_policy_without_an_eligible_offer_does_not_compile() -> None:
    policy = read().policies[0].policy
    only = policy.model_copy(update={"spec": policy.spec.model_copy(update={"burst": policy.spec.burst[1:]})})
    with pytest.raises(PolicyError, match="other: not eligible: the model does not fit"):
        compile_fleet(only)


@pytest.mark.parametrize(
    ("changes", "eligible"),
    [
        pytest.param(
            {"capacity": ", capacityPerSecond: 900"}, True, id="a stated capacity, no precision: it may be a checkpoint of 4 bits"
        ),
        pytest.param({"capacity": ", capacityPerSecond: 900", "serving": ", precision: fp8"}, False, id="a stated capacity, in fp8"),
        pytest.param({"capacity": ", capacityPerSecond: 900", "other": "type: H100, perReplica: 16"}, True, id="two nodes"),
        pytest.param({"other": "type: H100, perReplica: 8, memoryGib: 141", "capacity": ", capacityPerSecond: 9"}, True, id="more memory"),
        pytest.param({"capacity": ", capacityPerSecond: 9", "serving": ", memory: {bytesPerParameter: 0.6}"}, True, id="stated weights"),
        pytest.param({"own": "deepseek-r1,sglang,H100,fp8,8,1024,1024,700,900,40"}, True, id="one's own measurement is proof"),
        pytest.param(
            {"own": "deepseek-r1,sglang,H100,fp8,8,1024,1024,700,900,40", "serving": ", memory: {contextTokens: 131072}"},
            False,
            id="more is asked for than was measured",
        ),
    ],
)
def test_what_the_policy_states_bears_on_it(changes: dict[str, str], eligible: bool) -> None:
    assert ("other" not in ineligible(read(**changes))) is eligible


@pytest.mark.parametrize(
    ("memory", "eligible"),
    [
        ("parameters: 200e9, bytesPerParameter: 2, kvBytesPerToken: 1e5", True),
        ("parameters: 400e9, bytesPerParameter: 2, kvBytesPerToken: 1e5", False),
        ("parameters: 200e9, bytesPerParameter: 2, kvBytesPerToken: 1e5, contextTokens: 131072, concurrency: 32", False),
        ("parameters: 330e9, bytesPerParameter: 2, kvBytesPerToken: 0", False),
        ("parameters: 330e9, bytesPerParameter: 2, kvBytesPerToken: 0, usableShare: 0.97", True),
    ],
)
def test_a_model_that_nobody_knows_is_checked_by_what_the_policy_says_of_it(memory: str, eligible: bool) -> None:
    reading = read("acme/mine", serving=f", memory: {{{memory}}}", capacity=", capacityPerSecond: 500")
    assert ("other" not in ineligible(reading)) is eligible


def test_a_model_of_unknown_size_is_not_checked() -> None:
    reading = read("acme/mine", capacity=", capacityPerSecond: 500")
    assert ineligible(reading) == {}
    assert [offer.memory_fit for offer in reading.policies[0].fleet.offers] == ["", ""]


def test_a_mixture_of_experts_over_pcie_is_not_eligible_with_the_reason() -> None:
    reasons = ineligible(read(other="type: H200, perReplica: 8, interconnect: pcie"))
    assert "NVLink" in reasons["other"]


def fleet() -> Fleet:
    return read().policies[0].fleet


def test_an_offer_that_is_not_eligible_is_still_known_with_its_supplier() -> None:
    """For who looks for machines that no offer wants: what was bought before a longer context barred it is not among them."""
    other, capacity = "type: H100, perReplica: 8}, simulated: {url: http://127.0.0.1:9", ", capacityPerSecond: 500"
    short, long = (
        read(other=other, capacity=capacity, serving=f", precision: int4, memory: {{contextTokens: {tokens}}}")
        for tokens in (2048, 1048576)
    )
    assert (list(ineligible(short)), list(ineligible(long))) == ([], ["other"])
    assert sold_by(long.policies[0].fleet) == sold_by(short.policies[0].fleet) != []


def test_every_decision_says_which_offers_are_not_eligible_and_why() -> None:
    planning = Planning(fleet())
    state, _ = planning.step(planning.start(), Observation(fleet="r1", time=from_unix(0.0), demand_per_second=900.0, backlog=0.0))
    _, (decision,) = planning.step(state, Tick(time=from_unix(15.0)))
    assert list(decision.targets) == ["h200"]
    assert "8 x H100 have 684.2 GB" in decision.ineligible["other"]
    assert "not eligible: other" in decision.summary


def test_the_pipe_says_so_too_and_takes_lines_that_count_such_an_offer() -> None:
    line = {"type": "observation", "fleet": "r1", "time": "2026-11-22T10:00:00Z", "demand": 900.0, "ready": {"h200": 1, "other": 0}}
    (answer,) = Pipe([fleet()]).answer([json.dumps(line).encode()])
    assert isinstance(answer, bytes)
    read_back = json.loads(answer)
    assert list(read_back["targets"]) == ["h200"]
    assert "KV cache" in read_back["ineligible"]["other"]


def test_rank_says_why_and_how_many_gpus_of_another_kind_would_hold_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY.format(model="deepseek-ai/DeepSeek-R1", other="type: H100, perReplica: 8", serving="", capacity=""))
    with pytest.raises(SystemExit):
        main(("profile", "rank", str(policy), "--price", "MI300X=2", "--price", "L40S=1", "--json"))
    why = {row["name"]: row["why"] for row in json.loads(capsys.readouterr().out)}
    assert why["other"].startswith("not eligible: the model does not fit: deepseek-ai/DeepSeek-R1 in fp8 needs 674.0 GB")
    assert "the model would fit" in why["MI300X"]
    assert "4 x MI300X have" in why["MI300X"]
    assert "8 x L40S have 386.4 GB" in why["L40S"]


def test_validate_explains_what_an_eligible_offer_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY.format(model="deepseek-ai/DeepSeek-R1", other="type: H100, perReplica: 8", serving="", capacity=""))
    with pytest.raises(SystemExit):
        main(("validate", "--explain", str(policy)))
    told = capsys.readouterr().out
    assert "memory: deepseek-ai/DeepSeek-R1 in fp8 needs 674.0 GB" in told
    assert "model: arXiv 2412.19437" in told
    assert "GPU: nvidia-smi" in told
    assert "other: not eligible: the model does not fit" in told
