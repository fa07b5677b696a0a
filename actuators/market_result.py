"""What several suppliers' results come to, as one result of the market.

Owns that choice only; `market` asks for it after each apply.
"""

from collections.abc import Sequence

from actuators.api import Applied, Failed, Result, Skipped


def together(results: Sequence[tuple[str, Result]], missing: int) -> Result:
    """Return what several suppliers' results come to: a change if there was any, else the failure, else why nothing was done."""
    change = sum(result.change for _, result in results if isinstance(result, Applied))
    failures = [(name, result) for name, result in results if isinstance(result, Failed)]
    failed = "; ".join(f"{name}: {result.error}" if name else result.error for name, result in failures)
    if change:
        intents = [result.intent for _, result in results if isinstance(result, Applied) and result.intent]
        kept = [result.reason for _, result in results if isinstance(result, Applied) and result.reason and result.change < 0]
        short = [f"{missing} fewer than asked for"] if missing else []
        return Applied(change, intents[0] if intents else "", "; ".join([*kept, *short, *([failed] if failed else [])]))
    if failures:
        retryable, unavailable = any(one.retryable for _, one in failures), any(one.unavailable for _, one in failures)
        return Failed(failed, retryable, unavailable)
    reasons = dict.fromkeys(result.reason for _, result in results if isinstance(result, Skipped))
    return Skipped("; ".join(reason for reason in reasons if reason != "already there") or "already there")
