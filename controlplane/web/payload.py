"""The body of an alert webhook: Alertmanager's version 4 and Grafana's version 1, which share one envelope.

Owns what a body must have to be understood; unknown fields are passed over, as both senders add some with every release.
It must not know fleets or actions; `mapping` does. Sources: Alertmanager's notify/webhook Message, Grafana's webhook contact point.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

Short = Annotated[str, StringConstraints(max_length=512)]
Long = Annotated[str, StringConstraints(max_length=16_384)]
Pairs = dict[Short, Long]


class SentAlert(BaseModel):
    """One alert. `fingerprint` names its label set, `startsAt` this firing of it, `endsAt` its end, year 1 while it is open."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    status: Literal["firing", "resolved"]
    labels: Pairs = Field(default_factory=dict)
    annotations: Pairs = Field(default_factory=dict)
    starts_at: AwareDatetime = Field(alias="startsAt")
    ends_at: AwareDatetime | None = Field(None, alias="endsAt")
    fingerprint: Annotated[str, StringConstraints(min_length=1, max_length=128)]

    @property
    def news_at(self) -> datetime:
        """Return when what it says came to be: it began to fire, or it ended where that is known."""
        if self.status == "firing" or self.ends_at is None:
            return self.starts_at
        return max(self.starts_at, self.ends_at)


class Notification(BaseModel):
    """One group of alerts, as it was sent. A custom template that replaces this body is refused: it cannot be told apart safely."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    version: Literal["1", "4"]
    group_key: Annotated[str, StringConstraints(min_length=1, max_length=8192)] = Field(alias="groupKey")
    status: Literal["firing", "resolved"]
    receiver: Short = ""
    truncated_alerts: Annotated[int, Field(alias="truncatedAlerts", ge=0, lt=2**31)] = 0
    alerts: tuple[SentAlert, ...]

    @property
    def sender(self) -> str:
        """Return who speaks this version."""
        return "grafana" if self.version == "1" else "alertmanager"


def notification_of(body: bytes) -> Notification | str:
    """Return the notification in a body, or what is wrong with it: the place and the rule, never the value."""
    try:
        return Notification.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        if first["type"] == "json_invalid":
            return "the body is not JSON"
        # A location holds keys of the body where the fault is within labels: only our own field names are repeated.
        known = [str(part) for part in first["loc"] if isinstance(part, int) or part in FIELDS]
        where = ".".join(known) or "the body"
        fault = TELLING.get(first["type"], "is not as it should be")
        return f"not a webhook of Alertmanager (version 4) or Grafana (version 1): {where}: {fault}"


FIELDS = frozenset(
    {"version", "groupKey", "status", "receiver", "truncatedAlerts", "alerts", "labels", "annotations", "startsAt", "fingerprint"}
)
TELLING = {
    "missing": "is missing; with a custom payload, leave it out",
    "literal_error": "has another value than the format knows",
    "string_too_long": "is too long",
    "string_too_short": "is empty",
    "string_type": "must be text",
    "timezone_aware": "must have a time zone",
}
