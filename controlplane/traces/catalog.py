"""What public data tidegate knows by name: file, span, columns, source and licence, as one literal table.

Owns facts only, each taken from the data's own documentation; it must not open a file or ask the network.
`controlplane.traces.library` finds these files on this machine and reads them.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Source:
    """Where a file comes from: a public repository at a commit. The local file is derived from `path`, not a copy of it."""

    repository: str
    commit: str
    path: str
    licence: str

    @property
    def url(self) -> str:
        """The page a person can open to read or download the original."""
        return f"https://github.com/{self.repository}/tree/{self.commit}/{self.path}".rstrip("/")

    def __str__(self) -> str:
        return f"{self.repository}@{self.commit} {self.path}".rstrip()


@dataclass(frozen=True, slots=True)
class KnownFile:
    """One file that tidegate knows: `columns[0]` is the count that is read as demand unless another is asked for.

    `rows`, `step_seconds` and `span_seconds` are those of the derived file; None where it is not a demand trace.
    """

    name: str
    file: str
    kind: str
    rows: int
    step_seconds: float | None
    span_seconds: float | None
    columns: tuple[str, ...]
    source: Source
    note: str = ""
    series: tuple[str, ...] = ()


_AZURE = ("Azure/AzurePublicDataset", "b469a113")
_SERVEGEN = Source("alibaba/ServeGen", "f891d118", "data", "Apache-2.0")
_NAB = ("numenta/NAB", "ea702d75")
_DAY = 86400.0
_TOKENS = ("requests", "input_tokens", "output_tokens")
_COVERED = (
    "requests",
    "covered_requests",
    "input_tokens_covered",
    "output_tokens_covered",
)

KNOWN_FILES: tuple[KnownFile, ...] = (
    KnownFile(
        "servegen_m-large_10min",
        "llm_traces/servegen_m-large_10min.csv.gz",
        "trace",
        2016,
        600.0,
        14 * _DAY,
        _COVERED,
        _SERVEGEN,
        "a production LLM service: weakly daily, level shifts; token columns cover only part of the requests",
    ),
    KnownFile(
        "servegen_deepseek-r1_10min",
        "llm_traces/servegen_deepseek-r1_10min.csv.gz",
        "trace",
        144,
        600.0,
        _DAY,
        _COVERED,
        _SERVEGEN,
        "a reasoning model's day",
    ),
    KnownFile(
        "servegen_mm-image_10min",
        "llm_traces/servegen_mm-image_10min.csv.gz",
        "trace",
        144,
        600.0,
        _DAY,
        _COVERED,
        _SERVEGEN,
        "a multimodal service's day",
    ),
    KnownFile(
        "azure_llm_2024_code_week_10min",
        "llm_traces/azure_llm_2024_code_week_10min.csv.gz",
        "trace",
        1008,
        600.0,
        7 * _DAY,
        ("requests", "rpm_mid", "rpm_lo", "rpm_hi", "input_tokens_per_min"),
        Source(*_AZURE, "analysis/AzureLLMInferenceDataset2024.ipynb", "CC-BY-4.0"),
        "a coding service's week, strongly daily; read off the notebook's plots, scaled to its exact totals (DynamoLLM, HPCA 2025)",
    ),
    KnownFile(
        "azure_llm_2023_code_1s",
        "llm_traces/azure_llm_2023_code_1s.csv.gz",
        "trace",
        3437,
        1.0,
        3437.0,
        _TOKENS,
        Source(*_AZURE, "data/AzureLLMInferenceTrace_code.csv", "CC-BY-4.0"),
        "an hour of a coding service, second by second (Splitwise, ISCA 2024)",
    ),
    KnownFile(
        "azure_llm_2023_conv_1s",
        "llm_traces/azure_llm_2023_conv_1s.csv.gz",
        "trace",
        3503,
        1.0,
        3503.0,
        _TOKENS,
        Source(*_AZURE, "data/AzureLLMInferenceTrace_conv.csv", "CC-BY-4.0"),
        "an hour of a chat service, second by second (Splitwise, ISCA 2024)",
    ),
    KnownFile(
        "mooncake_conversation_1s",
        "llm_traces/mooncake_conversation_1s.csv.gz",
        "trace",
        3537,
        1.0,
        3537.0,
        _TOKENS,
        Source(
            "kvcache-ai/Mooncake",
            "3b5a5941",
            "FAST25-release/traces/conversation_trace.jsonl",
            "Apache-2.0",
        ),
        "batched arrivals",
    ),
    KnownFile(
        "nasa_http_1995_07_1min",
        "web_traces/nasa_http_1995_07_1min.csv.gz",
        "trace",
        39690,
        60.0,
        39690 * 60.0,
        ("requests",),
        Source(
            "reconfigurable-ml-pipeline/web-service-datasets",
            "7404ad66",
            "dataset/nasa",
            "freely redistributable",
        ),
        "page requests, daily and weekly (Internet Traffic Archive); the shape, not LLM calls",
    ),
    KnownFile(
        "nyc_taxi_5months_30min",
        "web_traces/nyc_taxi_5months_30min.csv.gz",
        "trace",
        7344,
        1800.0,
        7344 * 1800.0,
        ("passengers",),
        Source(*_NAB, "data/realKnownCause/nyc_taxi.csv", "MIT"),
        "taxi passengers, very regular; times are New York wall time, daylight saving included; the shape, not LLM calls",
    ),
    KnownFile(
        "aws_elb_requests_5min",
        "web_traces/aws_elb_requests_5min.csv.gz",
        "trace",
        4032,
        300.0,
        14 * _DAY,
        ("requests",),
        Source(*_NAB, "data/realAWSCloudwatch/elb_request_count_8c0756.csv", "MIT"),
        "load-balancer requests; a few rows are missing",
    ),
    KnownFile(
        "mastodon_signups_2022_apr_1h",
        "spikes/mastodon_signups_2022_apr_1h.csv.gz",
        "trace",
        1080,
        3600.0,
        45 * _DAY,
        ("new_users", "users_total"),
        Source("seblammers/mastodon-user-data", "d4fa904f", "mastostats.csv", "CC0-1.0"),
        "sign-ups: 33 times within half a day, 10 times at 48 h, normal after 9 days; the shape of a launch wave",
    ),
    KnownFile(
        "nab_twitter_mentions_5min",
        "spikes/nab_twitter_mentions_5min.csv.gz",
        "trace",
        63494,
        300.0,
        55 * _DAY,
        ("mentions",),
        Source(*_NAB, "data/realTweets", "MIT"),
        "mentions of four companies: daily cycles and dozens of news waves; the shape, not LLM calls",
        ("CRM", "FB", "IBM", "UPS"),
    ),
    KnownFile(
        "gpu_prices",
        "gpu_prices/gpu_prices.csv",
        "prices",
        629,
        None,
        None,
        ("supplier", "region", "instance", "gpu"),
        Source("tardellirs/gpu-pricing", "8f09a680", "", "MIT, Apache-2.0"),
        "list and spot USD per instance-hour by supplier and region; also from the karpenter providers of AWS, Azure and GCP",
    ),
    KnownFile(
        "market_providers_30min",
        "gpu_prices/market_providers_30min.csv.gz",
        "prices",
        0,
        1800.0,
        None,
        ("provider", "usd_per_gpu_hour"),
        Source("tugot17/gpu-price-tracker", "718a831c", "", "MIT"),
        "a GPU marketplace polled every half hour; a provider that is absent has no stock",
    ),
    KnownFile(
        "measured_profiles",
        "serving_profiles/measured_profiles.csv",
        "profiles",
        2937,
        None,
        None,
        ("model", "engine", "gpu"),
        Source("ai-dynamo/aiconfigurator", "095f58a5", "", "Apache-2.0, MIT"),
        "measured throughput, TTFT and ITL by model, engine and GPU",
    ),
)
"""Known files in the order they are listed; the first demand trace of a week or more is the demo's."""
