"""Whether traces are made, by the standard OTEL_* variables; and how one goes on from message to message."""

import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from controlplane import tracing

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    ("variables", "exporters"),
    [
        ({}, ()),
        (ENDPOINT, ("otlp",)),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, ("otlp",)),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ("otlp",)),
        ({"OTEL_TRACES_EXPORTER": "console, otlp"}, ("console", "otlp")),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, ()),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "TRUE"}, ()),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, ("otlp",)),
    ],
)
def test_the_standard_variables_say_where_traces_go_and_none_say_nowhere(variables: dict[str, str], exporters: tuple[str, ...]) -> None:
    assert tracing.exporters_of(variables) == exporters


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "otlp, console or none"),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf only"),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}, "http/protobuf only"),
    ],
)
def test_what_cannot_be_done_is_said_and_stops_nothing(variables: dict[str, str], said: str) -> None:
    with capture_logs() as logs, tracing.tracing(variables):
        assert not tracing.is_on()
    assert said in logs[0]["event"]


WITHOUT = """
import sys, importlib.abc

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import controlplane.serve
from controlplane import tracing

with tracing.tracing(VARIABLES):
    with tracing.span("observe", {"traceparent": "00-1-1-01"}, fleet="r1") as span, tracing.resumed({}):
        span.note(outcome="applied")
        span.fail("no")
    print(tracing.is_on(), tracing.carried(), tracing.faststream_middlewares())
"""


@pytest.mark.parametrize(("variables", "warned"), [({}, False), (ENDPOINT, True)])
def test_without_the_optional_packages_all_works_and_only_who_asks_for_traces_is_warned(variables: dict[str, str], warned: bool) -> None:
    script = WITHOUT.replace("VARIABLES", repr(variables))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "False {} ()"
    assert ("install tidegate[otel]" in done.stdout) == warned


def test_a_trace_goes_on_in_the_headers_of_what_is_said_within_a_span() -> None:
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    with tracing.using(provider):
        assert tracing.carried() == {}
        with tracing.span("observe", fleet="r1"):
            headers = tracing.carried()
        with tracing.resumed(headers):
            assert tracing.carried() == headers
            with tracing.span("forecast", kind="consumer", since_ns=1):
                pass
            with tracing.resumed({}):
                assert tracing.carried() == {}
        with pytest.raises(ValueError, match="secret"), tracing.span("alert", headers, kind="server"):
            raise ValueError("a secret in a body")
    assert tracing.carried() == {}
    observe, forecast, alert = kept.get_finished_spans()
    assert observe.context is not None
    assert observe.parent is None
    for later in (forecast, alert):
        assert later.parent is not None
        assert later.parent.span_id == observe.context.span_id
        assert later.context is not None
        assert later.context.trace_id == observe.context.trace_id
    assert (observe.attributes or {})["tidegate.fleet"] == "r1"
    assert forecast.start_time == 1
    assert alert.status.description == "ValueError"
    assert not alert.events
