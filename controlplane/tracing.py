"""Traces across NATS, from what was seen to what was done: off unless the standard OTEL_* variables ask for them.

Owns this process's tracer, and how a trace travels: as W3C `traceparent` in the headers of a message. While it is off nothing of
OpenTelemetry is imported, no header is added, and a call costs a comparison. It must not know what is traced: the services open spans at
their seams, observe or alert → forecast → decide → actuate → request and outcome.
"""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import structlog

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

SERVICE_NAME = "tidegate"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
OVER_HTTP = "http/protobuf"
# A collector that is away must not hold up the end of the process.
FLUSH_SECONDS = 2.0

log = structlog.get_logger(__name__)
Value = str | int | float | bool


class Noted(Protocol):
    """What may be said of a span while it is open."""

    def note(self, **attributes: Value) -> None:
        """Add attributes, each named `tidegate.<name>`."""
        ...

    def fail(self, error: str) -> None:
        """Mark the span as failed."""
        ...


class _Nothing:
    """A span that is not there."""

    def note(self, **attributes: Value) -> None:
        """Pass over it."""

    def fail(self, error: str) -> None:
        """Pass over it."""


class _Open:
    def __init__(self, span: "Span") -> None:
        self._span = span

    def note(self, **attributes: Value) -> None:
        self._span.set_attributes({f"tidegate.{name}": value for name, value in attributes.items()})

    def fail(self, error: str) -> None:
        from opentelemetry.trace import StatusCode

        self._span.set_status(StatusCode.ERROR, error)


NOTHING: contextlib.AbstractContextManager[Noted] = contextlib.nullcontext(_Nothing())


class _State:
    """The one tracer of this process; None: off."""

    tracer: "Tracer | None" = None
    provider: "TracerProvider | None" = None


def is_on() -> bool:
    """Whether spans are recorded."""
    return _State.tracer is not None


def span(
    name: str, parent: Mapping[str, str] | None = None, *, kind: str = "internal", since_ns: int | None = None, **attributes: Value
) -> contextlib.AbstractContextManager[Noted]:
    """Open a span for a block. `parent` are the headers it goes on from (None: the span around it); `since_ns` is unix time, if earlier."""
    return NOTHING if _State.tracer is None else _spanned(_State.tracer, name, parent, kind, since_ns, attributes)


def carried() -> dict[str, str]:
    """Return the headers that take the current trace to whoever reads the message; none while there is no trace."""
    if _State.tracer is None:
        return {}
    from opentelemetry import propagate

    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers


def resumed(headers: Mapping[str, str] | None) -> contextlib.AbstractContextManager[object]:
    """Go on, for a block, with the trace that a message carried, without a span of its own; without one there is none in the block."""
    return NOTHING if _State.tracer is None else _resumed(headers)


def now_ns() -> int:
    """Return unix time, nanoseconds, for `since_ns`; 0 while tracing is off."""
    return time.time_ns() if _State.tracer is not None else 0


def faststream_middlewares() -> tuple[Any, ...]:
    """Return FastStream's own middleware for traces, which makes a message's trace current in its handler; none while it is off."""
    if _State.provider is None:
        return ()
    from faststream.nats.opentelemetry import NatsTelemetryMiddleware

    return (NatsTelemetryMiddleware(tracer_provider=_State.provider),)


@contextlib.contextmanager
def tracing(variables: Mapping[str, str]) -> Iterator[None]:
    """Trace for as long as the block lasts, if the OTEL_* variables ask for it; what is not sent at the end is waited for briefly."""
    exporters = exporters_of(variables)
    provider = _provider(exporters) if exporters else None
    if provider is None:
        yield
        return
    log.info("traces are exported", to=exporters)
    with using(provider):
        try:
            yield
        finally:
            # The SDK's own time-outs do not bound this: it would try a dead collector again and again.
            ending = threading.Thread(target=provider.shutdown, daemon=True)
            ending.start()
            ending.join(FLUSH_SECONDS)


@contextlib.contextmanager
def using(provider: "TracerProvider") -> Iterator[None]:
    """Record spans with this provider for as long as the block lasts."""
    before = _State.tracer, _State.provider
    _State.tracer, _State.provider = provider.get_tracer(SERVICE_NAME), provider
    try:
        yield
    finally:
        _State.tracer, _State.provider = before


def exporters_of(variables: Mapping[str, str]) -> tuple[str, ...]:
    """Return where the OTEL_* variables want traces sent: `otlp`, `console`, or nowhere, which is the default.

    OTEL_TRACES_EXPORTER says so; without it, an OTLP endpoint does. OTEL_SDK_DISABLED=true turns everything off.
    """
    if variables.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ()
    said = variables.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if not said:
        return _over_http(variables, ("otlp",)) if any(variables.get(name) for name in ENDPOINTS) else ()
    names = tuple(name for part in said.split(",") if (name := part.strip()) not in ("", "none"))
    unknown = [name for name in names if name not in ("otlp", "console")]
    if unknown:
        log.warning("OTEL_TRACES_EXPORTER is not understood: no traces; write otlp, console or none", said=said)
        return ()
    return _over_http(variables, names)


def _over_http(variables: Mapping[str, str], names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the exporters without OTLP where another protocol than HTTP is asked for: that one would not be understood."""
    protocol = next((variables[name] for name in PROTOCOLS if variables.get(name)), OVER_HTTP)
    if "otlp" not in names or protocol == OVER_HTTP:
        return names
    log.warning("traces leave by OTLP over http/protobuf only: none are sent", protocol=protocol)
    return tuple(name for name in names if name != "otlp")


def _provider(exporters: tuple[str, ...]) -> "TracerProvider | None":
    """Return a provider for these exporters, None where the optional packages are not installed: a fleet is controlled without traces."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
    except ImportError as error:
        log.warning("OTEL_* variables ask for traces and there are none: install tidegate[otel]", missing=error.name)
        return None
    # What the variables say of the resource wins over our own name; the sampler and all else the SDK reads by itself.
    resource = Resource.create({"service.name": SERVICE_NAME}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    for name in exporters:
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter() if name == "otlp" else ConsoleSpanExporter()))
    return provider


@contextlib.contextmanager
def _spanned(
    tracer: "Tracer", name: str, parent: Mapping[str, str] | None, kind: str, since_ns: int | None, attributes: Mapping[str, Value]
) -> Iterator[Noted]:
    from opentelemetry import propagate
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanKind, StatusCode, use_span

    context = None if parent is None else propagate.extract(parent, Context())
    named = {f"tidegate.{key}": value for key, value in attributes.items()}
    opened = tracer.start_span(name, context, SpanKind[kind.upper()], named, start_time=since_ns or None)
    try:
        # An error's text may hold what was sent: only its kind is recorded.
        with use_span(opened, record_exception=False, set_status_on_exception=False):
            yield _Open(opened)
    except Exception as error:
        opened.set_status(StatusCode.ERROR, type(error).__name__)
        raise
    finally:
        opened.end()


@contextlib.contextmanager
def _resumed(headers: Mapping[str, str] | None) -> Iterator[None]:
    from opentelemetry import propagate
    from opentelemetry.context import Context, attach, detach

    token = attach(propagate.extract(headers or {}, Context()))
    try:
        yield
    finally:
        detach(token)
