"""YAML text → plain data with the line of every value, and every syntax error and duplicate key as a finding.

Owns the reading of YAML in the sense of YAML 1.2: `on` and `12:30` are text, `true` is a boolean, `1e6` a number, times stay text.
A value of null counts as left out, as it does in Kubernetes. It must not know what a fleet is; `reading` puts the two together.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from policies.problems import Path, Problem, path_text

MAX_VALUES = 50_000
MAX_DEPTH = 50

_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_CONSTANTS: dict[str, Any] = {
    "": None,
    "~": None,
    "null": None,
    "true": True,
    "false": False,
    ".inf": float("inf"),
    "-.inf": float("-inf"),
    ".nan": float("nan"),
}


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file: plain data, and the line of each path in it."""

    file: str
    tree: Any
    lines: dict[Path, int]

    def line_of(self, path: Path) -> int:
        """Return the line of a path, that of the nearest parent where the path itself is not there."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


@dataclass(slots=True)
class _Walk:
    """What one pass over a document gathers."""

    file: str
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    values: int = 0
    full: bool = False

    def complain(self, node: yaml.Node, path: Path, value: str, message: str) -> None:
        self.problems.append(Problem(self.file, node.start_mark.line + 1, path_text(path), value, message))


def read_documents(text: str, file: str) -> tuple[list[Document], list[Problem]]:
    """Return the documents of a YAML text that could be read, and what is wrong with the rest. `file` is only a name."""
    documents: list[Document] = []
    problems: list[Problem] = []
    for node in _nodes(text, file, problems):
        walk = _Walk(file)
        tree = _plain(node, (), walk)
        problems += walk.problems
        if tree is not None and not walk.full:
            documents.append(Document(file, tree, walk.lines))
    return documents, problems


def _nodes(text: str, file: str, problems: list[Problem]) -> Iterator[yaml.Node]:
    """Yield the node tree of each document up to the first syntax error, which becomes a problem."""
    try:
        loader = yaml.SafeLoader(text)
        while loader.check_node():
            node = loader.get_node()
            if node is not None:
                yield node
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ", ".join(part for part in (error.context, error.problem) if part)
        hint = "; indent with spaces, not tabs" if "\\t" in said else ""
        problems.append(Problem(file, mark.line + 1 if mark else 0, "", "", f"not valid YAML: {said}{hint}"))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problems.append(Problem(file, line, "", "", "not valid YAML: a character that YAML does not allow; write plain UTF-8 text"))
    except RecursionError:
        problems.append(Problem(file, 0, "", "", "not usable: nested too deeply"))


def _plain(node: yaml.Node, path: Path, walk: _Walk) -> Any:
    walk.values += 1
    if walk.values > MAX_VALUES or len(path) > MAX_DEPTH:
        if not walk.full:
            walk.complain(node, path[:3], "", f"too large: at most {MAX_VALUES} values nested {MAX_DEPTH} deep, aliases written out")
        walk.full = True
        return None
    walk.lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, walk)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(child, (*path, index), walk) for index, child in enumerate(node.value)]
    return _scalar(node)


def _mapping(node: yaml.MappingNode, path: Path, walk: _Walk) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            walk.complain(key_node, path, "", "a key must be text")
            continue
        key, line = str(key_node.value), key_node.start_mark.line + 1
        if key in seen:
            walk.complain(key_node, (*path, key), "", f"duplicate key, first given on line {seen[key]}; keep one of the two")
            continue
        seen[key] = walk.lines[(*path, key)] = line
        value = _plain(value_node, (*path, key), walk)
        if value is not None:
            plain[key] = value
    return plain


def _scalar(node: yaml.Node) -> Any:
    text = str(node.value)
    if isinstance(node, yaml.ScalarNode) and node.style in ("'", '"', "|", ">"):
        return text
    lowered = text.lower()
    if lowered in _CONSTANTS:
        return _CONSTANTS[lowered]
    if _INT.fullmatch(text):
        return int(text) if len(text) < 40 else float("inf")
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
