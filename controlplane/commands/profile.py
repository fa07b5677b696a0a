"""The body of `tidegate profile rank`: which offer serves tokens cheapest within the SLO, as a table or JSON.

Owns reading and printing; `policies.rank` has the figures. A policy that lacks a capacity is ranked too, with the reason.
"""

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from controlplane.commands.destination import json_text
from controlplane.config import own_profiles, read_environment
from controlplane.contracts.errors import PolicyError, TidegateError
from controlplane.policy_files import read_texts
from policies.document import read_documents
from policies.problems import findings_of, path_text
from policies.rank import Ranked, rank
from policies.schema import FleetPolicy

WIDE = 190


@dataclass(frozen=True, slots=True)
class RankOptions:
    """What the command line said. `prices` are `GPU=USD` per GPU-hour."""

    policy: Path
    fleet: str | None = None
    profiles: Path | None = None
    prices: tuple[str, ...] = ()
    as_json: bool = False


def rank_offers(options: RankOptions) -> int:
    """Rank and print; return the exit code."""
    policy = _policy(options)
    own = own_profiles(options.profiles or read_environment().profiles_file)
    rows = rank(policy.spec, own, read_prices(options.prices))
    if options.as_json:
        sys.stdout.write(json_text([asdict(row) for row in rows]))
        return 0
    slo = policy.spec.serving.slo
    bounds = [
        f"{name} {1000 * seconds:g} ms" for name, seconds in (("TTFT", slo.ttft_seconds), ("ITL", slo.itl_seconds)) if seconds is not None
    ]
    console = Console(width=None if sys.stdout.isatty() else WIDE)
    console.print(
        f"{policy.metadata.name}: {policy.spec.serving.model} within {' and '.join(bounds) or 'no latency bound'}, "
        f"{policy.spec.serving.shape.input_tokens:g} tokens in, {policy.spec.serving.shape.output_tokens:g} out",
        markup=False,
        highlight=False,
    )
    console.print(_table(rows))
    return 0


def read_prices(texts: tuple[str, ...]) -> Mapping[str, float]:
    """Return USD per GPU-hour by GPU type, of texts such as `H200=3.40`."""
    prices: dict[str, float] = {}
    for text in texts:
        gpu, _, usd = text.partition("=")
        try:
            prices[gpu.strip().upper()] = float(usd)
        except ValueError:
            raise TidegateError(f"--price {text}: write GPU=USD, USD per GPU-hour, such as H200=3.40") from None
        if not 0.0 <= prices[gpu.strip().upper()] < float("inf") or not gpu.strip():
            raise TidegateError(f"--price {text}: write GPU=USD, USD per GPU-hour, such as H200=3.40")
    return prices


def _policy(options: RankOptions) -> FleetPolicy:
    """Return the one policy that is asked for; what `tidegate validate` would say of its single fields is the error."""
    texts, problems = read_texts([options.policy])
    found: list[FleetPolicy] = []
    complaints = [str(problem) for problem in problems]
    for name, text in texts:
        documents, unread = read_documents(text, name)
        complaints += [str(problem) for problem in unread]
        for document in documents:
            try:
                found.append(FleetPolicy.model_validate(document.tree))
            except ValidationError as error:
                complaints += [f"{name}: {path_text(finding.path)}: {finding.message}" for finding in findings_of(error, FleetPolicy)]
    if complaints:
        raise PolicyError("\n".join(complaints))
    named = [policy for policy in found if options.fleet in (None, policy.metadata.name)]
    if len(named) != 1:
        raise PolicyError(f"{options.policy}: name one fleet with --fleet: {', '.join(policy.metadata.name for policy in found)}")
    return named[0]


def _table(rows: tuple[Ranked, ...]) -> Table:
    table = Table(
        header_style="bold", caption="USD per million output tokens of a replica that is fully used; input tokens are in the price"
    )
    for column in ("offer", "tier", "GPUs", "tokens/s", "USD/h", "USD per million", "why"):
        table.add_column(column, justify="left" if column in ("offer", "tier", "GPUs", "why") else "right", no_wrap=column != "why")
    for row in rows:
        figures = (
            "–" if row.output_tokens_per_second is None else f"{row.output_tokens_per_second:,.0f}",
            "–" if row.usd_per_replica_hour is None else f"{row.usd_per_replica_hour:,.2f}",
            "–" if row.usd_per_million is None else f"{row.usd_per_million:,.3f}",
        )
        table.add_row(row.name, row.where, row.accelerators, *figures, row.why)
    return table
