"""From a policy to the fleet that the core decides with: units, prices per unit of work, options in snake_case and SI units."""

from pathlib import Path

import pytest

from controlplane.config import load_fleets
from controlplane.contracts.errors import PolicyError
from controlplane.contracts.fleet import Fleet, Mode, Select, StepKind, StepLimit, Tier, Unit
from policies.capacity import Capacity, Unresolved, Want, find_capacity, model_key, profiles
from policies.compile import compile_fleet
from policies.reading import read_policies

LIBRARY = Path(__file__).parents[2] / "policies" / "library"


def library(name: str) -> Fleet:
    (fleet,) = load_fleets([LIBRARY / name])
    return fleet


def test_the_short_policy_takes_its_capacity_from_a_measured_profile() -> None:
    fleet = library("deepseek-r1.yaml")
    floor, burst = fleet.offers
    assert (floor.tier, burst.tier, fleet.unit) == (Tier.FLOOR, Tier.BURST, Unit.OUTPUT_TOKENS)
    assert floor.capacity_per_second == burst.capacity_per_second == pytest.approx(1918)
    assert "aiconfigurator" in floor.capacity_source
    assert "measured 2026-03-25" in floor.capacity_source
    assert (floor.min_replicas, floor.max_replicas, floor.lead_time_seconds) == (4, 12, 180)
    assert (burst.hold_seconds, burst.actuator, burst.actuator_options["instance_types"]) == (600, "aws", ["p5en.48xlarge"])
    assert (fleet.guard.mode, fleet.guard.budget.usd_per_hour) == (Mode.RECOMMEND, 900)
    assert fleet.spill is not None
    assert fleet.spill.usd_per_unit == pytest.approx((5.0 + 8.0) / 1e6)
    assert fleet.spill.actuator_options == {"http_route": {"namespace": "serving", "name": "r1"}, "backend": "hosted-r1"}
    assert fleet.demand_source["kind"] == "prometheus"
    assert fleet.demand_source["match_labels"] == {"model_name": "deepseek-r1"}


def test_the_full_policy_reaches_every_part_of_the_fleet() -> None:
    fleet = library("full.yaml")
    assert fleet.behavior.scale_up.steps == (StepLimit(StepKind.PERCENT, 100, 60), StepLimit(StepKind.REPLICAS, 8, 60))
    assert (fleet.behavior.scale_up.select, fleet.behavior.scale_down.stabilization_window_seconds) == (Select.MAX, 900)
    assert (fleet.forecast.time_zone, fleet.forecast.season_seconds) == ("Europe/Berlin", 86400)
    assert [(launch.name, launch.starts_unix, launch.half_life_seconds) for launch in fleet.launches] == [
        ("assistant-v4", 1795453200.0, 36000)
    ]
    own, spot, market = fleet.offers
    assert (own.opportunity_usd_per_replica_hour, own.replicas_per_lot) == (1.5, 4)
    assert (spot.ceiling_usd_per_replica_hour, spot.scale_down_cooldown_seconds) == (12.0, 600)
    assert (market.usd_per_replica_hour, market.actuator_options["price_advantage"]) == (None, 0.15)
    assert fleet.guard.max_total_replicas == 80


def test_the_demo_is_replayed_and_simulated() -> None:
    fleet = library("replay-demo.yaml")
    source = {
        key: fleet.demand_source[key] for key in ("kind", "trace", "column", "speed", "scale", "interval_seconds", "start_seconds", "loop")
    }
    assert source == {
        "kind": "replay",
        "trace": "azure_llm_2024_code_week_10min",
        "column": "requests",
        "speed": 6048.0,
        "scale": 1.0,
        "interval_seconds": 300.0,
        "start_seconds": 0.0,
        "loop": False,
    }
    assert [offer.actuator for offer in fleet.offers] == ["simulated"] * 3
    assert fleet.spill is not None
    assert fleet.spill.actuator == "simulated"


POLICY = """\
apiVersion: tidegate.dev/v1alpha1
kind: Fleet
metadata: {{name: f}}
spec:
  serving: {{model: Llama-3.1-70B, engine: vllm, slo: {{ttft: 2s, itl: 50ms}}, shape: {{inputTokens: 2000, outputTokens: 500}}}}
  demand: {{{demand}, nats: {{}}}}
  burst: [{{name: b, accelerator: {{type: h200, perReplica: 4}}, replicas: {{max: 9}}, usdPerReplicaHour: 10}}]
  spill: [{{name: s, usdPerMillionTokens: {{input: 1, output: 4}}}}]
"""


@pytest.mark.parametrize(
    ("demand", "work_per_token", "usd_per_unit"),
    [
        # One request is 2000 tokens in and 500 out and costs 0.004 USD at the hosted endpoint.
        ("unit: requests", 1 / 500, 0.004),
        ("unit: outputTokens", 1.0, 0.004 / 500),
        ("unit: weightedTokens, inputTokenWeight: 0.1", 1.4, 0.004 / 700),
        ("unit: weightedTokens, inputTokenWeight: 0", 1.0, 0.004 / 500),
    ],
)
def test_capacity_and_spill_price_follow_the_unit(demand: str, work_per_token: float, usd_per_unit: float) -> None:
    (read,) = read_policies([("f.yaml", POLICY.format(demand=demand))]).policies
    want = Want("Llama-3.1-70B", "vllm", "H200", 4, 2000, 500, None, 2.0, 0.05)
    found = find_capacity(want)
    assert isinstance(found, Capacity)
    assert read.fleet.offers[0].capacity_per_second == pytest.approx(found.output_tokens_per_second * work_per_token)
    assert read.fleet.spill is not None
    assert read.fleet.spill.usd_per_unit == pytest.approx(usd_per_unit)


def test_compiling_what_no_profile_covers_is_a_policy_error() -> None:
    (read,) = read_policies([("f.yaml", POLICY.format(demand="unit: requests"))]).policies
    spec = read.policy.spec
    offer = spec.burst[0].model_copy(update={"accelerator": spec.burst[0].accelerator.model_copy(update={"type": "L4"})})
    policy = read.policy.model_copy(update={"spec": spec.model_copy(update={"burst": (offer,)})})
    with pytest.raises(PolicyError, match=r"spec\.burst\[0\]\.capacityPerSecond: is required"):
        compile_fleet(policy)


def test_every_profile_row_is_sound() -> None:
    assert len(profiles()) > 200
    for row in profiles():
        assert row.points
        assert all(point.output_tokens_per_second > 0 and point.ttft_seconds > 0 and point.itl_seconds > 0 for point in row.points)
        throughputs = [point.output_tokens_per_second for point in row.points]
        assert throughputs == sorted(throughputs)


def test_a_looser_slo_never_carries_less() -> None:
    for row in profiles():
        previous = 0.0
        for itl_seconds in (0.006, 0.01, 0.02, 0.04, 0.08, 0.2):
            want = Want(
                row.model,
                row.engine,
                row.accelerator,
                row.per_replica,
                row.input_tokens,
                row.output_tokens,
                row.precision,
                5.0,
                itl_seconds,
            )
            found = find_capacity(want)
            carried = found.output_tokens_per_second if isinstance(found, Capacity) else 0.0
            assert carried >= previous
            previous = carried


def test_an_unknown_precision_takes_the_slowest_measured() -> None:
    def carried(precision: str | None) -> float:
        found = find_capacity(Want("deepseek-ai/DeepSeek-R1", "trtllm", "B200", 8, 1024, 1024, precision, 3.0, 0.1))
        assert isinstance(found, Capacity)
        return found.output_tokens_per_second

    assert carried(None) == min(carried("fp4"), carried("fp8"))


@pytest.mark.parametrize(
    ("want", "field"),
    [
        (Want("nobody/Mystery-9", "vllm", "H200", 8, 1024, 1024), "model"),
        (Want("deepseek-ai/DeepSeek-R1", "vllm", "H200", 8, 1024, 1024), "engine"),
        (Want("deepseek-ai/DeepSeek-R1", "sglang", "H200", 4, 1024, 1024), "accelerator"),
        (Want("deepseek-ai/DeepSeek-R1", "sglang", "H200", 8, 1024, 1024, "fp4"), "precision"),
        (Want("deepseek-ai/DeepSeek-R1", "sglang", "H200", 8, 1024, 1024, None, 0.001), "slo"),
    ],
)
def test_what_is_not_measured_is_not_guessed(want: Want, field: str) -> None:
    found = find_capacity(want)
    assert isinstance(found, Unresolved)
    assert found.field == field
    assert "measured" in found.reason


def test_names_of_one_architecture_are_one() -> None:
    assert model_key("meta-llama/Llama-3.1-70B-Instruct") == model_key("Llama-3.1-70B") == "llama-3.1-70b"
    assert model_key("deepseek-ai/DeepSeek-R1-0528") == model_key("nvidia/DeepSeek-R1-NVFP4") == "deepseek-r1"
    assert model_key("Qwen/Qwen3-32B") != model_key("Qwen/Qwen3-235B-A22B-FP8")
