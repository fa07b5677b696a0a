"""The JSON Schema and the reference page of the policy YAML, both generated from the models.

Owns the shape of both: the schema is JSON Schema 2020-12 without nulls, the page has one table per block.
It must not hold a fact about a field: those are in the `schema` rooms. A golden test compares the committed files with these functions.
"""

import json
import types
from collections.abc import Iterator
from enum import StrEnum
from itertools import combinations
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from policies.explain import field_text
from policies.reference_prose import HEAD, TAIL
from policies.schema import FleetPolicy
from policies.schema_actuators import REPLICA_ACTUATORS, SPILL_ACTUATORS
from policies.schema_demand import ENGINE_LISTS, SOURCES
from policies.schema_quotes import QUOTE_SOURCES

SCHEMA_ID = "https://tidegate.dev/schemas/fleet.v1alpha1.schema.json"
# A title of more of them is longer than a line.
PATHS_IN_A_TITLE = 3


class Count(StrEnum):
    """How many of some fields a block may name."""

    ONE = "exactly one"
    AT_MOST_ONE = "at most one"


GROUPS: dict[str, tuple[Count, tuple[str, ...]]] = {
    "DemandBlock": (Count.ONE, SOURCES),
    "EnginesBlock": (Count.ONE, ENGINE_LISTS),
    "FloorOffer": (Count.AT_MOST_ONE, REPLICA_ACTUATORS),
    "BurstOffer": (Count.AT_MOST_ONE, REPLICA_ACTUATORS),
    "SpillOffer": (Count.AT_MOST_ONE, SPILL_ACTUATORS),
    "QuotesBlock": (Count.ONE, QUOTE_SOURCES),
}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a Fleet document."""
    schema = _tidy(FleetPolicy.model_json_schema(by_alias=True, mode="validation"))
    models: tuple[type[BaseModel], ...] = (FleetPolicy, *blocks())
    for model in models:
        block = schema if model is FleetPolicy else schema["$defs"][model.__name__]
        _write_defaults(block, model)
        if model.__name__ in GROUPS:
            block |= _group_schema(*GROUPS[model.__name__])
    schema["$defs"]["SpillOffer"]["oneOf"] = [{"required": ["usdPerMillionTokens"]}, {"required": ["usdPerUnit"]}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID, **schema, "title": "tidegate Fleet v1alpha1"}


def json_schema_text() -> str:
    """Return the JSON Schema as it is committed."""
    return json.dumps(json_schema(), indent=2) + "\n"


def _group_schema(count: Count, names: tuple[str, ...]) -> dict[str, Any]:
    if count is Count.ONE:
        return {"oneOf": [{"required": [name]} for name in names]}
    return {"not": {"anyOf": [{"required": list(pair)} for pair in combinations(names, 2)]}}


def _tidy(node: Any) -> Any:
    """Return the schema without null alternatives, null defaults and made-up titles: null is the same as left out."""
    if isinstance(node, list):
        return [_tidy(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    tidy = {key: _tidy(value) for key, value in node.items() if not (key == "title" and isinstance(value, str)) and key != "default"}
    some = [entry for entry in tidy.get("anyOf", ()) if entry != {"type": "null"}]
    if len(some) == 1:
        del tidy["anyOf"]
        tidy = {**some[0], **tidy}
    return tidy


def _write_defaults(block: dict[str, Any], model: type[BaseModel]) -> None:
    """State each plain default as the YAML would: durations as text, empty lists and blocks not at all."""
    for name, info in model.model_fields.items():
        if info.is_required() or info.default is None or info.default_factory is not None or isinstance(info.default, tuple):
            continue
        is_duration = name.endswith("_seconds")
        block["properties"][info.alias or name]["default"] = field_text(name, info.default) if is_duration else info.default


def blocks() -> tuple[type[BaseModel], ...]:
    """Return the blocks below the root, in the order a reader meets them."""
    seen: dict[type[BaseModel], None] = {}

    def walk(model: type[BaseModel]) -> None:
        inner = [block for info in model.model_fields.values() if (block := _block_of(info.annotation)) is not None]
        new = [block for block in inner if block not in seen]
        for block in new:
            seen.setdefault(block)
        for block in new:
            walk(block)

    walk(FleetPolicy)
    return tuple(seen)


def _block_of(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _block_of(part)) is not None), None)


def reference_text() -> str:
    """Return the reference page of the policy YAML, Markdown."""
    parts = [HEAD.rstrip("\n")]
    parts += ["\n".join(_section(model, where)) for model, where in _places()]
    return "\n\n".join([*parts, TAIL.strip("\n")]) + "\n"


def _places() -> Iterator[tuple[type[BaseModel], list[str]]]:
    """Yield every block with all the places it stands in."""
    places: dict[type[BaseModel], list[str]] = {}

    def walk(model: type[BaseModel], path: str) -> None:
        places.setdefault(model, []).append(path)
        for name, info in model.model_fields.items():
            inner = _block_of(info.annotation)
            if inner is not None:
                many = "[]" if get_origin(info.annotation) is tuple else ""
                walk(inner, f"{path}.{info.alias or name}{many}".removeprefix("."))

    walk(FleetPolicy, "")
    yield from places.items()


def _section(model: type[BaseModel], where: list[str]) -> Iterator[str]:
    paths = [f"`{path}`" for path in where]
    yield f"### {'The document' if model is FleetPolicy else ', '.join(paths[:PATHS_IN_A_TITLE])}\n"
    if len(paths) > PATHS_IN_A_TITLE:
        yield f"The same in {', '.join(paths[PATHS_IN_A_TITLE:])}.\n"
    yield (model.__doc__ or "").strip().split("\n")[0]
    if model.__name__ in GROUPS:
        count, names = GROUPS[model.__name__]
        yield f"Name {count.value} of {', '.join(f'`{name}`' for name in names)}."
    if not model.model_fields:
        return
    yield "\n| field | type | default | meaning |\n|---|---|---|---|"
    for name, info in model.model_fields.items():
        cells = (f"`{info.alias or name}`", _type_text(name, info), _default_cell(name, info), info.description or "")
        yield "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def _default_cell(name: str, info: FieldInfo) -> str:
    if info.is_required():
        return "**required**"
    if info.default_factory is not None or info.default is None or info.default == ():
        return "–"
    return f"`{field_text(name, info.default)}`"


def _type_text(name: str, info: FieldInfo) -> str:
    many = "list of " if get_origin(info.annotation) is tuple else ""
    if _block_of(info.annotation) is not None:
        return f"{many}block"
    if name.endswith("_seconds"):
        return "duration"
    return many + _word(info.annotation)


def _word(annotation: object) -> str:
    words = {str: "text", float: "number", int: "whole number", bool: "true or false"}
    if isinstance(annotation, type) and annotation in words:
        return words[annotation]
    origin, arguments = get_origin(annotation), [part for part in get_args(annotation) if part not in (type(None), Ellipsis)]
    if origin is dict:
        return "names to text"
    if origin in (tuple, Union, types.UnionType) or hasattr(annotation, "__metadata__"):
        return _word(arguments[0])
    if arguments and all(isinstance(part, str) for part in arguments):
        return " · ".join(f"`{part}`" for part in arguments)
    return "time" if getattr(annotation, "__name__", "") == "datetime" else "text"
