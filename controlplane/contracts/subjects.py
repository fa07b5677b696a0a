"""Every name on the bus: subjects, streams, durable consumers, buckets and CloudEvents headers, as one literal table.

Owns names only; `controlplane.bus` makes them exist. Fleets and offers are DNS labels, so they are always one token.
"""

from controlplane.contracts.events import (
    Actuation,
    Alert,
    Decision,
    Event,
    Forecast,
    Launch,
    Observation,
    PoolStatus,
    Quote,
    Tick,
    Tide,
)

OBSERVATION = "tidegate.observation.{fleet}"
POOL = "tidegate.pool.{fleet}.{offer}"
QUOTE = "tidegate.quote.{offer}"
LAUNCH = "tidegate.launch.{fleet}"
ALERT = "tidegate.alert.{fleet}"
FORECAST = "tidegate.forecast.{fleet}"
TIDE = "tidegate.tide.{fleet}"
TICK = "tidegate.tick"
DECISION = "tidegate.decision.{fleet}"
ACTUATION = "tidegate.actuation.{fleet}.{offer}"
AUDIT = "tidegate.audit"
DEAD = "tidegate.dead.{subject}"

TEMPLATES: dict[type[Event], str] = {
    Observation: OBSERVATION,
    PoolStatus: POOL,
    Quote: QUOTE,
    Launch: LAUNCH,
    Alert: ALERT,
    Forecast: FORECAST,
    Tide: TIDE,
    Tick: TICK,
    Decision: DECISION,
    Actuation: ACTUATION,
}

INPUTS_STREAM = "TIDEGATE_INPUTS"
OUTPUTS_STREAM = "TIDEGATE_OUTPUTS"
DEAD_STREAM = "TIDEGATE_DEAD"

INPUT_SUBJECTS = (
    "tidegate.observation.*",
    "tidegate.pool.*.*",
    "tidegate.quote.*",
    "tidegate.launch.*",
    "tidegate.alert.*",
    "tidegate.forecast.*",
    "tidegate.tide.*",
    "tidegate.tick",
)
OUTPUT_SUBJECTS = ("tidegate.decision.*", "tidegate.actuation.*.*", "tidegate.audit")
DEAD_SUBJECTS = ("tidegate.dead.>",)

ACTUATOR_DURABLE = "tidegate-actuator"

SNAPSHOT_BUCKET = "TIDEGATE_SNAPSHOTS"
LEASE_BUCKET = "TIDEGATE_LEASES"
INTENT_BUCKET = "TIDEGATE_INTENTS"
LEDGER_BUCKET = "TIDEGATE_LEDGERS"
HEALTH_BUCKET = "TIDEGATE_HEALTH"
SUPPLIER_BUCKET = "TIDEGATE_SUPPLIERS"

CE_SPECVERSION = "1.0"
CE_HEADERS = ("ce-id", "ce-type", "ce-source", "ce-time", "ce-specversion")


def subject_of(event: Event) -> str:
    """Return the subject that an event travels on: an Observation of fleet `r1` on `tidegate.observation.r1`."""
    template = TEMPLATES[type(event)]
    return template.format(fleet=getattr(event, "fleet", ""), offer=getattr(event, "offer", ""))


def event_type_of(subject: str) -> type[Event] | None:
    """Return the event that a subject carries, None for a subject that is not in the table."""
    token = subject.split(".")[1] if subject.startswith("tidegate.") else ""
    return next((event for event, template in TEMPLATES.items() if template.split(".")[1] == token), None)


def dead_subject_of(subject: str) -> str:
    """Return where a message that cannot be used goes."""
    return DEAD.format(subject=subject)


def headers_of(event: Event, source: str) -> dict[str, str]:
    """Return the CloudEvents binary-mode headers plus the id that JetStream deduplicates on."""
    identity = event.event_id
    return {
        "ce-id": identity,
        "ce-type": event.type_name,
        "ce-source": source,
        "ce-time": event.time.isoformat().replace("+00:00", "Z"),
        "ce-specversion": CE_SPECVERSION,
        "Nats-Msg-Id": identity,
        "content-type": "application/json",
    }
