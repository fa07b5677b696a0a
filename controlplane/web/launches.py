"""The body of an announced launch: the Launch event's own fields, with durations and unknown fields refused.

Owns the reading of one; `intake` publishes it. The command line and the HTTP route share it.
"""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from controlplane.contracts.events import Launch
from controlplane.contracts.units import Name, NonNegative, Positive, Time, from_unix, parse_duration

RIGHT = {
    "fleet": "must be a fleet's name: lower-case letters, digits and '-', at most 63",
    "name": "must be 1 to 253 characters",
    "starts": "must be a time with its zone, such as 2026-11-23T17:00:00Z",
    "peak_multiple": "must be a number from 1 to 1000, such as 20: the peak as a multiple of the usual demand",
    "ramp": "must be a duration with its unit, such as 30m or 90s",
    "half_life": "must be a duration with its unit and longer than 0, such as 10h",
    "cancelled": "must be true or false",
}


def _seconds(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


class Announcement(BaseModel):
    """A launch as people announce it. `ramp` and `half_life` are seconds or durations such as 30m; what is not known is left out."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    fleet: Name
    name: Annotated[str, Field(min_length=1, max_length=253)]
    starts: Time
    peak_multiple: Annotated[float, Field(ge=1.0, le=1000.0)] | None = None
    ramp: Annotated[NonNegative | None, BeforeValidator(_seconds)] = None
    half_life: Annotated[Positive | None, BeforeValidator(_seconds)] = None
    cancelled: bool = False


def launch_of(body: bytes | str, now_unix: float) -> Launch | str:
    """Return the Launch that a JSON body announces at `now_unix`, or which field is wrong and how."""
    try:
        said = Announcement.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"] if part in Announcement.model_fields) or "the body"
        known = ", ".join(Announcement.model_fields)
        if first["type"] in ("missing", "extra_forbidden"):
            return f"{where}: {first['msg'].lower()}; the fields are {known}"
        told = f", not {first['input']!r:.60}" if where in RIGHT and isinstance(first["input"], (str, int, float)) else ""
        return f"{where}: {RIGHT.get(where, f'is not a JSON object with the fields {known}')}{told}"
    return Launch(
        time=from_unix(now_unix),
        fleet=said.fleet,
        name=said.name,
        starts=said.starts,
        peak_multiple=said.peak_multiple,
        ramp_seconds=said.ramp,
        half_life_seconds=said.half_life,
        cancelled=said.cancelled,
    )
