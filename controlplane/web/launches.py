"""The body of an announced launch: the Launch event's own fields, with durations and unknown fields refused.

Owns the reading of one; `intake` publishes it. The command line and the HTTP route share it.
"""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from controlplane.contracts.events import Launch
from controlplane.contracts.units import Name, NonNegative, Positive, Time, from_unix, parse_duration


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
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"] if part in Announcement.model_fields) or "the body"
        known = ", ".join(Announcement.model_fields)
        hint = f"; the fields are {known}" if first["type"] in ("missing", "extra_forbidden", "json_invalid") else ""
        return f"{where}: {first['msg'] if first['type'] not in ('json_invalid', 'value_error') else 'is not as it should be'}{hint}"
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
