"""The queries: presets and labels → PromQL, for what is read live and for the history behind it.

Owns the text of queries only. Of one target the first name that has samples counts, so that a fleet in the middle of an upgrade is right.
Live, counters and levels are read as raw samples (`[window]`) and folded by `replicas`, so that resets, churn and staggered scrapes are
counted exactly; only history, too long for that, is aggregated by the server.
"""

import json
from collections.abc import Callable, Iterable, Mapping

from controlplane.collectors.presets import COUNTERS, GAUGES, Alternatives, Preset, Signal, spellings

LIVE_SIGNALS = COUNTERS | GAUGES
TARGET_LABELS = ("cluster", "namespace", "job", "instance", "pod")
RECENT = "10m"
SCRAPES_HEARD_SHARE = 0.8
Wrap = Callable[[str], str]


def matchers(labels: Iterable[tuple[str, str]]) -> str:
    """Return exact label matchers, quoted: `{model_name="r1"}`; nothing for none."""
    inside = ",".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in labels)
    return f"{{{inside}}}" if inside else ""


def raw(names: Iterable[str], labels: Mapping[str, str], window_seconds: float) -> str:
    """Return a query for the raw samples of several names over a window; names match whole."""
    inside = ",".join(
        ['__name__=~"' + "|".join(names) + '"', *(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in labels.items())]
    )
    return f"{{{inside}}}[{max(round(window_seconds * 1000.0), 1)}ms]"


def live_names(preset: Preset) -> tuple[str, ...]:
    """Return the names of a preset's counters and levels."""
    return preset.names(LIVE_SIGNALS)


def expected(preset: Preset, labels: Mapping[str, str]) -> str:
    """Return a query for the scrape targets, up or not, that are still there and served this fleet in the last ten minutes."""
    served = _first_of_each(preset.signals[Signal.RUNNING], labels, lambda selector: f"last_over_time({selector}[{RECENT}])")
    return f"up and on (job, instance) ({served})"


def buckets(preset: Preset, signal: Signal, labels: Mapping[str, str], window_seconds: float) -> str:
    """Return a query for the rates of a histogram's buckets, all replicas together."""
    window = f"[{max(round(window_seconds * 1000.0), 1)}ms]"
    rates = _first_of_each(preset.signals[signal], labels, lambda selector: f"rate({selector}{window})", suffix="_bucket")
    return f"sum by (le) ({rates})"


def offered_history(preset: Preset, labels: Mapping[str, str], step_seconds: float, scrape_seconds: float) -> str:
    """Return a range query for requests offered per second: what finished plus the change of what is held, over each step.

    A step in which fewer scrapes came than most of those that should have is missing, since it would count too little.
    """
    step = f"{max(round(step_seconds), 1)}s"
    finished = _sum(preset.signals[Signal.FINISHED], labels, lambda selector: f"increase({selector}[{step}])")
    held_now, held_before = [], []
    for signal in (Signal.RUNNING, Signal.WAITING):
        held_now.append(_sum(preset.signals[signal], labels, lambda selector: f"last_over_time({selector}[{step}])"))
        held_before.append(_sum(preset.signals[signal], labels, lambda selector: f"{selector} offset {step}"))
    held = f"({held_now[0]} + ({held_now[1]} or vector(0)))"
    before = f"({held_before[0]} + ({held_before[1]} or vector(0)))"
    exported = _sum(preset.signals[Signal.FINISHED], labels, lambda selector: selector)
    # An engine may not export its counter before the first request ends; one that is merely between two scrapes is missing.
    not_yet = f"((0 * {held_now[0]}) unless on () {exported})"
    offered = f"clamp_min((({finished} or {not_yet}) + {held} - {before}) / {max(round(step_seconds), 1)}, 0)"
    counts = _first_of_each(preset.signals[Signal.RUNNING], labels, lambda selector: f"count_over_time({selector}[{step}])")
    return f"{offered} and on () (max({counts}) >= {SCRAPES_HEARD_SHARE * step_seconds / scrape_seconds:.2f})"


def scrape_seconds(preset: Preset, labels: Mapping[str, str]) -> str:
    """Return a query for the time between two scrapes: by the ten minutes of the last hour that had most."""
    counts = _first_of_each(preset.signals[Signal.RUNNING], labels, lambda selector: f"count_over_time({selector}[{RECENT}])")
    return f"600 / max(max_over_time(({counts})[1h:{RECENT}]))"


def tokens_per_request(preset: Preset, signal: Signal, labels: Mapping[str, str], step_seconds: float) -> str:
    """Return a range query for the mean tokens per finished request over ten steps."""
    window = f"{max(round(10 * step_seconds), 1)}s"
    tokens = _sum(preset.signals[signal], labels, lambda selector: f"increase({selector}[{window}])")
    finished = _sum(preset.signals[Signal.FINISHED], labels, lambda selector: f"increase({selector}[{window}])")
    return f"{tokens} / ({finished} > 20)"


def counted_history(names: Iterable[str], labels: Iterable[tuple[str, str]], step_seconds: float) -> str:
    """Return a range query for the rate of some counters together."""
    step = f"{max(round(step_seconds), 1)}s"
    picked = matchers(labels)
    return "sum(" + " or ".join(f"rate({name}{picked}[{step}])" for name in names) + ")"


def _sum(options: Alternatives, labels: Mapping[str, str], wrap: Wrap) -> str:
    """Return the sum over targets; metrics that are counted together are added, and those of them that are not there are nothing."""
    together = options[0] if len(options) == 1 else ()
    if len(together) <= 1:
        return f"sum({_first_of_each(options, labels, wrap)})"
    terms = [f"sum({_first_of_each(((metric,),), labels, wrap)})" for metric in together]
    return f"({terms[0]} + " + " + ".join(f"({term} or vector(0))" for term in terms[1:]) + ")"


def _first_of_each(options: Alternatives, labels: Mapping[str, str], wrap: Wrap, suffix: str = "") -> str:
    """Return the series of each target by the first alternative, in either spelling, that it has."""
    found = [
        wrap(f"{name}{suffix}{matchers([*labels.items(), *metric.where])}")
        for metrics in options
        for metric in metrics
        for name in spellings(metric.name)
    ]
    return " or on (job, instance) ".join(found)
