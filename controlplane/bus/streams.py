"""Make the streams and buckets of `contracts.subjects` exist, with stated limits, however often it is asked.

Owns their configuration: what is kept for how long, and that nothing of it is lost in an update. A stream of another nature is refused.
It must not read or write messages. `publish` and `fold` do; `snapshots`, `lease` and `intents` use the buckets.
"""

import contextlib
from dataclasses import dataclass, replace
from typing import Any

import structlog
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig, StreamInfo
from nats.js.errors import APIError, NotFoundError

from controlplane.contracts import subjects
from controlplane.contracts.errors import BusError

DAY_SECONDS = 86_400.0
MEBIBYTE = 1024 * 1024
DEDUP_SECONDS = 120.0

# What an update may change without losing a message that the stated limits do not drop anyhow.
CHANGEABLE = (
    "subjects",
    "max_age",
    "max_bytes",
    "max_msgs_per_subject",
    "duplicate_window",
    "num_replicas",
    "allow_msg_ttl",
    "description",
)
FIXED = ("retention", "storage", "discard")
# One server may be lost, and two still agree on what was written: purchase intents and leases are among it.
CLUSTER_REPLICAS = 3

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much history is kept. `replicas` None: 3 copies in a cluster that has the servers for it, 1 on a server alone, never fewer than
    there are.
    """

    inputs_seconds: float = 14 * DAY_SECONDS
    inputs_bytes: int = 1024 * MEBIBYTE
    outputs_seconds: float = 30 * DAY_SECONDS
    outputs_bytes: int = 512 * MEBIBYTE
    dead_seconds: float = 7 * DAY_SECONDS
    dead_bytes: int = 64 * MEBIBYTE
    replicas: int | None = None


def wanted(limits: Limits) -> tuple[StreamConfig, ...]:
    """Return every stream tidegate needs; a KV bucket is a stream named `KV_<bucket>`."""
    history = (
        (subjects.INPUTS_STREAM, subjects.INPUT_SUBJECTS, limits.inputs_seconds, limits.inputs_bytes, "what the planner folds"),
        (subjects.OUTPUTS_STREAM, subjects.OUTPUT_SUBJECTS, limits.outputs_seconds, limits.outputs_bytes, "what was decided and done"),
        (subjects.DEAD_STREAM, subjects.DEAD_SUBJECTS, limits.dead_seconds, limits.dead_bytes, "messages that could not be used"),
    )
    streams = tuple(
        StreamConfig(
            name=name,
            description=f"tidegate: {purpose}",
            subjects=list(names),
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            discard=DiscardPolicy.OLD,
            max_age=seconds,
            max_bytes=size,
            duplicate_window=DEDUP_SECONDS,
            num_replicas=limits.replicas,
        )
        for name, names, seconds, size, purpose in history
    )
    once = (subjects.SNAPSHOT_BUCKET, subjects.LEASE_BUCKET, subjects.LEDGER_BUCKET, subjects.HEALTH_BUCKET, subjects.SUPPLIER_BUCKET)
    buckets = ((subjects.INTENT_BUCKET, 16), *((name, 1) for name in once))
    return streams + tuple(_bucket(name, revisions, limits.replicas) for name, revisions in buckets)


def _bucket(name: str, revisions: int, replicas: int | None) -> StreamConfig:
    """Return the stream behind a KV bucket, as every NATS client lays it out (ADR-8), with a time to live per key (ADR-43)."""
    return StreamConfig(
        name=f"KV_{name}",
        description="tidegate: state",
        subjects=[f"$KV.{name}.>"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        max_msgs_per_subject=revisions,
        allow_rollup_hdrs=True,
        allow_msg_ttl=True,
        deny_delete=True,
        duplicate_window=DEDUP_SECONDS,
        num_replicas=replicas,
    )


async def ensure_streams(js: JetStreamContext, limits: Limits | None = None) -> None:
    """Create what is missing and bring the rest to the stated limits; BusError where that cannot be done without loss."""
    limits = limits or Limits()
    for config in wanted(limits):
        try:
            info = await _ensure(js, config)
            if limits.replicas is None:
                await _spread(js, info)
        except (NatsError, TimeoutError) as error:
            raise BusError(f"NATS will not hold stream {config.name}: {_advice(error)}") from error


async def _ensure(js: JetStreamContext, config: StreamConfig) -> StreamInfo:
    name = str(config.name)
    try:
        info = await js.stream_info(name)
    except NotFoundError:
        return await _add(js, config)
    there = info.config
    fixed = _differences(there, config, FIXED)
    if fixed:
        raise BusError(
            f"the stream {name} is there with another {' and '.join(fixed)} than tidegate's; move it away or use another account"
        )
    drift = _differences(there, config, CHANGEABLE)
    if drift:
        info = await js.update_stream(replace(there, **drift))
        log.info("stream configuration updated", stream=name, fields=sorted(drift))
    return info


async def _add(js: JetStreamContext, config: StreamConfig) -> StreamInfo:
    if config.num_replicas is None:
        # A server alone, too few of them, an account's limits: whatever is against three copies need not be against one.
        with contextlib.suppress(APIError):
            return await js.add_stream(replace(config, num_replicas=CLUSTER_REPLICAS))
    return await js.add_stream(config)


async def _spread(js: JetStreamContext, info: StreamInfo) -> None:
    """Keep a stream on several servers of a cluster; where that cannot be now it stays where it is until the next start."""
    is_alone = info.cluster is None or not info.cluster.name
    if is_alone or (info.config.num_replicas or 1) >= CLUSTER_REPLICAS:
        return
    try:
        await js.update_stream(replace(info.config, num_replicas=CLUSTER_REPLICAS))
    except APIError as error:
        log.warning("a stream is on one server only", stream=info.config.name, wanted=CLUSTER_REPLICAS, reason=error.description)


def _differences(there: StreamConfig, config: StreamConfig, fields: tuple[str, ...]) -> dict[str, Any]:
    """Return the fields that differ, with the wanted values; what we leave open (None) never differs."""
    pairs = ((name, getattr(there, name), getattr(config, name)) for name in fields)
    return {name: right for name, left, right in pairs if right is not None and _plain(left) != _plain(right)}


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, list) else value


def _advice(error: Exception) -> str:
    text = str(error).removeprefix("nats: ") or type(error).__name__
    if isinstance(error, APIError):
        text = error.description or text
        if "insufficient" in text or "resources" in text:
            return f"{text}; give JetStream more room, or tidegate smaller limits"
        if "overlap" in text:
            return f"{text}; another stream holds tidegate's subjects: remove it or use another account"
        if "replicas" in text:
            return f"{text}; use 1 replica on a single server"
    return text
