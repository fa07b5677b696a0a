"""Reading policies from disk, and the texts of `tidegate validate` and `tidegate schema`."""

import json
import shutil
from pathlib import Path

import pytest

from controlplane.commands.policy import schema_text, validate_paths
from controlplane.config import load_fleets, load_policies, read_environment, read_secret
from controlplane.contracts.errors import PolicyError, TidegateError

LIBRARY = Path(__file__).parents[2] / "policies" / "library"


def test_a_folder_means_every_yaml_file_in_it_in_a_stable_order(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    shutil.copy(LIBRARY / "small.yaml", tmp_path / "b" / "z.yml")
    shutil.copy(LIBRARY / "deepseek-r1.yaml", tmp_path / "c.yaml")
    (tmp_path / "notes.txt").write_text("not a policy")
    (tmp_path / ".hidden.yaml").write_text("not: a policy")
    assert [fleet.name for fleet in load_fleets([tmp_path])] == ["llama-8b", "deepseek-r1"]
    assert [fleet.name for fleet in load_fleets([tmp_path, tmp_path / "c.yaml"])] == ["llama-8b", "deepseek-r1"], "named twice, read once"


def test_a_file_of_several_documents_gives_several_fleets(tmp_path: Path) -> None:
    text = (LIBRARY / "small.yaml").read_text()
    (tmp_path / "two.yaml").write_text(text + "---\n" + text.replace("name: llama-8b", "name: other") + "---\n")
    assert [fleet.name for fleet in load_fleets([tmp_path / "two.yaml"])] == ["llama-8b", "other"]


def test_the_error_lists_the_problems_of_all_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: Fleet\n")
    (tmp_path / "b.yaml").write_text((LIBRARY / "small.yaml").read_text().replace("leadTime", "leedTime"))
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PolicyError) as caught:
        load_fleets([tmp_path, tmp_path / "nowhere.yaml"])
    text = str(caught.value)
    assert "a.yaml:1: metadata: is required" in text
    assert 'spec.burst[0].leedTime: "6m": unknown field; did you mean leadTime?' in text
    assert "c.yaml: is not UTF-8" in text
    assert "nowhere.yaml: there is no such file or folder" in text


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    assert "no policy named" in load_policies([]).errors[0].message
    assert "holds no .yaml" in load_policies([tmp_path]).errors[0].message


def test_validate_counts_and_ends_well_or_badly(tmp_path: Path) -> None:
    text, code = validate_paths([LIBRARY])
    assert (code, text.splitlines()[-1].startswith("valid: 5 fleets (")) == (0, True)
    (tmp_path / "a.yaml").write_text((LIBRARY / "small.yaml").read_text().replace("sglang", "sglng").replace("max: 2}", "max: x}"))
    text, code = validate_paths([tmp_path])
    assert (code, text.splitlines()[-1]) == (1, "2 errors, 0 warnings")


def test_forecasters_and_time_zones_are_those_that_are_there(tmp_path: Path) -> None:
    text = (LIBRARY / "small.yaml").read_text() + "  forecast: {methods: [harmonc], timeZone: Mars/Olympus}\n"
    (tmp_path / "a.yaml").write_text(text)
    said = [problem.message for problem in load_policies([tmp_path]).errors]
    assert said[0].startswith("is not an IANA time zone")
    assert "is not a forecaster; known are harmonic, persistence" in said[1]


def test_a_warning_does_not_fail(tmp_path: Path) -> None:
    text = (LIBRARY / "deepseek-r1.yaml").read_text().replace("{input: 5.00, output: 8.00}", "{input: 0.55, output: 2.19}")
    (tmp_path / "a.yaml").write_text(text)
    said, code = validate_paths([tmp_path])
    assert code == 0
    assert (
        "spec.spill[0]: warning: costs 2.74 USD per million units of work, no more than the cheapest burst offer, aws-p5en, at 9.168"
        in said
    )


def test_explain_prints_every_default_and_the_compiled_fleet() -> None:
    text, code = validate_paths([LIBRARY / "deepseek-r1.yaml"], explain=True)
    assert code == 0
    assert "spec.serving.shape.inputTokens: 1024" in text
    assert "spec.guard.staleAfter: 2m" in text
    assert "spec.floor[0].hold: 0s" in text
    assert "spec.burst[0].leadTime" not in text, "it is stated"
    assert "1918 outputTokens/s per replica" in text
    assert "measured 2026-03-25" in text
    assert "9.168 USD per million units when fully used" in text
    assert "critical ratio 1 - burst/spill = 0.295 (aws-p5en)" in text
    assert "spill is cheaper" not in text


def test_the_schema_is_printed_as_json() -> None:
    assert json.loads(schema_text())["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_the_environment_is_read_in_one_place() -> None:
    environment = read_environment({"TIDEGATE_NATS": "nats://a:4222", "TIDEGATE_DATA": "traces", "NO_COLOR": ""})
    assert (environment.nats_url, environment.data_folder, environment.no_colour) == ("nats://a:4222", Path("traces"), False)
    assert read_secret("A_TOKEN", {"A_TOKEN": "x"}) == "x"
    assert read_secret("A_TOKEN", {"A_TOKEN": ""}) is None


@pytest.mark.parametrize(("text", "seconds"), [("always", 0.0), ("1m", 60.0), ("", None)])
def test_how_often_the_embedded_server_is_forced_to_disk_is_a_duration_or_always(text: str, seconds: float | None) -> None:
    assert read_environment({"TIDEGATE_NATS_SYNC": text}).nats_sync_seconds == seconds


def test_another_word_for_it_is_refused_by_the_name_of_the_variable() -> None:
    with pytest.raises(TidegateError, match=r"TIDEGATE_NATS_SYNC: 'never' is not a duration; .*, or always"):
        read_environment({"TIDEGATE_NATS_SYNC": "never"})
