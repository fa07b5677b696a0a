"""Engines whose truth is known, as their /metrics: any number of replicas of several fleets behind one HTTP server.

Names are written out here a second time, on purpose: a typing error in the presets must not be able to agree with itself.
Arrivals follow a stated rate; what is finished, running and waiting follows from it, so every figure that is read back has a right answer.
"""

import math
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LATENCY_SECONDS = 0.5
RUNNING_AT_MOST = 60.0
INPUT_TOKENS, OUTPUT_TOKENS = 1000.0, 200.0
KV_SHARE = 0.42
TTFT_BOUNDS = (0.1, 0.25, 0.5, 0.75, 1.0, 2.5)
ITL_BOUNDS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15)
TTFT_P95, ITL_P95 = 0.95, 0.095
# Both latencies are even between 0 and 1 s, and 0 and 0.1 s: so many are within these bounds.
TTFT_SLO, TTFT_ATTAINED = 0.85, 0.85
ITL_SLO, ITL_ATTAINED = 0.06, 0.6


@dataclass(frozen=True)
class Names:
    """One engine's names in one version."""

    running: str
    waiting: str
    finished: tuple[str, ...]
    input_tokens: str
    output_tokens: str
    kv: str
    ttft: str
    itl: str
    startup: str = ""
    by_reason: str = ""
    finished_label: str = ""
    finished_is_count_of: str = ""


VLLM = Names(
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    ("vllm:request_success_total",),
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:kv_cache_usage_perc",
    "vllm:time_to_first_token_seconds",
    "vllm:inter_token_latency_seconds",
    by_reason="vllm:num_requests_waiting_by_reason",
    finished_label="finished_reason",
)
VLLM_OLD = Names(
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    ("vllm:request_success_total",),
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:gpu_cache_usage_perc",
    "vllm:time_to_first_token_seconds",
    "vllm:time_per_output_token_seconds",
    finished_label="finished_reason",
)
SGLANG = Names(
    "sglang:num_running_reqs",
    "sglang:num_queue_reqs",
    ("sglang:num_requests_total", "sglang:num_aborted_requests_total"),
    "sglang:prompt_tokens_total",
    "sglang:generation_tokens_total",
    "sglang:token_usage",
    "sglang:time_to_first_token_seconds",
    "sglang:inter_token_latency_seconds",
    startup="sglang:startup_time_seconds",
)
SGLANG_OLD = Names(
    "sglang:num_running_reqs",
    "sglang:num_queue_reqs",
    ("sglang:num_requests_total",),
    "sglang:prompt_tokens_total",
    "sglang:generation_tokens_total",
    "sglang:token_usage",
    "sglang:time_to_first_token_seconds",
    "sglang:time_per_output_token_seconds",
    startup="sglang:engine_startup_time",
)
TRTLLM = Names(
    "trtllm_num_requests_running",
    "trtllm_num_requests_waiting",
    ("trtllm_request_success_total", "trtllm_request_error_total"),
    "trtllm_prompt_tokens_total",
    "trtllm_generation_tokens_total",
    "trtllm_kv_cache_utilization",
    "trtllm_time_to_first_token_seconds",
    "trtllm_time_per_output_token_seconds",
)
LMDEPLOY = Names(
    "lmdeploy:num_requests_running",
    "lmdeploy:num_requests_waiting",
    (),
    "lmdeploy:prompt_tokens_total",
    "lmdeploy:generation_tokens_total",
    "lmdeploy:gpu_cache_usage_perc",
    "lmdeploy:time_to_first_token_seconds",
    "lmdeploy:time_per_output_token_seconds",
    finished_is_count_of="lmdeploy:e2e_request_latency_seconds",
)
LMDEPLOY_NEW = Names(
    "lmdeploy:num_requests_running",
    "lmdeploy:num_requests_waiting",
    ("lmdeploy:request_success_total",),
    "lmdeploy:prompt_tokens_total",
    "lmdeploy:generation_tokens_total",
    "lmdeploy:gpu_cache_usage_perc",
    "lmdeploy:time_to_first_token_seconds",
    "lmdeploy:inter_token_latency_seconds",
    finished_label="finished_reason",
)
# What prometheus_client 0.22 and newer write when a Prometheus 2 asks for OpenMetrics 1.0.
VLLM_ESCAPED = replace(
    VLLM,
    **{key: value.replace("vllm:", "vllm_") for key, value in asdict(VLLM).items() if isinstance(value, str)},
    finished=("vllm_request_success_total",),
)
ENGINES = {
    "vllm": ("vllm", VLLM),
    "vllm-escaped": ("vllm", VLLM_ESCAPED),
    "vllm-old": ("vllm", VLLM_OLD),
    "sglang": ("sglang", SGLANG),
    "sglang-old": ("sglang", SGLANG_OLD),
    "trtllm": ("trtllm", TRTLLM),
    "lmdeploy": ("lmdeploy", LMDEPLOY),
    "lmdeploy-new": ("lmdeploy", LMDEPLOY_NEW),
}


@dataclass
class Replica:
    """One engine process. `rate` is its arrivals per second at a time; it may be restarted, drained and cut off."""

    names: Names
    model: str
    rate: Callable[[float], float]
    integral: Callable[[float, float], float]
    started_unix: float
    drained_unix: float = math.inf
    is_cut_off: bool = False
    lifetimes: list[tuple[float, float]] = field(default_factory=list)

    def arrived(self, since: float, until: float) -> float:
        """Return the true number of arrivals in a span, over all lives of this replica."""
        lives = [*self.lifetimes, (self.started_unix, self.drained_unix)]
        return sum(self.integral(max(since, start), min(until, end)) for start, end in lives if min(until, end) > max(since, start))

    def restart(self, now: float) -> None:
        """Crash, and come up again at once: counters begin at zero, what was in flight is gone."""
        self.lifetimes.append((self.started_unix, now))
        self.started_unix = now

    def text(self, now: float) -> str:
        """Return the exposition at a time."""
        arrived = math.floor(self.integral(self.started_unix, max(min(now, self.drained_unix), self.started_unix)))
        done = math.floor(self.integral(self.started_unix, max(min(now - LATENCY_SECONDS, self.drained_unix), self.started_unix)))
        running = min(arrived - done, RUNNING_AT_MOST)
        return exposition(self.names, self.model, done, running, arrived - done - running)


def exposition(names: Names, model: str, done: float, running: float, waiting: float, startup: float = 93.5) -> str:
    """Return one engine's metrics in the text format."""
    base = f'engine="0",model_name="{model}"'
    lines = [
        f"# HELP {names.running} Number of requests in model execution batches.",
        f"# TYPE {names.running} gauge",
        f"{names.running}{{{base}}} {running}",
        f"# TYPE {names.waiting} gauge",
        f"{names.waiting}{{{base}}} {waiting}",
        f"# TYPE {names.kv} gauge",
        f"{names.kv}{{{base}}} {KV_SHARE}",
        f"{names.input_tokens}{{{base}}} {INPUT_TOKENS * done}",
        f"{names.output_tokens}{{{base}}} {OUTPUT_TOKENS * done}",
        'python_info{implementation="CPython",version="3.12.1"} 1.0',
        'http_requests_total{handler="/v1/chat/completions",method="POST",status="2xx"} 77.0',
    ]
    if names.by_reason:
        lines.append(f'{names.by_reason}{{{base},reason="capacity"}} {waiting}')
        lines.append(f'{names.by_reason}{{{base},reason="deferred"}} 0.0')
    if names.startup:
        lines.append(f"{names.startup}{{{base}}} {startup}")
    aborted = done // 10
    if names.finished_label:
        for reason, count in (("stop", done - aborted), ("length", 0), ("abort", aborted)):
            lines.append(f'{names.finished[0]}{{{base},{names.finished_label}="{reason}"}} {count}')
    else:
        counts = (done - aborted, aborted) if len(names.finished) > 1 else (done,)
        lines += [f"{name}{{{base}}} {count}" for name, count in zip(names.finished, counts, strict=False)]
    if names.finished_is_count_of:
        lines += histogram(names.finished_is_count_of, base, (0.3, 0.5, 1.0), lambda bound: done if bound >= 0.5 else 0.0, done)
    lines += histogram(names.ttft, base, TTFT_BOUNDS, lambda bound: done * min(bound, 1.0), done)
    lines += histogram(names.itl, base, ITL_BOUNDS, lambda bound: done * min(bound / 0.1, 1.0), done)
    return "\n".join(lines) + "\n"


def histogram(name: str, base: str, bounds: tuple[float, ...], below: Callable[[float], float], count: float) -> list[str]:
    """Return a histogram's lines."""
    lines = [f"# TYPE {name} histogram"]
    lines += [f'{name}_bucket{{{base},le="{bound}"}} {below(bound)}' for bound in bounds]
    return [*lines, f'{name}_bucket{{{base},le="+Inf"}} {count}', f"{name}_count{{{base}}} {count}", f"{name}_sum{{{base}}} {count / 2}"]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing when a scraper was killed in the middle."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Exporter:
    """Serves replicas at /<name>/metrics, and other pages as text; a context manager."""

    def __init__(self) -> None:
        self.replicas: dict[str, Replica] = {}
        self.pages: dict[str, Callable[[float], str]] = {}
        self.by_path: Callable[[str], str] | None = None
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.removeprefix("/").removesuffix("/metrics")
                page = exporter.by_path(self.path) if exporter.by_path else exporter.page(name)
                if page is None:
                    self.send_error(503)
                    return
                body = page.encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json" if exporter.by_path else "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        Handler.protocol_version = "HTTP/1.1"
        self._server = _Server(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def page(self, name: str) -> str | None:
        if name in self.pages:
            return self.pages[name](time.time())
        replica = self.replicas.get(name)
        return None if replica is None or replica.is_cut_off else replica.text(time.time())

    def __enter__(self) -> "Exporter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def swinging(level: float, share: float, period_seconds: float) -> tuple[Callable[[float], float], Callable[[float, float], float]]:
    """Return a rate that swings around a level, and its exact integral."""
    turn = 2.0 * math.pi / period_seconds

    def rate(at: float) -> float:
        return level * (1.0 + share * math.sin(turn * at))

    def integral(since: float, until: float) -> float:
        return level * (until - since) - level * share / turn * (math.cos(turn * until) - math.cos(turn * since))

    return rate, integral


def litellm_page(spilled: float, refused: float, served: float) -> str:
    """Return a LiteLLM proxy's counters; those that never counted are not there."""
    lines = [f'litellm_proxy_total_requests_metric_total{{requested_model="r1",status_code="200"}} {served}']
    if spilled:
        lines.append(f'litellm_deployment_success_responses_total{{requested_model="hosted",api_provider="openai"}} {spilled}')
    if refused:
        lines.append(f'litellm_proxy_failed_requests_metric_total{{requested_model="r1",exception_status="429"}} {refused}')
        lines.append('litellm_proxy_failed_requests_metric_total{requested_model="r1",exception_status="400"} 5000.0')
    lines.append(f'litellm_deployment_success_responses_total{{requested_model="own",api_provider="vllm"}} {served}')
    return "\n".join(lines) + "\n"


def envoy_page(spilled: float, overflowed: float) -> str:
    """Return an Envoy's cluster counters."""
    return (
        f'envoy_cluster_upstream_rq_completed{{envoy_cluster_name="hosted"}} {spilled}\n'
        'envoy_cluster_upstream_rq_completed{envoy_cluster_name="own"} 77777\n'
        f'envoy_cluster_upstream_rq_pending_overflow{{envoy_cluster_name="own"}} {overflowed}\n'
    )


def dcgm_page(busy: float, used: float, free: float) -> str:
    """Return two GPUs of a DCGM exporter, one twice as busy as the other."""
    lines = []
    for gpu, factor in (("0", 2.0 / 3.0), ("1", 4.0 / 3.0)):
        labels = f'{{gpu="{gpu}",Hostname="node-1",DCGM_FI_DRIVER_VERSION="550.54"}}'
        lines += [f"DCGM_FI_PROF_SM_ACTIVE{labels} {busy * factor}", f"DCGM_FI_DEV_GPU_UTIL{labels} 100"]
        lines += [f"DCGM_FI_DEV_FB_USED{labels} {used}", f"DCGM_FI_DEV_FB_FREE{labels} {free}"]
    return "\n".join(lines) + "\n"
