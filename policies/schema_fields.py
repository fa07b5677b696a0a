"""The field types of the policy YAML: strict numbers, durations, names, and the block that all models derive from.

Owns what one field may hold; every number states its unit in its key and every duration is text such as `5m`.
It must not know any particular block: `schema` and its neighbours hold those.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, StringConstraints, WithJsonSchema
from pydantic.alias_generators import to_camel

from controlplane.contracts.units import parse_duration

DURATION_PATTERN = r"^(0|([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w))+)$"
DURATION_MAX_SECONDS = 10 * 366 * 86400.0
AUTO = "auto"
TIME_OF_DAY_PATTERN = "^(?:([01][0-9]|2[0-3]):([0-5][0-9])|24:00)$"
_TIME_OF_DAY = re.compile(TIME_OF_DAY_PATTERN)
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
URL_PATTERN = r"^https?://[^\s/]+"


class Block(BaseModel):
    """A mapping of the policy YAML: frozen, camelCase keys, and unknown keys are errors."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=False,
        serialize_by_alias=False,
        protected_namespaces=(),
    )

    def options(self) -> Mapping[str, Any]:
        """Return the block as plain snake_case data in SI units, without what was left out and has no default."""
        return self.model_dump(mode="json", exclude_none=True)


def _read_duration(value: object) -> float:
    if not isinstance(value, str):
        raise ValueError("a duration is text with a unit, such as 90s, 5m, 48h or 7d")
    seconds = parse_duration(value)
    if seconds > DURATION_MAX_SECONDS:
        raise ValueError("a duration is at most ten years")
    return seconds


def _read_positive_duration(value: float) -> float:
    if value <= 0:
        raise ValueError("this duration must be longer than 0s")
    return value


def _read_time_of_day(value: object) -> float:
    found = _TIME_OF_DAY.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("a time of day is HH:MM, from 00:00 to 24:00, such as 08:30")
    return 3600.0 * int(found[1] or 24) + 60.0 * int(found[2] or 0)


def _read_time(value: object) -> datetime:
    if isinstance(value, datetime):
        moment = value
    elif isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError("a time is RFC 3339, such as 2026-11-23T17:00:00Z") from None
    else:
        raise ValueError("a time is RFC 3339 text, such as 2026-11-23T17:00:00Z")
    if moment.tzinfo is None:
        raise ValueError("a time needs its offset: end it with Z for UTC, such as 2026-11-23T17:00:00Z")
    return moment.astimezone(UTC)


def _read_lead_time(value: object) -> float | str:
    return AUTO if value == AUTO else _read_duration(value)


_DURATION_SCHEMA = WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "examples": ["90s", "5m", "48h"]})
Duration = Annotated[float, BeforeValidator(_read_duration), _DURATION_SCHEMA]
LeadTime = Annotated[
    float | str,
    PlainValidator(_read_lead_time),
    WithJsonSchema({"type": "string", "pattern": f"^(auto|{DURATION_PATTERN.strip('^$')})$", "examples": ["8m", "auto"]}),
]
TimeOfDay = Annotated[
    float,
    BeforeValidator(_read_time_of_day),
    WithJsonSchema({"type": "string", "pattern": TIME_OF_DAY_PATTERN, "examples": ["08:30", "24:00"]}),
]
PositiveDuration = Annotated[float, AfterValidator(_read_positive_duration), BeforeValidator(_read_duration), _DURATION_SCHEMA]
Moment = Annotated[datetime, BeforeValidator(_read_time), WithJsonSchema({"type": "string", "format": "date-time"})]
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=63)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
Url = Annotated[str, StringConstraints(pattern=URL_PATTERN, max_length=2048)]
EnvironmentName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=255)]
Count = Annotated[int, Field(strict=True, ge=0, le=1_000_000)]
PositiveCount = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
Port = Annotated[int, Field(strict=True, ge=1, le=65535)]
NonNegative = Annotated[float, Field(strict=True, ge=0.0, le=1e15, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, gt=0.0, le=1e15, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
