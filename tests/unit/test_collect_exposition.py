"""Pages are read as prometheus_client reads them, in both formats, and lines that are not of the format are counted and left out."""

import string
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from controlplane.collectors.exposition import Reader
from controlplane.collectors.presets import PRESETS, Signal
from controlplane.collectors.roles import Role, Roles

Found = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def everything(name: str, labels: Mapping[str, str]) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    return ((name, tuple(sorted(labels.items()))),)


def twice(text: str) -> tuple[Found, Found]:
    """Read a page with a new reader, and again with what it remembers."""
    reader = Reader(everything)
    first = {part: value for _, part, value in reader.read(text)}
    return first, {part: value for _, part, value in reader.read(text)}


def page(openmetrics: bool) -> tuple[str, CollectorRegistry]:
    registry = CollectorRegistry()
    Gauge("vllm:num_requests_running", "running", ["model_name"], registry=registry).labels('a "b" \\ c # {d} }').set(7)
    Counter("vllm:request_success", "done", ["model_name", "finished_reason"], registry=registry).labels("m", "stop").inc(
        3, {"trace_id": "x"} if openmetrics else None
    )
    Histogram("vllm:time_to_first_token_seconds", "ttft", ["model_name"], registry=registry).labels("m").observe(0.3)
    text = generate_openmetrics(registry, "allow-utf-8").decode() if openmetrics else generate_latest(registry).decode()
    return text, registry


@pytest.mark.parametrize("openmetrics", [False, True], ids=["text", "openmetrics"])
def test_a_page_is_read_as_its_own_library_wrote_it(openmetrics: bool) -> None:
    text, registry = page(openmetrics)
    wanted = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value for family in registry.collect() for sample in family.samples
    }
    first, again = twice(text)

    assert first == again == wanted


@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,8}", fullmatch=True),
            st.text(alphabet=string.printable.replace("\r", "").replace("\x0b", "").replace("\x0c", ""), max_size=12),
            st.floats(allow_nan=False),
        ),
        max_size=8,
    )
)
def test_whatever_the_labels_it_agrees_with_prometheus_client(samples: list[tuple[str, str, float]]) -> None:
    def escaped(value: str) -> str:
        return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")

    text = "".join(f'{name}{{l="{escaped(label)}"}} {value}\n' for name, label, value in samples)
    wanted: Found = {}
    for line in text.split("\n"):
        for family in text_string_to_metric_families(line + "\n"):
            for sample in family.samples:
                wanted[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    first, again = twice(text)

    assert first == again == wanted


def test_timestamps_tabs_and_blanks_are_read() -> None:
    first, again = twice('a{x="1"} 5 1700000000000\nb\t6\n\n   \nc   7  \n# TYPE d gauge\nd 8')

    assert list(first.values()) == list(again.values()) == [5.0, 6.0, 7.0, 8.0]


@pytest.mark.parametrize("bad", ["{}", "a{", "a{x=1} 5", "a b c d", 'a{x="1" 5', "a", "a 5x", "\x00\x01", "a{x='1'} 2"])
def test_a_bad_line_is_left_out_and_counted(bad: str) -> None:
    reader = Reader(everything)

    found = reader.read(f"good 1\n{bad}\ngood2 2\n")

    assert {part[0] for _, part, _ in found} >= {"good", "good2"}
    assert reader.malformed >= 1 or len(found) == 3


def test_a_value_that_goes_bad_in_a_known_series_is_left_out() -> None:
    reader = Reader(everything)
    reader.read("a 1\n")

    assert reader.read("a broken\n") == []
    assert reader.malformed == 1


@pytest.mark.parametrize("engine", PRESETS)
def test_names_match_whole_and_labels_exactly(engine: str) -> None:
    preset = PRESETS[engine]
    roles = Roles(preset, {"model_name": "m"})
    for name in preset.names(frozenset({Signal.RUNNING})):
        assert roles.of(name, {"model_name": "m"}) == (Role(Signal.RUNNING, 0),)
        for other in (name + "_by_reason_too", name[:-1], "x" + name):
            assert roles.of(other, {"model_name": "m"}) == ()
        assert roles.of(name, {"model_name": "m2"}) == ()
        assert roles.of(name, {}) == ()


def test_a_bucket_without_a_bound_plays_no_part() -> None:
    roles = Roles(PRESETS["vllm"])

    assert roles.of("vllm:time_to_first_token_seconds_bucket", {"le": "0.5"}) == (Role(Signal.TTFT, 0, 0.5),)
    assert roles.of("vllm:time_to_first_token_seconds_bucket", {}) == ()
    assert roles.of("vllm:time_to_first_token_seconds_bucket", {"le": "x"}) == ()
