"""`tidegate profile estimate`: what nobody measured, modelled by NVIDIA's aiconfigurator and written as a profile file of the house."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from controlplane.cli import main
from controlplane.commands.estimate import COLUMNS, EstimateOptions, case_of, estimate_profile
from controlplane.contracts.errors import TidegateError
from controlplane.studies.estimate import Case, Tool, arguments, estimate, installed
from policies.capacity import Capacity, Unresolved, Want, find_best_capacity
from policies.capacity_file import read_profiles

NAMES = ("deepseek-ai/DeepSeek-R1", "deepseek-ai/DeepSeek-V3", "meta-llama/Meta-Llama-3.1-70B", "nvidia/DeepSeek-V3.1-NVFP4")
R1 = Case("deepseek-ai/DeepSeek-R1", "H200", 8, "sglang", 1024, 1024)


def answer(tokens: float, ttft_ms: float, itl_ms: float) -> SimpleNamespace:
    raw = {"gemm": "fp8_block", "moe": "fp8_block"}
    return SimpleNamespace(tokens_per_second=tokens, ttft=ttft_ms, tpot=itl_ms, backend_version="0.5.14", raw=raw)


def linear(**asked: object) -> SimpleNamespace:
    """A replica that carries more, and more slowly, the more requests it has; best with attention apart; out of memory beyond 64."""
    requests = int(str(asked["batch_size"])) * int(str(asked["attention_dp_size"]))
    if requests > 64:
        raise RuntimeError("OOM: does not fit\nat length")
    each = {(1, 8): 30.0, (8, 1): 20.0, (8, 8): 15.0}[int(str(asked["tp_size"])), int(str(asked["moe_ep_size"]))]
    return answer(each * requests, 100.0 + 10.0 * requests, 10.0 + requests / 2.0)


def tool(ask: Callable[..., SimpleNamespace] = linear) -> Tool:
    return Tool(ask, NAMES, "0.12.0")


def options(**changes: object) -> EstimateOptions:
    stated = {"model": R1.model, "gpu": "h200", "gpus": 8, "engine": "sglang", "input_tokens": 1024, "output_tokens": 1024}
    return EstimateOptions(**{**stated, **changes})  # type: ignore[arg-type]


def test_one_layout_is_taken_the_one_that_carries_most_within_the_slo() -> None:
    found = estimate(R1, tool())
    assert found.layout == "dp"
    assert [point.concurrency for point in found.points] == [8, 16, 32, 64], "attention apart takes whole multiples of the GPUs"
    assert found.points[-1].output_tokens_per_second == 1920.0
    assert found.passed_over == {"tp": "OOM: does not fit", "ep": "OOM: does not fit"}
    assert found.source == "modelled by aiconfigurator 0.12.0 for dp8 ep8, not measured"


def test_a_sweep_ends_with_the_first_point_outside_the_slo() -> None:
    found = estimate(Case(R1.model, "H200", 8, "sglang", 1024, 1024, itl_ms=30.0), tool())
    assert [point.itl_ms for point in found.points] == [14.0, 18.0, 26.0, 42.0]


def test_where_no_layout_gives_a_point_each_says_why() -> None:
    def never(**asked: object) -> SimpleNamespace:
        raise ValueError("no data of this kernel")

    with pytest.raises(TidegateError, match="tp: no data of this kernel; ep: no data of this kernel; dp: no data"):
        estimate(R1, tool(never))


@pytest.mark.parametrize(
    ("model", "precision", "asked", "quantized"),
    [
        ("deepseek-ai/DeepSeek-R1", None, "deepseek-ai/DeepSeek-R1", None),
        ("deepseek-ai/DeepSeek-R1", "fp8", "deepseek-ai/DeepSeek-R1", None),
        ("deepseek-ai/DeepSeek-R1-0528", "fp4", "nvidia/DeepSeek-V3.1-NVFP4", None),
        ("meta-llama/Llama-3.1-70B-Instruct", "fp8", "meta-llama/Meta-Llama-3.1-70B", "fp8"),
        ("meta-llama/Llama-3.1-70B-Instruct", None, "meta-llama/Meta-Llama-3.1-70B", None),
        ("acme/mine", "fp4", "acme/mine", "nvfp4"),
    ],
)
def test_a_model_is_asked_for_by_the_name_that_aiconfigurator_knows(
    model: str, precision: str | None, asked: str, quantized: str | None
) -> None:
    words = arguments(Case(model, "H200", 8, "sglang", 1024, 1024, precision), "tp", 4, NAMES)
    assert words["model_path"] == asked
    assert words.get("gemm_quant_mode") == quantized


def test_the_file_is_one_of_the_house_with_source_and_date(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "modelled.csv"
    estimate_profile(options(out=out, ttft="1s", itl="30ms"), tool())
    estimate_profile(options(out=out, gpus=8, layout="tp", model="deepseek-ai/DeepSeek-V3"), tool())
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert {row["model"] for row in rows} == {"deepseek-ai/DeepSeek-R1", "deepseek-ai/DeepSeek-V3"}
    assert all(row["measured_at"].startswith("20") and "not measured" in row["source"] for row in rows)
    told = capsys.readouterr().err
    assert "within the SLO at most 960 output tokens/s, with 32 requests at once: TTFT 420 ms, ITL 26.0 ms" in told
    assert "passed over tp8" in told
    assert sum(len(profile.points) for profile in read_profiles(out.read_text(), str(out))) == len(rows)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"engine": "lmdeploy"}, "--engine lmdeploy: name one of vllm, sglang, trtllm"),
        ({"precision": "fp2"}, "--precision fp2: name one of"),
        ({"layout": "pp"}, "--layout pp: name one of tp, ep, dp"),
        ({"itl": "50"}, "--itl 50: write a duration"),
        ({"gpu": "TPU"}, "no data of the GPU TPU; it has A100"),
    ],
)
def test_a_word_that_is_not_known_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(TidegateError, match=message):
        estimate(case_of(options(**changes)), tool())


def test_a_file_of_something_else_is_not_written_over(tmp_path: Path) -> None:
    out = tmp_path / "mine.csv"
    out.write_text("a,b\n1,2\n")
    with pytest.raises(TidegateError, match="not a file of this command"):
        estimate_profile(options(out=out), tool())
    assert out.read_text() == "a,b\n1,2\n"


def modelled(model: str, gpu: str, tokens: float) -> str:
    columns = "model,engine,gpu,precision,gpus_per_replica,isl,osl,output_tok_s,ttft_ms,itl_ms,measured_at,source"
    return f"{columns}\n{model},sglang,{gpu},fp8,8,1024,1024,{tokens},500,30,2026-11-22,modelled by somebody\n"


def test_what_is_modelled_counts_only_where_nothing_is_measured_and_is_doubtful() -> None:
    both = read_profiles(modelled("deepseek-ai/DeepSeek-R1", "H200", 9999.0), "m.csv")
    measured = find_best_capacity(Want("deepseek-ai/DeepSeek-R1", "sglang", "H200", 8, 1024, 1024, None, 2.0, 0.05), both)
    assert isinstance(measured, Capacity)
    assert measured.output_tokens_per_second < 9999.0
    alone = read_profiles(modelled("deepseek-ai/DeepSeek-R1", "B300", 5000.0), "m.csv")
    found = find_best_capacity(Want("deepseek-ai/DeepSeek-R1", "sglang", "B300", 8, 1024, 1024, None, 2.0, 0.05), alone)
    assert isinstance(found, Capacity)
    assert found.output_tokens_per_second == 5000.0
    assert found.source.endswith("ITL 30 ms, 2026-11-22"), "it was not measured on that day"
    assert "modelled" in found.doubt
    too_slow = find_best_capacity(Want("deepseek-ai/DeepSeek-R1", "sglang", "B300", 8, 1024, 1024, None, 2.0, 0.02), alone)
    assert isinstance(too_slow, Unresolved)
    assert too_slow.field == "slo"


def test_validate_warns_of_a_modelled_capacity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.csv").write_text(modelled("acme/mine", "B300", 5000.0))
    policy = tmp_path / "policy.yaml"
    offer = {"name": "b300", "accelerator": {"type": "B300", "perReplica": 8}, "replicas": {"max": 2}, "usdPerReplicaHour": 40}
    serving = {"model": "acme/mine", "engine": "sglang", "slo": {"ttft": "2s", "itl": "50ms"}}
    spec = {"serving": serving, "demand": {"unit": "outputTokens", "nats": {}}, "burst": [offer]}
    policy.write_text(json.dumps({"apiVersion": "tidegate.dev/v1alpha1", "kind": "Fleet", "metadata": {"name": "f"}, "spec": spec}))
    monkeypatch.setenv("TIDEGATE_PROFILES", str(tmp_path / "m.csv"))
    with pytest.raises(SystemExit) as ended:
        main(("validate", str(policy)))
    assert ended.value.code == 0
    assert "warning: it is modelled, and the time to the first token may be several times longer" in capsys.readouterr().out


def test_without_the_extra_it_says_how_to_install_it() -> None:
    with pytest.raises(TidegateError, match=r"not installed: pip install 'tidegate\[aiconfigurator\]'"):
        installed(lambda name: None)


@pytest.mark.needs("aiconfigurator")
@pytest.mark.timeout(240)
def test_aiconfigurator_itself_models_what_was_measured_within_a_third() -> None:
    """Llama 3.1 70B in fp8 with vLLM on 4 x H100, measured at 32 requests: 1922 tokens/s at 17 ms between tokens."""
    case = Case("meta-llama/Llama-3.1-70B", "H100", 4, "vllm", 1024, 1024, "fp8", concurrencies=(32,))
    found = estimate(case)
    (point,) = found.points
    assert point.output_tokens_per_second == pytest.approx(1922.0, rel=0.33)
    assert point.itl_ms == pytest.approx(16.5, rel=0.33)
    assert point.precision == "fp8"
    with pytest.raises(TidegateError, match="does not fit"):
        estimate(Case("deepseek-ai/DeepSeek-R1", "H100", 8, "sglang", 1024, 1024, layout="ep", concurrencies=(8,)))
