"""What `validate` says about an aws or market block whose fields disagree."""

import pytest

from policies.reading import Known, read_policies

POLICY = """\
apiVersion: tidegate.dev/v1alpha1
kind: Fleet
metadata: {{name: r1}}
spec:
  serving: {{model: m, slo: {{attainment: 0.99}}}}
  demand: {{unit: requests, nats: {{}}}}
  burst:
    - name: rented
      accelerator: {{type: H200, perReplica: 8}}
      capacityPerSecond: 10
      replicas: {{max: 8}}
      usdPerReplicaHourCeiling: 60
      {block}
"""
AWS = "aws: {{region: us-east-1, instanceTypes: [{types}], launchTemplate: serve{more}}}"
LAMBDA = "lambda: {instanceType: gpu_8x_h100_sxm5, sshKeyNames: [serving]}"
AT = "spec.burst[0]."


def said(block: str) -> list[tuple[str, str]]:
    problems = read_policies([("p.yaml", POLICY.format(block=block))], Known(frozenset({"UTC"}), frozenset())).problems
    return [(problem.path, problem.message) for problem in problems]


def aws(more: str = "", types: str = "p5en.48xlarge") -> str:
    return AWS.format(types=types, more=more)


@pytest.mark.parametrize(
    "block",
    [
        aws(),
        aws(", purchase: spot, noticesQueue: 'https://sqs.example.com/1/tidegate-q', readiness: {url: 'http://{ip}:8009/', within: 20m}"),
        aws(", purchase: capacityReservation, availabilityZone: us-east-1a"),
        aws(", purchase: capacityBlock, capacityBlock: {maxUsd: 5000, duration: 2d, confirm: false}"),
        f"market: {{suppliers: [lambda], {LAMBDA}}}",
        "market: {suppliers: [trial], simulated: {trial: 'http://127.0.0.1:9000'}}",
    ],
)
def test_a_good_block_is_good(block: str) -> None:
    assert said(block) == []


@pytest.mark.parametrize(
    ("block", "path", "words"),
    [
        (aws(", purchase: capacityBlock"), "aws.capacityBlock", "maxUsd"),
        (aws(", capacityBlock: {maxUsd: 5}"), "aws.capacityBlock", "only for purchase capacityBlock"),
        (aws(", purchase: capacityBlock, capacityBlock: {}"), "aws.capacityBlock.maxUsd", "is required"),
        (aws(", purchase: capacityBlock, capacityBlock: {maxUsd: 5, duration: 36h}"), "aws.capacityBlock.duration", "whole days"),
        (aws(", purchase: capacityReservation"), "aws.availabilityZone", "us-east-1a"),
        (aws(", purchase: capacityReservation, availabilityZone: a", "p5.48xlarge, p5e.48xlarge"), "aws.instanceTypes", "exactly one"),
        (aws(", noticesQueue: 'https://sqs.example.com/q'"), "aws.noticesQueue", "only for purchase spot"),
        (aws(", purchase: rented"), "aws.purchase", "onDemand"),
        ("market: {suppliers: [lamda]}", "market.suppliers[0]", "did you mean lambda?"),
        ("market: {suppliers: [vultr]}", "market.suppliers[0]", "known here: lambda, runpod"),
        (f"market: {{suppliers: [runpod], {LAMBDA}}}", "market.lambda", "not among suppliers"),
        ("market: {suppliers: [lambda], lambda: {instanceType: gpu_8x_h100_sxm5}}", "market.lambda.sshKeyNames", "is required"),
        (f"market: {{suppliers: [lambda], {LAMBDA[:-1]}, apiKey: secret_abcdefgh}}}}", "market.lambda.apiKey", "unknown field"),
    ],
)
def test_a_bad_block_is_said_with_what_would_be_right(block: str, path: str, words: str) -> None:
    found = said(block)
    assert any(where == AT + path and words in message for where, message in found), found
