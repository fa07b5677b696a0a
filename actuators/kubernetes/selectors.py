"""Label selectors: text such as `app=r1,tier in (gpu,big),!old`, as the scale subresource gives it, and whether labels match.

Pure. Owns the syntax of https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors; nothing else.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_TERM = re.compile(
    r"\s*(?:(?P<not>!)\s*(?P<absent>[^\s,=!()]+)"
    r"|(?P<key>[^\s,=!()]+)\s*(?:(?P<set>in|notin)\s*\((?P<values>[^)]*)\)|(?P<compare>==|=|!=)\s*(?P<value>[^\s,]*))?)\s*(?:,|$)"
)


@dataclass(frozen=True, slots=True)
class Term:
    """One requirement. `operator` is In, NotIn, Exists or DoesNotExist."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether labels meet it; as in Kubernetes, NotIn holds where the key is absent."""
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
        return self.key not in labels


@dataclass(frozen=True, slots=True)
class Selector:
    """All of its terms must hold."""

    terms: tuple[Term, ...]

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether labels meet every term."""
        return all(term.matches(labels) for term in self.terms)

    @property
    def labels(self) -> tuple[str, ...]:
        """The `key=value` pairs that every match has, for looking up."""
        return tuple(f"{term.key}={term.values[0]}" for term in self.terms if term.operator == "In" and len(term.values) == 1)


# What an absent LabelSelector selects, where an empty one selects everything.
NOTHING = Selector((Term("", "In"),))


def parse_selector(text: str) -> Selector:
    """Return the selector of a text; ValueError where it is none."""
    terms, at = [], 0
    while at < len(text):
        found = _TERM.match(text, at)
        if found is None or found.end() == at:
            raise ValueError(f"{text!r} is not a label selector")
        terms.append(_term(found))
        at = found.end()
    return Selector(tuple(terms))


def _term(found: re.Match[str]) -> Term:
    if found["not"]:
        return Term(found["absent"], "DoesNotExist")
    if found["set"]:
        values = tuple(value.strip() for value in found["values"].split(","))
        return Term(found["key"], "In" if found["set"] == "in" else "NotIn", values)
    if found["compare"]:
        return Term(found["key"], "NotIn" if found["compare"] == "!=" else "In", (found["value"],))
    return Term(found["key"], "Exists")


def selector_of(spec: Mapping[str, Any]) -> Selector:
    """Return the selector of a LabelSelector object, as a PodDisruptionBudget has one; an empty one matches everything."""
    terms = [Term(key, "In", (value,)) for key, value in sorted((spec.get("matchLabels") or {}).items())]
    terms += [Term(each["key"], each["operator"], tuple(each.get("values") or ())) for each in spec.get("matchExpressions") or ()]
    return Selector(tuple(terms))
