"""From an alert that was sent to what it may do here: a bounded, expiring action on one fleet, or only a note. Pure.

Owns the labels `tidegate_fleet`, `tidegate_action`, `tidegate_lift_replicas` and `tidegate_expires` (labels win over annotations).
What names no fleet of ours, or asks for something unknown, becomes a Note and never an Alert. `intake` publishes both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from controlplane.contracts.events import Alert, AlertAction
from controlplane.contracts.fleet import Fleet
from controlplane.contracts.units import from_unix, parse_duration
from controlplane.web.payload import Notification, SentAlert

FLEET, ACTION, LIFT, EXPIRES = "tidegate_fleet", "tidegate_action", "tidegate_lift_replicas", "tidegate_expires"
ACTIONS = {"lift": AlertAction.LIFT, "tick": AlertAction.TICK, "freeze": AlertAction.FREEZE}
EXPIRES_SECONDS = 900.0
EXPIRES_SECONDS_AT_MOST = 3600.0
OLDEST_SECONDS = 86_400.0
NAME_CHARACTERS = 120
SUMMARY_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Note:
    """An alert that is recorded and not acted on, and why."""

    reason: str
    fleet: str = ""
    alert: str = ""
    status: str = ""
    sender: str = ""
    receiver: str = ""


@dataclass(frozen=True, slots=True)
class Mapped:
    """What one sent alert became; `identity` is the same however often it is sent."""

    identity: str
    event: Alert | Note


def identity_of(notification: Notification, alert: SentAlert) -> str:
    """Return what tells one alert from a repeat of it: blake2b-128 of (groupKey, fingerprint, startsAt, status)."""
    parts = (notification.group_key, alert.fingerprint, alert.starts_at.isoformat(), alert.status)
    return _digest(parts)


def group_identity_of(notification: Notification) -> str:
    """Return what tells one group's state from a repeat of it."""
    return _digest([notification.group_key, *(identity_of(notification, alert) for alert in notification.alerts)])


def _digest(parts: Sequence[str]) -> str:
    return blake2b("\0".join(parts).encode("utf-8", "replace"), digest_size=16).hexdigest()


def mapped(notification: Notification, fleets: Mapping[str, Fleet], now_unix: float, wall_unix: float) -> list[Mapped]:
    """Return what each alert becomes. `now_unix` is pipeline time, for expiry; `wall_unix` the sender's, for age."""
    return [
        Mapped(identity_of(notification, alert), _event_of(notification, alert, fleets, now_unix, wall_unix))
        for alert in notification.alerts
    ]


def _event_of(notification: Notification, alert: SentAlert, fleets: Mapping[str, Fleet], now_unix: float, wall_unix: float) -> Alert | Note:
    said = {**alert.annotations, **alert.labels}
    fleet = fleets.get(said.get(FLEET, ""))
    plan = _plan(said, fleet) if fleet is not None else f"{FLEET} names no fleet here"
    if wall_unix - alert.news_at.timestamp() > OLDEST_SECONDS:
        # Repeats are remembered for a day: what is older could be one that was acted on and forgotten, and an end of then, sent again,
        # would end the lift of now.
        plan = f"it {'began' if alert.status == 'firing' else 'ended'} more than a day ago"
    if isinstance(plan, str) or fleet is None:
        return Note(
            reason=str(plan),
            fleet=said.get(FLEET, "")[:NAME_CHARACTERS],
            alert=name_of(alert),
            status=alert.status,
            sender=notification.sender,
            receiver=notification.receiver,
        )
    action, replicas, seconds = plan
    return Alert(
        time=from_unix(now_unix),
        fleet=fleet.name,
        name=name_of(alert),
        status=alert.status,
        action=action,
        lift_replicas=replicas,
        expires=from_unix(now_unix + seconds),
        summary=(alert.annotations.get("summary") or alert.annotations.get("description") or "")[:SUMMARY_CHARACTERS],
    )


def name_of(alert: SentAlert) -> str:
    """Return the alert's name in its fleet, the same when it fires and when it resolves."""
    return f"{alert.labels.get('alertname', 'alert')[:NAME_CHARACTERS]}/{alert.fingerprint}"


def _plan(said: Mapping[str, str], fleet: Fleet) -> tuple[AlertAction, int, float] | str:
    """Return action, replicas to lift by, and seconds until it expires; or why it is not understood."""
    action = ACTIONS.get(said.get(ACTION, "tick"))
    if action is None:
        return f"{ACTION} is none of {', '.join(ACTIONS)}"
    try:
        seconds = parse_duration(said[EXPIRES]) if EXPIRES in said else EXPIRES_SECONDS
    except ValueError:
        return f"{EXPIRES} is not a duration such as 15m"
    replicas = 0
    if action is AlertAction.LIFT:
        text = said.get(LIFT, "1")
        if not (text.isascii() and text.isdecimal()) or len(text) > 6 or int(text) == 0:
            return f"{LIFT} is not a whole number above 0"
        replicas = min(int(text), sum(offer.max_replicas for offer in fleet.offers))
    return action, replicas, min(max(seconds, 1.0), EXPIRES_SECONDS_AT_MOST)
