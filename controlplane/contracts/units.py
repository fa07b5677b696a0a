"""Units and small types: durations, UTC times, names, shares.

Owns the parsing and printing of the quantities that users write and events carry; SI base units everywhere behind this door.
It must not know what a fleet or an event is; see `fleet` and `events` for that.
"""

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints

SECONDS_PER_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
SECONDS_PER_HOUR = 3600.0
MILLION = 1_000_000.0

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d|w))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")


def parse_duration(text: str) -> float:
    """Return the seconds in a duration such as `90s`, `5m`, `48h` or `1h30m`; ValueError says what would be right."""
    if text == "0":
        return 0.0
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration; write a number with a unit, such as 90s, 5m, 48h, 7d or 1h30m")
    return sum(float(number) * SECONDS_PER_UNIT[unit] for number, unit in _DURATION_PART.findall(text))


def format_duration(seconds: float) -> str:
    """Print seconds as the shortest exact duration: 5400 is `1h30m`, 0.05 is `50ms`."""
    if seconds <= 0:
        return "0s"
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    parts, rest = [], seconds
    for unit in ("d", "h", "m"):
        count = int(rest // SECONDS_PER_UNIT[unit])
        if count:
            parts.append(f"{count}{unit}")
            rest -= count * SECONDS_PER_UNIT[unit]
    if rest > 1e-9:
        parts.append(f"{rest:.6g}s")
    return "".join(parts)


def _to_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("is outside the years 1 to 9999 in UTC") from error


def from_unix(seconds: float) -> datetime:
    """Return the UTC datetime of unix seconds."""
    return datetime.fromtimestamp(seconds, UTC)


Time = Annotated[AwareDatetime, AfterValidator(_to_utc), Field(description="UTC, RFC 3339 with Z")]
Name = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63),
    Field(description="a DNS label: lower-case letters, digits and '-', at most 63"),
]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
# More work than all GPUs on earth do; beyond it sums of squares would be infinite, and a forecast that has learnt them never recovers.
WORK_AT_MOST = 1e15
Work = Annotated[float, Field(ge=0.0, le=WORK_AT_MOST, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
# What JSON readers with floating-point numbers take exactly.
COUNT_AT_MOST = 2**53 - 1
Count = Annotated[int, Field(ge=0, le=COUNT_AT_MOST)]
Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
