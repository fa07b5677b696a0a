"""The body of `tidegate profile estimate`: operating points that nobody measured, modelled and written as a profile file.

Owns the file and what is told of it; `controlplane.studies.estimate` has the figures. The file is what `TIDEGATE_PROFILES` names.
"""

import csv
import io
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from controlplane.commands.destination import require_writable
from controlplane.contracts.errors import TidegateError
from controlplane.contracts.units import parse_duration
from controlplane.studies.estimate import ENGINES, LAYOUTS, QUANTIZED, Case, Estimate, Modelled, Tool, estimate, is_inside, layout_text

COLUMNS = (
    "model", "engine", "engine_version", "gpu", "precision", "gpus_per_replica", "isl", "osl", "concurrency", "output_tok_s", "ttft_ms",
    "itl_ms", "measured_at", "source",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class EstimateOptions:
    """What the command line said; `ttft` and `itl` as durations, such as 2s and 50ms."""

    model: str
    gpu: str
    gpus: int
    engine: str
    input_tokens: int
    output_tokens: int
    ttft: str | None = None
    itl: str | None = None
    precision: str | None = None
    layout: str | None = None
    out: Path | None = None


def estimate_profile(options: EstimateOptions, tool: Tool | None = None) -> int:
    """Model one configuration, write its points to the file (standard output where none is named), and say what came of it."""
    case = case_of(options)
    require_writable("--out", options.out)
    before = _before(options.out)
    found = estimate(case, tool)
    written = before + rows_text(case, found, datetime.now(UTC).date().isoformat(), with_header=not before)
    if options.out is None:
        sys.stdout.write(written)
    else:
        options.out.write_text(written, encoding="utf-8")
    sys.stderr.write(told(case, found, options.out))
    return 0


def case_of(options: EstimateOptions) -> Case:
    """Return what is to be estimated; TidegateError names the word that is not known."""
    for option, word, known in (
        ("--engine", options.engine, ENGINES),
        ("--precision", options.precision, tuple(QUANTIZED)),
        ("--layout", options.layout, LAYOUTS),
    ):
        if word is not None and word not in known:
            raise TidegateError(f"{option} {word}: name one of {', '.join(known)}")
    return Case(
        model=options.model,
        gpu=options.gpu.upper(),
        gpus=options.gpus,
        engine=options.engine,
        input_tokens=options.input_tokens,
        output_tokens=options.output_tokens,
        precision=options.precision,
        layout=options.layout,
        ttft_ms=_milliseconds("--ttft", options.ttft),
        itl_ms=_milliseconds("--itl", options.itl),
    )


def _milliseconds(option: str, text: str | None) -> float | None:
    try:
        return None if text is None else 1000.0 * parse_duration(text)
    except ValueError:
        raise TidegateError(f"{option} {text}: write a duration, such as 2s or 50ms") from None


def _before(path: Path | None) -> str:
    """Return what the file holds already, to be added to; TidegateError where that is anything else than such points."""
    text = path.read_text(encoding="utf-8") if path is not None and path.exists() else ""
    if text and text.splitlines()[0] != ",".join(COLUMNS):
        raise TidegateError(f"--out {path}: is there, and not a file of this command; name another")
    return text if not text or text.endswith("\n") else text + "\n"


def rows_text(case: Case, found: Estimate, date: str, *, with_header: bool) -> str:
    """Return the points as lines of a profile file."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    if with_header:
        lines.writerow(COLUMNS)
    for point in found.points:
        lines.writerow(_row(case, point, date, found.source))
    return text.getvalue()


def _row(case: Case, point: Modelled, date: str, source: str) -> tuple[object, ...]:
    figures = (f"{point.output_tokens_per_second:.1f}", f"{point.ttft_ms:.1f}", f"{point.itl_ms:.2f}")
    replica = (case.model, case.engine, point.engine_version, case.gpu, point.precision, case.gpus, case.input_tokens, case.output_tokens)
    return (*replica, point.concurrency, *figures, date, source)


def told(case: Case, found: Estimate, out: Path | None) -> str:
    """Say what was found, what is the most within the SLO, and what the other layouts came to."""
    inside = [point for point in found.points if is_inside(case, point)]
    most = max(inside, key=lambda point: point.output_tokens_per_second, default=None)
    lines = [f"{case.model} with {case.engine} on {case.gpus} x {case.gpu}, {found.source}: {len(found.points)} operating points"]
    if most is None:
        lines.append("none of them is within the SLO")
    else:
        lines.append(
            f"within the SLO at most {most.output_tokens_per_second:,.0f} output tokens/s, with {most.concurrency} requests at once: "
            f"TTFT {most.ttft_ms:.0f} ms, ITL {most.itl_ms:.1f} ms"
        )
    lines += [f"passed over {layout_text(case, layout)}: {why}" for layout, why in found.passed_over.items()]
    if out is not None:
        lines.append(f"written to {out}; it counts where nothing is measured, once TIDEGATE_PROFILES names it")
    return "\n".join(lines) + "\n"
