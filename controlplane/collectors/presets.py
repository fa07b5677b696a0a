"""What serving engines call their metrics: one table per engine, exact names, new and old.

Owns names only. A signal has alternatives, best first: of one replica the first that it exports counts, so that a fleet in the middle of
an upgrade is counted right; the metrics of one alternative are added. In OpenMetrics some exporters write `_` for the `:` of a name, and
a Prometheus may have scraped that: `spellings` has both. Go on to `replicas` for the arithmetic and to `promql` for queries.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Signal(StrEnum):
    """What is read of an engine."""

    RUNNING = "running"
    WAITING = "waiting"
    BACKLOG = "backlog"
    FINISHED = "finished"
    INPUT_TOKENS = "input_tokens"
    OUTPUT_TOKENS = "output_tokens"
    KV_CACHE = "kv_cache"
    TTFT = "ttft"
    ITL = "itl"
    STARTUP = "startup"
    WEIGHT_LOAD = "weight_load"


GAUGES = frozenset({Signal.RUNNING, Signal.WAITING, Signal.BACKLOG, Signal.KV_CACHE, Signal.STARTUP, Signal.WEIGHT_LOAD})
COUNTERS = frozenset({Signal.FINISHED, Signal.INPUT_TOKENS, Signal.OUTPUT_TOKENS})
HISTOGRAMS = frozenset({Signal.TTFT, Signal.ITL})
MEANS = frozenset({Signal.KV_CACHE})
LARGEST = frozenset({Signal.STARTUP, Signal.WEIGHT_LOAD})


@dataclass(frozen=True, slots=True)
class Metric:
    """A sample name as it is exposed, histograms without `_bucket`; `where` are labels that must match exactly."""

    name: str
    where: tuple[tuple[str, str], ...] = ()


Alternatives = tuple[tuple[Metric, ...], ...]


@dataclass(frozen=True, slots=True)
class Preset:
    """An engine's names. `finished` counts every request that left: completed, aborted or failed."""

    name: str
    signals: Mapping[Signal, Alternatives]

    def names(self, signals: frozenset[Signal]) -> tuple[str, ...]:
        """Return every sample name of some signals in every spelling, sorted."""
        metrics = (metric for signal, options in self.signals.items() if signal in signals for option in options for metric in option)
        return tuple(sorted({name for metric in metrics for name in spellings(metric.name)}))


def spellings(name: str) -> tuple[str, ...]:
    """Return a name as it may be met: `vllm:x`, and `vllm_x` as newer exporters escape it for scrapers that ask for OpenMetrics 1.0."""
    return (name, name.replace(":", "_")) if ":" in name else (name,)


def _one_of(*names: str) -> Alternatives:
    return tuple((Metric(name),) for name in names)


def _sum_of(*names: str) -> Alternatives:
    return (tuple(Metric(name) for name in names),)


VLLM = Preset(
    "vllm",
    {
        Signal.RUNNING: _one_of("vllm:num_requests_running"),
        Signal.WAITING: _one_of("vllm:num_requests_waiting"),
        # `deferred` requests wait by the scheduler's choice, not for capacity.
        Signal.BACKLOG: (
            (Metric("vllm:num_requests_waiting_by_reason", (("reason", "capacity"),)),),
            (Metric("vllm:num_requests_waiting"),),
        ),
        # One series per finished_reason; an abort is one of them.
        Signal.FINISHED: _one_of("vllm:request_success_total"),
        Signal.INPUT_TOKENS: _one_of("vllm:prompt_tokens_total"),
        Signal.OUTPUT_TOKENS: _one_of("vllm:generation_tokens_total"),
        Signal.KV_CACHE: _one_of("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        Signal.TTFT: _one_of("vllm:time_to_first_token_seconds"),
        Signal.ITL: _one_of("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
    },
)
SGLANG = Preset(
    "sglang",
    {
        Signal.RUNNING: _one_of("sglang:num_running_reqs"),
        Signal.WAITING: _one_of("sglang:num_queue_reqs"),
        Signal.BACKLOG: _one_of("sglang:num_queue_reqs"),
        Signal.FINISHED: _sum_of("sglang:num_requests_total", "sglang:num_aborted_requests_total"),
        Signal.INPUT_TOKENS: _one_of("sglang:prompt_tokens_total"),
        Signal.OUTPUT_TOKENS: _one_of("sglang:generation_tokens_total"),
        Signal.KV_CACHE: _one_of("sglang:token_usage"),
        Signal.TTFT: _one_of("sglang:time_to_first_token_seconds"),
        Signal.ITL: _one_of("sglang:inter_token_latency_seconds", "sglang:time_per_output_token_seconds"),
        Signal.STARTUP: _one_of("sglang:startup_time_seconds", "sglang:engine_startup_time"),
        Signal.WEIGHT_LOAD: _one_of("sglang:weight_load_duration_seconds", "sglang:engine_load_weights_time"),
    },
)
TRTLLM = Preset(
    "trtllm",
    {
        Signal.RUNNING: _one_of("trtllm_num_requests_running"),
        Signal.WAITING: _one_of("trtllm_num_requests_waiting"),
        Signal.BACKLOG: _one_of("trtllm_num_requests_waiting"),
        Signal.FINISHED: _sum_of("trtllm_request_success_total", "trtllm_request_error_total"),
        Signal.INPUT_TOKENS: _one_of("trtllm_prompt_tokens_total"),
        Signal.OUTPUT_TOKENS: _one_of("trtllm_generation_tokens_total"),
        Signal.KV_CACHE: _one_of("trtllm_kv_cache_utilization"),
        Signal.TTFT: _one_of("trtllm_time_to_first_token_seconds"),
        Signal.ITL: _one_of("trtllm_time_per_output_token_seconds"),
    },
)
LMDEPLOY = Preset(
    "lmdeploy",
    {
        Signal.RUNNING: _one_of("lmdeploy:num_requests_running"),
        Signal.WAITING: _one_of("lmdeploy:num_requests_waiting"),
        Signal.BACKLOG: _one_of("lmdeploy:num_requests_waiting"),
        # It exports no request counter: the count of its latency histogram is one.
        Signal.FINISHED: _one_of("lmdeploy:request_success_total", "lmdeploy:e2e_request_latency_seconds_count"),
        Signal.INPUT_TOKENS: _one_of("lmdeploy:prompt_tokens_total"),
        Signal.OUTPUT_TOKENS: _one_of("lmdeploy:generation_tokens_total"),
        Signal.KV_CACHE: _one_of("lmdeploy:gpu_cache_usage_perc"),
        Signal.TTFT: _one_of("lmdeploy:time_to_first_token_seconds"),
        Signal.ITL: _one_of("lmdeploy:inter_token_latency_seconds", "lmdeploy:time_per_output_token_seconds"),
    },
)
PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in (VLLM, SGLANG, TRTLLM, LMDEPLOY)}
