"""A verdict as the Decision that travels: targets with their expiry, the evidence, and one sentence for a person.

Owns nothing but this translation; it must not change a number. See `policies.decide` for where a verdict comes from.
"""

from controlplane.contracts.events import Decision, Reason, Stage, Tick
from controlplane.contracts.units import from_unix
from policies.budget import rented, usd_limits
from policies.decide import Verdict
from policies.view import Memory, View, expiry_seconds


def decision_of(
    view: View,
    verdict: Verdict,
    tick: Tick,
    sequence: int | None,
    memory: Memory,
    capacity_share: float | None = None,
) -> Decision:
    """Return the Decision that answers a Tick; `memory` is as after it.

    An offer whose pool nobody has told of yet is left out of its targets, which start from nothing held: it keeps what it has.
    """
    fleet, untold = view.fleet, frozenset(seen.offer.name for seen in view.offers if seen.untold)
    expires = from_unix(view.now_unix + expiry_seconds(fleet))
    horizon, quantiles = _evidence(view)
    return Decision(
        fleet=fleet.name,
        time=tick.time,
        mode=fleet.guard.mode,
        expires=expires,
        targets={name: target for name, target in verdict.targets.items() if name not in untold},
        tiers={offer.name: offer.tier for offer in fleet.offers},
        spill_per_second=verdict.spill_per_second,
        spill_until=expires if verdict.spill_per_second > 0.0 else None,
        cause=tick.cause,
        reasons=tuple(dict.fromkeys((*verdict.reasons, Reason.NO_DATA_YET))) if untold else verdict.reasons,
        stages=tuple(Stage(**stage._asdict()) for stage in verdict.stages),
        demand_per_second=view.demand_per_second,
        backlog=view.backlog,
        horizon_seconds=horizon,
        demand_quantiles=quantiles,
        lead_times_seconds={seen.offer.name: seen.offer.lead_time_seconds for seen in view.offers if seen.offer.learns_lead_time},
        capacity_share=capacity_share,
        ineligible=dict(fleet.ineligible),
        usd_per_hour=_usd_per_hour(view, verdict),
        most_usd_per_replica_hour={seen.offer.name: price for seen in rented(view) if (price := seen.usd_per_replica_hour) is not None},
        most_usd_per_hour=usd_limits(verdict.targets, view, memory),
        inputs_sequence=sequence,
        summary=summary_of(view, verdict, untold),
    )


def _evidence(view: View) -> tuple[float | None, dict[str, float]]:
    """Return the shortest rented lead time and the demand quantiles nearest to it."""
    if view.outlook is None:
        return None, {}
    lead = min((seen.offer.lead_time_seconds for seen in view.offers if seen.offer.tier == "burst"), default=600.0)
    row = int(abs(view.outlook.horizons_seconds - lead).argmin())
    values = zip(view.outlook.quantiles.tolist(), view.outlook.demand[row].tolist(), strict=True)
    return float(view.outlook.horizons_seconds[row]), {f"{quantile:g}": value for quantile, value in values}


def _usd_per_hour(view: View, verdict: Verdict) -> float:
    return sum((seen.usd_per_replica_hour or 0.0) * verdict.targets[seen.offer.name] for seen in view.offers)


def summary_of(view: View, verdict: Verdict, untold: frozenset[str] = frozenset()) -> str:
    """Return one sentence for a person: what changes, for which demand, and the first reasons."""
    moves = []
    for seen in view.offers:
        target = verdict.targets[seen.offer.name]
        if seen.offer.name in untold:
            moves.append(f"{seen.offer.name} unknown")
            continue
        moves.append(f"{seen.offer.name} {seen.held}→{target}" if target != seen.held else f"{seen.offer.name} {target}")
    demand = "unknown" if view.demand_per_second is None else f"{view.demand_per_second:.1f}/s"
    if view.fleet.ineligible:
        moves.append(f"not eligible: {', '.join(view.fleet.ineligible)}")
    why = ", ".join(reason.value for reason in verdict.reasons)
    return f"demand {demand}: {', '.join(moves)} ({why})"
