"""What `validate` warns about: policies that are valid and probably not meant so."""

import pytest

from policies.reading import Reading, read_policies

GOOD = """\
apiVersion: tidegate.dev/v1alpha1
kind: Fleet
metadata: {name: r1}
spec:
  serving: {model: m, slo: {attainment: 0.995}}
  demand: {unit: requests, nats: {}}
  floor:
    - name: own
      accelerator: {type: H200}
      capacityPerSecond: 10
      replicas: {max: 4}
      usdPerReplicaHour: 10
  burst:
    - name: rented
      accelerator: {type: H200}
      capacityPerSecond: 10
      replicas: {max: 8}
      usdPerReplicaHour: 36
      leadTime: 8m
  spill:
    - name: hosted
      usdPerUnit: 0.003
  guard: {budget: {usdPerHour: 400}}
"""


def read(*edits: tuple[str, str]) -> Reading:
    text = GOOD
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    return read_policies([("f.yaml", text)])


def test_the_good_policy_has_no_warning() -> None:
    assert read().problems == ()


@pytest.mark.parametrize(
    ("old", "new", "path", "said"),
    [
        (
            "leadTime: 8m",
            "leadTime: 8m\n      cooldown: {scaleDown: 5m}",
            "spec.burst[0].cooldown.scaleDown",
            "shorter than the lead time, 8m",
        ),
        (
            "guard:",
            "behavior: {scaleDown: {stabilizationWindow: 1m}}\n  guard:",
            "spec.behavior.scaleDown.stabilizationWindow",
            "lead time, 8m",
        ),
        ("guard: {", "guard: {staleAfter: 20s, ", "spec.guard.staleAfter", "shorter than two ticks, 30s"),
        ("guard:", "tick: 90s\n  guard:", "spec.tick", "shorter than two ticks, 3m"),
        ("usdPerHour: 400", "usdPerHour: 39", "spec.guard.budget.usdPerHour", "below the floor's cost, 40.00 USD"),
        ("usdPerHour: 400", "usdPerDay: 900", "spec.guard.budget.usdPerDay", "below the floor's cost, 960.00 USD"),
        ("usdPerHour: 400", "usdPerHour: 35", "spec.guard.budget.usdPerHour", "does not pay for an hour of one lot"),
        ("usdPerHour: 400", "usdPerHour: 400, usdPerDay: 300", "spec.guard.budget.usdPerDay", "a day's money would be gone"),
        ("{max: 8}", "{min: 8, max: 16}\n      usdPerReplicaHourCeiling: 99", "spec.guard.budget.usdPerHour", ""),
        ("usdPerUnit: 0.003", "usdPerUnit: 0.0009", "spec.spill[0]", "costs 900 USD per million units of work, no more than"),
        ("usdPerReplicaHour: 36", "usdPerReplicaHour: 9", "spec.burst[0]", "cheaper per unit of work than the floor offer own"),
        ("leadTime: 8m", "leadTime: 61m", "spec.burst[0].leadTime", "longer than an hour"),
        ("leadTime: 8m", "hold: 25h", "spec.burst[0].hold", "longer than a day"),
        ("0.995", "1.0", "spec.serving.slo.attainment", "0.999 is a strict promise"),
        ("{max: 8}", "{max: 9}\n      replicasPerLot: 4", "spec.burst[0].replicas.max", "at most 8 can be held"),
        ("usdPerReplicaHour: 36", "simulated: {}", "spec.burst[0]", "nothing is bought until a quote comes"),
        ("guard: {", "guard: {mode: act, ", "spec.floor[0]", "has no actuator"),
        ("{max: 4}", "{min: 2, max: 4}\n      leadTime: 0s", "spec.guard.maxReplicas", ""),
    ],
)
def test_a_likely_mistake_is_a_warning(old: str, new: str, path: str, said: str) -> None:
    reading = (
        read((old, new)) if said else read((old, new), ("guard: {", "guard: {maxReplicas: 1, "), ("usdPerHour: 400", "usdPerHour: 120"))
    )
    assert reading.errors == ()
    assert len(reading.policies) == 1
    assert any(problem.path == path and said in problem.message for problem in reading.warnings), [str(one) for one in reading.warnings]
    assert all(": warning: " in str(problem) for problem in reading.warnings)


def test_a_default_is_never_warned_about() -> None:
    assert read(("leadTime: 8m", "leadTime: 59m")).warnings == ()


def test_a_profile_of_another_shape_is_doubted() -> None:
    reading = read(
        ("{model: m,", "{model: llama-3.1-70b, engine: vllm, shape: {inputTokens: 100, outputTokens: 1000},"),
        (
            "accelerator: {type: H200}\n      capacityPerSecond: 10\n      replicas: {max: 8}",
            "accelerator: {type: H200}\n      replicas: {max: 8}",
        ),
    )
    assert any("times off" in problem.message and problem.path == "spec.burst[0].profile" for problem in reading.warnings)
