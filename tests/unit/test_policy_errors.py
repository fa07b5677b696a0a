"""What `validate` says about a policy that cannot be used: all of it at once, each with its line and what would be right."""

import pytest

from policies.problems import Problem
from policies.reading import Known, read_policies

GOOD = """\
apiVersion: tidegate.dev/v1alpha1
kind: Fleet
metadata: {name: r1}
spec:
  serving:
    model: deepseek-ai/DeepSeek-R1
    engine: sglang
    slo: {ttft: 2s, itl: 50ms, attainment: 0.995}
  demand:
    unit: outputTokens
    prometheus: {url: "http://prometheus:9090", spilled: litellm}
  floor:
    - name: reserved
      accelerator: {type: H200, perReplica: 8}
      replicas: {min: 4, max: 12}
      kubernetes: {name: r1}
  burst:
    - name: rented
      accelerator: {type: H200, perReplica: 8}
      replicas: {max: 40}
      usdPerReplicaHour: 20
      leadTime: 8m
  spill:
    - name: hosted
      usdPerMillionTokens: {input: 3, output: 9}
  guard: {mode: recommend}
"""
KNOWN = Known(frozenset({"UTC", "Europe/Berlin"}), frozenset({"persistence", "harmonic"}))


def edited(*edits: tuple[str, str]) -> str:
    """Return the good policy with texts replaced; a text that is not there is a mistake of the test."""
    text = GOOD
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    return text


def problems_of(*texts: str) -> list[Problem]:
    return list(read_policies([(f"{index}.yaml", text) for index, text in enumerate(texts)], KNOWN).problems)


def test_the_good_policy_is_good() -> None:
    assert problems_of(GOOD) == []


ONE_ERROR = [
    # old, new, line, path, what is said
    ("tidegate.dev/v1alpha1", "tidegate.dev/v1", 1, "apiVersion", "must be tidegate.dev/v1alpha1"),
    ("kind: Fleet", "kind: Fleets", 2, "kind", "the only kind is Fleet"),
    ("{name: r1}\nspec", "{name: Bad_Name}\nspec", 3, "metadata.name", "must be a DNS label"),
    ("engine: sglang", "engine: sglng", 7, "spec.serving.engine", "did you mean sglang?"),
    ("ttft: 2s", "ttft: 2", 8, "spec.serving.slo.ttft", "text with a unit, such as 90s"),
    ("ttft: 2s", "ttft: 2sec", 8, "spec.serving.slo.ttft", "is not a duration"),
    ("ttft: 2s", "ttft: 0s", 8, "spec.serving.slo.ttft", "must be longer than 0s"),
    ("attainment: 0.995", "attainment: 99.5", 8, "spec.serving.slo.attainment", "must be at most 1, a share such as 0.99 for 99 %"),
    (
        "attainment: 0.995",
        'attainment: "0.995"',
        8,
        "spec.serving.slo.attainment",
        "must be a number, without quotes or a unit, such as 3.40",
    ),
    ("attainment: 0.995", "attainment: .nan", 8, "spec.serving.slo.attainment", "finite number"),
    ("unit: outputTokens", "unit: tokens", 10, "spec.demand.unit", "must be one of requests, outputTokens, weightedTokens"),
    ("unit: outputTokens", "unit: weightedTokens", 9, "spec.demand", "inputTokenWeight is required"),
    ("unit: outputTokens", "unit: requests\n    inputTokenWeight: 0.1", 11, "spec.demand.inputTokenWeight", "only for unit weightedTokens"),
    ("spilled: litellm}", "spilled: litellm}\n    nats: {}", 9, "spec.demand", "names prometheus and nats; name exactly one"),
    ('prometheus: {url: "http://prometheus:9090", spilled: litellm}', "nats:", 9, "spec.demand", "names no source"),
    (", spilled: litellm", "", 11, "spec.demand.prometheus", "a spill tier needs the signal of what was spilled"),
    ("http://prometheus", "prometheus", 11, "spec.demand.prometheus.url", "begins with http:// or https://"),
    ("min: 4", "min: 14", 15, "spec.floor[0].replicas.min", "is more than replicas.max, 12"),
    ("min: 4", "min: 4.5", 15, "spec.floor[0].replicas.min", "must be a whole number"),
    ("max: 40", "max: -1", 20, "spec.burst[0].replicas.max", "must be at least 0"),
    ("max: 40}", "max: 40}\n      replicasPerLot: 50", 20, "spec.burst[0].replicas.max", "less than one lot of 50"),
    ("leadTime: 8m", "leadTme: 8m", 22, "spec.burst[0].leadTme", "unknown field; did you mean leadTime?"),
    ("leadTime: 8m", "leadTime: 8m\n      leadTime: 9m", 23, "spec.burst[0].leadTime", "duplicate key, first given on line 22"),
    ("      usdPerReplicaHour: 20\n", "", 18, "spec.burst[0]", "has no price and nothing that quotes one"),
    (
        "Hour: 20",
        "Hour: 20\n      usdPerReplicaHourCeiling: 9",
        22,
        "spec.burst[0].usdPerReplicaHourCeiling",
        "is below usdPerReplicaHour, 20",
    ),
    ("kubernetes: {name: r1}", "kubernetes: {name: R1}", 16, "spec.floor[0].kubernetes.name", "must be the name of an object"),
    ("kubernetes: {name: r1}", "kubernetes: {name: r1, kind: deployment}", 16, "spec.floor[0].kubernetes.kind", "such as Deployment"),
    ("kubernetes: {name: r1}", "kubernetes: {name: r1, apiVersion: apps}", 16, "spec.floor[0].kubernetes.apiVersion", "such as apps/v1"),
    ("kubernetes: {name: r1}", "kubernetes: {name: r1, conflict: fight}", 16, "spec.floor[0].kubernetes.conflict", "yield, warn, takeOver"),
    ("kubernetes: {name: r1}", "kubernetes: {name: r1, replicas: 4}", 16, "spec.floor[0].kubernetes.replicas", "unknown field"),
    ("kubernetes: {name: r1}", "kubernetes: {name: r1, token: hunter2}", 16, "spec.floor[0].kubernetes.token", "unknown field"),
    ("kubernetes: {name: r1}", "kubernetes: {name: r1}\n      simulated: {}", 13, "spec.floor[0]", "names kubernetes and simulated"),
    ("kubernetes: {name: r1}", "aws: {region: x, instanceTypes: [p5]}", 16, "spec.floor[0].aws.launchTemplate", "is required: name of the"),
    ("name: rented", "name: reserved", 18, "spec.burst[0].name", "is also the name of spec.floor[0]"),
    ("- name: hosted", "- name: rented", 24, "spec.spill[0].name", "is also the name of spec.burst[0]"),
    ("output: 9}", "output: 9}\n      usdPerUnit: 1", 24, "spec.spill[0]", "states both prices"),
    ("usdPerMillionTokens: {input: 3, output: 9}", "maxPerSecond: 5", 24, "spec.spill[0]", "has no price"),
    ("mode: recommend", "mode: acting", 26, "spec.guard.mode", "must be one of recommend, act"),
    ("mode: recommend", "frozen: yes", 26, "spec.guard.frozen", "must be true or false"),
    ("guard: {", "guard: {budget: 900, ", 26, "spec.guard.budget", "must be a mapping of fields"),
    ("guard:", "forecast: {timeZone: Europe/Berln}\n  guard:", 26, "spec.forecast.timeZone", "is not an IANA time zone"),
    (
        "guard:",
        "forecast: {methods: [prophet]}\n  guard:",
        26,
        "spec.forecast.methods[0]",
        "is not a forecaster; known are harmonic, persistence",
    ),
    ("guard:", "launches: [{name: a, starts: 2026-11-23T17:00:00}]\n  guard:", 26, "spec.launches[0].starts", "needs its offset"),
    ("guard:", "tick: 0s\n  guard:", 26, "spec.tick", "must be longer than 0s"),
    (
        "type: H200, perReplica: 8}\n      replicas: {max",
        "type: MI300X, perReplica: 8}\n      replicas: {max",
        18,
        "spec.burst[0].capacityPerSecond",
        "measured: 4 x B200, 8 x B200, 8 x H200",
    ),
    ("itl: 50ms", "itl: 1ms", 13, "spec.floor[0].capacityPerSecond", "shortest ITL"),
    ("guard:", "quotes: [{}]\n  guard:", 26, "spec.quotes[0]", "names no source; name exactly one of static, file, http"),
    ("guard:", "quotes: [{file: {path: q.json}, http: {url: http://q}}]\n  guard:", 26, "spec.quotes[0]", "names file and http"),
    ("guard:", "quotes: [{file: {}}]\n  guard:", 26, "spec.quotes[0].file.path", "is required: path of the file"),
    ("guard:", "quotes: [{http: {url: prices}}]\n  guard:", 26, "spec.quotes[0].http.url", "begins with http://"),
    (
        "guard:",
        "quotes: [{http: {url: http://q, bearerTokenEnv: A, bearerTokenFile: b}}]\n  guard:",
        26,
        "spec.quotes[0].http",
        "keep one of bearerTokenEnv and bearerTokenFile",
    ),
    (
        "guard:",
        "quotes: [{static: [{offer: rentd, stockReplicas: 8}]}]\n  guard:",
        26,
        "spec.quotes[0].static[0].offer",
        "did you mean rented?",
    ),
    ("guard:", "quotes: [{static: [{offer: rented}]}]\n  guard:", 26, "spec.quotes[0].static[0]", "give usdPerReplicaHour, stockReplicas"),
    (
        "guard:",
        "quotes: [{static: [{offer: rented, stockReplica: 8}]}]\n  guard:",
        26,
        "spec.quotes[0].static[0].stockReplica",
        "did you mean stockReplicas?",
    ),
    (
        "leadTime: 8m\n",
        "leadTime: 8m\n      simulated: {}\n  quotes: [{static: [{offer: rented, stockReplicas: 8}]}]\n",
        24,
        "spec.quotes[0].static[0].offer",
        "is quoted by its own actuator",
    ),
    ("DeepSeek-R1", "Mystery-9", 13, "spec.floor[0].capacityPerSecond", "no profile of the model"),
]


@pytest.mark.parametrize(("old", "new", "line", "path", "said"), ONE_ERROR)
def test_an_error_has_its_line_and_says_what_would_be_right(old: str, new: str, line: int, path: str, said: str) -> None:
    found = [problem for problem in problems_of(edited((old, new))) if problem.path == path]
    assert found, [str(problem) for problem in problems_of(edited((old, new)))]
    assert found[0].line == line
    assert said in found[0].message
    assert str(found[0]).startswith(f"0.yaml:{line}: {path}: ")


def test_all_errors_come_at_once() -> None:
    text = edited(
        ("{name: r1}\nspec", "{name: Bad_Name}\nspec"),
        ("mode: recommend", "mode: acting"),
        ("leadTime", "leadTme"),
        ("min: 4", "min: 14"),
    )
    text = text.replace("spilled: litellm", "spiled: litellm").replace("name: rented", "name: reserved").replace("itl: 50ms", "itl: 1ms")
    paths = {problem.path for problem in problems_of(text)}
    assert {"metadata.name", "spec.guard.mode", "spec.burst[0].leadTme", "spec.floor[0].replicas.min", "spec.burst[0].name"} <= paths
    assert {"spec.demand.prometheus", "spec.demand.prometheus.spiled", "spec.floor[0].capacityPerSecond"} <= paths


def test_a_missing_capacity_is_told_together_with_a_mistyped_field() -> None:
    paths = {problem.path for problem in problems_of(edited(("type: H200", "type: MI300X"), ("mode: recommend", "mode: x")))}
    assert paths == {"spec.floor[0].capacityPerSecond", "spec.burst[0].capacityPerSecond", "spec.guard.mode"}


def test_two_fleets_of_one_name_and_one_workload_are_errors_across_documents_and_files() -> None:
    in_one_file = problems_of(GOOD + "---\n" + GOOD)
    assert [(problem.line, problem.path) for problem in in_one_file] == [(30, "metadata.name"), (43, "spec.floor[0].kubernetes.name")]
    in_two = problems_of(GOOD, GOOD)
    assert "is also the name of the fleet in 0.yaml:3" in in_two[0].message
    assert in_two[0].file == "1.yaml"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: [1\n", 2, "not valid YAML"),
        ("a:\n\tb: 1\n", 2, "indent with spaces, not tabs"),
        ("a: 'x\n", 2, "not valid YAML"),
        ("a: \x07\n", 1, "a character that YAML does not allow"),
        ("", 0, "holds no document"),
        ("# only a comment\n", 0, "holds no document"),
        ("- a\n- b\n", 1, "must be a mapping that begins with `apiVersion"),
        ("just text\n", 1, "must be a mapping that begins with `apiVersion"),
        ("a: &a [*a]\n", 1, "too large"),
        ("a: " + "[" * 2000 + "]" * 2000, 0, ""),
        ("? [a, b]\n: c\n", 1, "a key must be text"),
        ("a: *nowhere\n", 1, "not valid YAML"),
    ],
)
def test_what_is_not_yaml_is_said_with_its_line(text: str, line: int, said: str) -> None:
    found = problems_of(text)
    assert found
    assert any(said in problem.message for problem in found)
    assert line == 0 or found[0].line == line


def test_a_bomb_of_aliases_is_refused_at_once() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 9)]
    (problem,) = problems_of("\n".join(levels))
    assert "at most 50000 values" in problem.message


def test_a_list_whose_only_entry_is_wrong_is_not_called_empty_too() -> None:
    (problem,) = problems_of(edited(("guard: {", "guard: {budget: {windows: [{name: day, days: [Mon], usdPerHour: 9}]}, ")))
    assert (problem.path, problem.message.rpartition("; ")[2]) == ("spec.guard.budget.windows[0].days[0]", "did you mean mon?")


def test_the_good_documents_of_a_file_are_read_beside_the_bad() -> None:
    reading = read_policies([("f.yaml", GOOD + "---\nkind: Fleet\n---\na: [\n")], KNOWN)
    assert [read.fleet.name for read in reading.policies] == ["r1"]
    assert {problem.line for problem in reading.errors} == {28, 31}


def test_yaml_is_read_in_the_sense_of_1_2() -> None:
    text = edited(
        ("{name: r1}\nspec", "{name: r1, annotations: {a: on, b: 12:30, c: no}}\nspec"), ("usdPerReplicaHour: 20", "usdPerReplicaHour: 2e1")
    )
    (read,) = read_policies([("f.yaml", text)], KNOWN).policies
    assert read.policy.metadata.annotations == {"a": "on", "b": "12:30", "c": "no"}
    assert read.fleet.offers[1].usd_per_replica_hour == 20.0


def test_null_is_the_same_as_left_out() -> None:
    assert problems_of(edited(("  guard: {mode: recommend}", "  guard:\n  launches: ~"))) == []


SECRETS = [
    ("http://prometheus", "http://user:hunter2@prometheus", "hunter2"),
    ("http://prometheus:9090", "http://prometheus:9090?token=hunter2", "hunter2"),
    ("spilled: litellm}", "spilled: litellm, headers: {Authorization: hunter2}}", "hunter2"),
    ("spilled: litellm}", "spilled: litellm, headers: {X-Thing: Bearer abcdefgh12345}}", "abcdefgh12345"),
    ("{name: r1}\nspec", "{name: r1, annotations: {note: AKIAABCDEFGHIJKLMNOP}}\nspec", "AKIAABCDEFGHIJKLMNOP"),
    ("{name: r1}\nspec", "{name: r1, annotations: {db-password: hunter2}}\nspec", "hunter2"),
    ("kubernetes: {name: r1}", "simulated: {url: 'http://a:hunter2@b'}", "hunter2"),
    ("guard: {", "guard: {apiKey: hunter2, ", "hunter2"),
    ("spilled: litellm}", "spilled: litellm, auth: {bearerToken: hunter2}}", "hunter2"),
    ("guard: {", "guard: {runpodApiKey: hunter2, ", "hunter2"),
]


@pytest.mark.parametrize(("old", "new", "secret"), SECRETS)
def test_a_secret_is_an_error_and_is_never_printed(old: str, new: str, secret: str) -> None:
    found = problems_of(edited((old, new)))
    assert any("must not hold secrets" in problem.message for problem in found)
    assert not any(secret in str(problem) for problem in found)


def test_words_about_secrets_are_no_secrets() -> None:
    notes = "annotations: {note: Basic information about bearer tokens}"
    assert problems_of(edited(("{name: r1}\nspec", "{name: r1, " + notes + "}\nspec"))) == []


def test_naming_where_a_secret_is_kept_is_fine() -> None:
    assert problems_of(edited(("spilled: litellm}", "spilled: litellm, auth: {usernameEnv: A_USER, passwordEnv: A_PASSWORD}}"))) == []


def test_a_rented_offer_of_one_name_is_one_thing_in_all_fleets() -> None:
    second = edited(("{name: r1}\nspec", "{name: r2}\nspec"), ("kubernetes: {name: r1}", "kubernetes: {name: r2}"))
    assert problems_of(GOOD, second) == []
    (problem,) = problems_of(GOOD, second.replace("usdPerReplicaHour: 20", "usdPerReplicaHour: 60"))
    assert (problem.file, problem.path) == ("1.yaml", "spec.burst[0].name")
    assert "another offer in 0.yaml:" in problem.message


def test_an_offer_of_no_replicas_is_drained() -> None:
    assert problems_of(edited(("replicas: {max: 40}", "replicas: {max: 0}"))) == []


def test_a_mistyped_kind_hides_no_other_error_and_another_tools_resource_has_no_more_than_that() -> None:
    mistyped = edited(("kind: Fleet", "kind: fleet"), ("leadTime: 8m", "leadTme: 8m"))
    assert {problem.path for problem in problems_of(mistyped)} == {"kind", "spec.burst[0].leadTme"}
    (other,) = problems_of("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: r1}\nspec: {replicas: 1}\n")
    assert other.path == "kind"


def test_a_price_may_be_left_to_quotes() -> None:
    left_out = ("      usdPerReplicaHour: 20\n", "")
    assert [problem.path for problem in problems_of(edited(left_out))] == ["spec.burst[0]"]
    (warning,) = problems_of(edited(left_out, ("guard:", "quotes: [{http: {url: http://prices}}]\n  guard:")))
    assert "nothing is bought until a quote comes" in str(warning)
