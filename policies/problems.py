"""What is wrong with a policy, as values: where it stands, what it is, and what would be right.

Owns the `Problem`, its one-line form, and the translation of pydantic's findings into the words of the policy.
It must not read files; `document` knows the lines, `check` and `advice` find what single fields cannot show.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from policies.schema_fields import NAME_PATTERN, URL_PATTERN

Path = tuple[str | int, ...]


class Severity(StrEnum):
    """An error makes the policy unusable; a warning is a likely mistake."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about the value at `path` of one document, before it is known where that stands in a file."""

    path: Path
    message: str
    severity: Severity = Severity.ERROR
    secret: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """A finding with its place. `line` counts from 1; 0 is a problem of the file as a whole. `value` is printable, or empty."""

    file: str
    line: int
    path: str
    value: str
    message: str
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        """Return `file:line: path: value: message`, a warning marked as one."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        parts = [place, *(part for part in (self.path, self.value) if part)]
        mark = "warning: " if self.severity is Severity.WARNING else ""
        return ": ".join(parts) + ": " + mark + self.message


def path_text(path: Path) -> str:
    """Print a path as users write it: `spec.burst[0].leadTime`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else part)
    return text


def value_text(value: object) -> str:
    """Print a value short enough for a line; mappings and lists are too long to help."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"{value!r}"
    if isinstance(value, str):
        text = value if len(value) <= 60 else value[:57] + "..."
        return '"' + text.replace("\n", "\\n") + '"'
    return ""


def value_at(tree: Any, path: Path, default: object = None) -> Any:
    """Return what stands at a path of plain data, `default` where the path leads nowhere."""
    for part in path:
        there = part in tree if isinstance(tree, Mapping) else isinstance(tree, list) and isinstance(part, int) and part < len(tree)
        if not there:
            return default
        tree = tree[part]
    return tree


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean X?` for the known word nearest to a mistyped one, else an empty text."""
    lowered = {name.lower(): name for name in known}
    match = get_close_matches(word.lower(), list(lowered), n=1, cutoff=0.6)
    return f"; did you mean {lowered[match[0]]}?" if match else ""


def findings_of(error: ValidationError, model: type[BaseModel]) -> list[Finding]:
    """Turn all that pydantic found into findings, each saying what would be right."""
    details = error.errors(include_url=False)
    wrong = [tuple(detail["loc"]) for detail in details]
    # A list whose only entry is wrong counts as empty too: the entry is what there is to say.
    told = [detail for detail in details if detail["type"] != "too_short" or not any(loc[:-1] == tuple(detail["loc"]) for loc in wrong)]
    return [Finding(tuple(detail["loc"]), _message(dict(detail), model)) for detail in told]


def _message(detail: dict[str, Any], model: type[BaseModel]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_field(tuple(detail["loc"]), model)
    if kind == "missing":
        description = _description(tuple(detail["loc"]), model)
        return "is required" + (f": {description}" if description else "")
    if kind == "literal_error":
        expected = str(context.get("expected", ""))
        names = [name.strip("'") for name in expected.replace(" or ", ", ").split(", ")]
        hint = nearest(str(detail["input"]), names) if isinstance(detail["input"], str) else ""
        return f"must be one of {', '.join(names)}{hint}" if len(names) > 1 else f"must be {names[0]}"
    if kind == "string_pattern_mismatch":
        return _pattern_words(str(context.get("pattern", "")))
    if kind == "value_error":
        return str(context.get("error", detail["msg"]))
    return _TYPE_WORDS.get(kind, "") or _bound(kind, context) or str(detail["msg"]).replace("Input should", "should")


def _fields_at(path: Path, model: type[BaseModel]) -> Mapping[str, FieldInfo]:
    """Return the fields of the block that a path ends in, by the names users write."""
    fields = _named(model)
    for part in path:
        if isinstance(part, int):
            continue
        info = fields.get(part)
        inner = _block_of(info.annotation) if info else None
        if inner is None:
            return {}
        fields = _named(inner)
    return fields


def _named(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {info.alias or name: info for name, info in model.model_fields.items()}


def _block_of(annotation: object) -> type[BaseModel] | None:
    """Return the model inside an annotation such as `tuple[Model, ...]` or `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _block_of(part)) is not None), None)


def _unknown_field(path: Path, model: type[BaseModel]) -> str:
    known = _fields_at(path[:-1], model)
    hint = nearest(str(path[-1]), known)
    return f"unknown field{hint}" if hint else f"unknown field; known here: {', '.join(known) or 'none'}"


def _description(path: Path, model: type[BaseModel]) -> str:
    info = _fields_at(path[:-1], model).get(str(path[-1]))
    return (info.description or "") if info else ""


def _pattern_words(pattern: str) -> str:
    if pattern == NAME_PATTERN:
        return "must be a DNS label: lower-case letters, digits and '-', at most 63, such as reserved-h200"
    if pattern == URL_PATTERN:
        return "must be an address that begins with http:// or https://"
    return f"must match {pattern}"


_TYPE_WORDS = {
    "string_type": "must be text; put it in quotes",
    "int_type": "must be a whole number, without quotes or a unit, such as 4",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number, without quotes or a unit, such as 3.40",
    "bool_type": "must be true or false, without quotes",
    "finite_number": "must be a finite number",
    "tuple_type": "must be a list: begin each entry with '- '",
    "model_type": "must be a mapping of fields",
    "model_attributes_type": "must be a mapping of fields",
    "dict_type": "must be a mapping of names to values",
}


def _bound(kind: str, context: Mapping[str, Any]) -> str:
    words = {
        "greater_than": ("must be greater than", "gt"),
        "greater_than_equal": ("must be at least", "ge"),
        "less_than": ("must be less than", "lt"),
        "less_than_equal": ("must be at most", "le"),
    }
    if kind in words:
        text, key = words[kind]
        share = ", a share such as 0.99 for 99 %" if kind.startswith("less_than") and context[key] == 1.0 else ""
        return f"{text} {context[key]:g}{share}"
    if kind == "too_long":
        return f"has {context.get('actual_length')} entries, at most {context.get('max_length')} are allowed"
    if kind == "too_short":
        return f"needs at least {context.get('min_length')} entry"
    if kind == "string_too_long":
        return f"is longer than {context.get('max_length')} characters"
    if kind == "string_too_short":
        return "must not be empty"
    return ""
