"""The committed JSON Schemas of the ten events, and the AsyncAPI document of the bus, are those of the models.

After a change of the models, `UPDATE_GOLDEN=1 pytest tests/golden/test_event_schemas.py` writes the files anew; the diff is reviewed:
a field that goes, or that becomes required, breaks those who read or write the event with an older program.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped] # its stubs are not a dependency
import pytest
from pydantic import ValidationError

from controlplane.bus.asyncapi import asyncapi_document
from controlplane.contracts.events import EVENT_BY_KIND, EVENTS, Decision, Event, Observation
from controlplane.contracts.subjects import TEMPLATES

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "docs" / "schemas"
ASYNCAPI = ROOT / "docs" / "asyncapi.json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_of(event: type[Event]) -> dict[str, Any]:
    """Return the JSON Schema of an event's body: what one must write, and may read."""
    return {"$schema": DIALECT, **event.model_json_schema(mode="validation")}


def schema_text(event: type[Event]) -> str:
    return json.dumps(schema_of(event), indent=2, ensure_ascii=False) + "\n"


def asyncapi_text() -> str:
    """Return the document without its version, which is the package's."""
    document = asyncapi_document()
    document["info"]["version"] = "as installed"
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def file_of(event: type[Event]) -> Path:
    return SCHEMAS / f"{event.kind}.v1.schema.json"


def committed(path: Path, made: str) -> str:
    """Return a committed file, written anew first where that is asked for."""
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made)
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.kind)
def test_the_committed_schema_is_that_of_the_model(event: type[Event]) -> None:
    made = schema_text(event)
    assert committed(file_of(event), made) == made, f"run this test with UPDATE_GOLDEN=1 and review the diff of {file_of(event).name}"


def test_the_committed_asyncapi_document_is_that_of_the_brokers() -> None:
    made = asyncapi_text()
    assert committed(ASYNCAPI, made) == made, f"run this test with UPDATE_GOLDEN=1 and review the diff of {ASYNCAPI.name}"


def test_there_is_a_schema_for_each_of_the_ten_events_and_no_other() -> None:
    there = {path.name for path in SCHEMAS.glob("*.v1.schema.json")}
    assert len(EVENTS) == len(EVENT_BY_KIND) == len(there) == 10
    assert there == {file_of(event).name for event in EVENTS}


def test_every_event_is_in_the_asyncapi_document_with_its_subject_and_its_fields() -> None:
    document = json.loads(ASYNCAPI.read_text())
    assert document["asyncapi"].startswith("3.")
    addresses = {re.sub(r"\{\w+\}", "{}", channel["address"]) for channel in document["channels"].values()}
    schemas = document["components"]["schemas"]
    for event, template in TEMPLATES.items():
        assert re.sub(r"\{\w+\}", "{}", template) in addresses, template
        assert set(schema_of(event)["properties"]) <= set(schemas[event.__name__]["properties"]), event.__name__


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.kind)
def test_a_schema_is_one_and_says_the_unit_of_every_number_by_its_name(event: type[Event]) -> None:
    schema = schema_of(event)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["title"] == event.__name__
    assert schema.get("description")
    unitless = {"backlog", "ready", "pending", "draining", "unschedulable", "target", "before", "change", "peak_multiple", "coverage"}
    unit = re.compile(r"(_per_\w+|_seconds|_seconds_p95|_share|_tokens_mean|_replicas|_sequence|_requests)$")
    for name, field in schema["properties"].items():
        kinds = {part.get("type") for part in field.get("anyOf", [field])}
        if kinds & {"number", "integer"} and name not in unitless:
            assert unit.search(name), f"{event.kind}.{name}"


def test_a_body_obeys_its_schema_and_unknown_fields_are_ignored() -> None:
    body = {"time": "2026-11-22T10:00:00Z", "fleet": "r1", "demand_per_second": 1.5, "of_a_newer_version": True}
    seen = Observation.model_validate(body)
    written = json.loads(seen.model_dump_json())
    assert "of_a_newer_version" not in written
    jsonschema.Draft202012Validator(schema_of(Observation), format_checker=jsonschema.FormatChecker()).validate(written)
    assert Observation.model_validate(written) == seen
    with pytest.raises(ValidationError):
        seen.fleet = "r2"  # type: ignore[misc]


def test_the_same_content_has_the_same_id_and_another_has_another() -> None:
    body = {"time": "2026-11-22T10:00:00Z", "fleet": "r1", "demand_per_second": 1.5}
    same = {"time": "2026-11-22T11:00:00+01:00", "fleet": "r1", "demand_per_second": 1.5}
    assert Observation.model_validate(body).event_id == Observation.model_validate(same).event_id
    assert Observation.model_validate({**body, "backlog": 0.0}).event_id != Observation.model_validate(body).event_id
    assert Decision.kind == "decision"
