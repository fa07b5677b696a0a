"""The committed JSON Schema and reference page are those of the models, and every example obeys both.

After a change of the models, `UPDATE_GOLDEN=1 pytest tests/golden/test_policy_reference.py` writes the files anew; the diff is reviewed.
"""

import os
from collections.abc import Callable
from pathlib import Path

import jsonschema  # type: ignore[import-untyped] # its stubs are not a dependency
import pytest
import yaml

from controlplane.config import load_policies
from policies.document import read_documents
from policies.reference import json_schema, json_schema_text, reference_text

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "policies" / "library").glob("*.yaml"))
SCHEMA_LINE = "# yaml-language-server: $schema=../../docs/schemas/fleet.v1alpha1.schema.json"


@pytest.mark.parametrize(
    ("path", "made"),
    [("docs/schemas/fleet.v1alpha1.schema.json", json_schema_text), ("docs/policy.md", reference_text)],
    ids=["json schema", "reference page"],
)
def test_the_committed_file_is_the_generated_one(path: str, made: Callable[[], str]) -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        (ROOT / path).write_text(made())
    assert (ROOT / path).read_text() == made(), f"{path} is not that of the models: run this test with UPDATE_GOLDEN=1 and review the diff"


def test_there_are_the_examples_that_the_page_names() -> None:
    assert [path.name for path in EXAMPLES] == ["deepseek-r1.yaml", "full.yaml", "no-spill.yaml", "replay-demo.yaml", "small.yaml"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_valid_without_a_warning_and_obeys_the_json_schema(path: Path) -> None:
    assert [str(problem) for problem in load_policies([path]).problems] == []
    text = path.read_text()
    assert text.splitlines()[0] == SCHEMA_LINE
    documents, _ = read_documents(text, path.name)
    for document in documents:
        jsonschema.Draft202012Validator(json_schema()).validate(document.tree)


def test_the_smallest_example_is_short() -> None:
    lines = (ROOT / "policies" / "library" / "small.yaml").read_text().splitlines()
    assert len(lines) <= 26


def test_every_top_level_block_is_in_the_full_example() -> None:
    spec = yaml.safe_load((ROOT / "policies" / "library" / "full.yaml").read_text())["spec"]
    assert set(spec) == set(json_schema()["$defs"]["SpecBlock"]["properties"])


def test_the_schema_is_structural() -> None:
    """A custom resource allows no null alternatives, no unions of types, and every property has a description."""
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for name, block in {"root": schema, **schema["$defs"]}.items():
        assert block["additionalProperties"] is False, name
        for key, field in block.get("properties", {}).items():
            assert field.get("description"), f"{name}.{key}"
            assert "anyOf" not in field, f"{name}.{key}"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("kind: Fleet", "kind: Fleets"),
        ("leadTime: 8m", "leadTime: 8 minutes"),
        ("leadTime: 8m", "leadTme: 8m"),
        ("max: 40", 'max: "40"'),
        ("spilled: litellm}", "spilled: litellm}\n    nats: {}"),
        ("usdPerMillionTokens: {input: 5.00, output: 8.00}", "maxPerSecond: 1"),
        ("hold: 10m", "simulated: {}"),
        ("attainment: 0.995", "attainment: 99.5"),
    ],
)
def test_the_json_schema_refuses_what_the_models_refuse(old: str, new: str) -> None:
    text = (ROOT / "policies" / "library" / "deepseek-r1.yaml").read_text()
    assert old in text
    documents, _ = read_documents(text.replace(old, new), "f.yaml")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(json_schema()).validate(documents[0].tree)
