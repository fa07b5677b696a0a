"""How much to own: which layers of capacity are cheaper reserved for a term than rented or spilled as they are needed.

Owns the sums over a history of demand, layer by layer, and the choice of a count for each term, with its range over the history's weeks.
It must not read traces or draw: the command line does. `policies.layers` has the same idea within the hour.

A layer that is needed for a share b of the time and carries a share u of its capacity costs, per hour, the cheaper of b x burst rent
and u x capacity x spill price. It is worth reserving where that is more than the committed price: the break-even line. One number: at a
committed price of a third of the rent, layers that are needed more than a third of the time are worth owning.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from policies.view import Array

SECONDS_PER_HOUR = 3600.0
SECONDS_PER_DAY = 86400.0
WEEK_DAYS = 7
MOST_LAYERS = 10_000


@dataclass(frozen=True, slots=True)
class Term:
    """A commitment that can be had: `usd_per_replica_hour` is paid for all of `seconds`, used or not."""

    name: str
    usd_per_replica_hour: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Instead:
    """How a layer is served that is not reserved. A rented replica is asked for `lead_seconds` ahead and kept for `hold_seconds` at least.

    Capacity and rent are of one replica; a layer is `replicas_per_lot` of them, reserved together and rented one by one.
    `usd_per_unit_spilled` None: there is no spill, and only renting counts.
    """

    capacity_per_second: float
    usd_per_replica_hour: float
    lead_seconds: float
    hold_seconds: float
    usd_per_unit_spilled: float | None = None
    replicas_per_lot: int = 1


@dataclass(frozen=True, slots=True)
class LayerUse:
    """One value per layer from the bottom: share of its capacity used, mean share of the time that its replicas are needed, USD per hour
    served otherwise.
    """

    used: Array
    needed: Array
    usd_per_hour: Array


@dataclass(frozen=True, slots=True)
class FloorChoice:
    """What one term would come to. Savings are USD per hour against reserving nothing; low and high are over the parts of the history."""

    term: Term
    replicas: int
    replicas_low: int
    replicas_high: int
    saving_usd_per_hour: float
    saving_low_usd_per_hour: float
    saving_high_usd_per_hour: float

    @property
    def saving_usd(self) -> float:
        """Return what the whole term would save, if it were like the history."""
        return self.saving_usd_per_hour * self.term.seconds / SECONDS_PER_HOUR


def layer_uses(demand_per_second: Array, step_seconds: float, instead: Instead, layers: int | None = None) -> LayerUse:
    """Return how each layer is used over f64[steps] of demand; NaN, unknown, counts neither way. `layers` None: all that are ever used."""
    demand = demand_per_second[np.isfinite(demand_per_second)]
    capacity = instead.capacity_per_second
    lot = instead.replicas_per_lot
    reach = int(np.ceil(float(demand.max(initial=0.0)) / (capacity * lot) - 1e-9)) if layers is None else layers
    edges = capacity * np.arange(min(reach, MOST_LAYERS) * lot)
    if not len(demand):
        nothing = np.zeros(len(edges) // lot)
        return LayerUse(nothing, nothing, nothing)
    held = _held_for(demand, step_seconds, instead)
    used = np.array([float(np.clip(demand - edge, 0.0, capacity).mean()) / capacity for edge in edges])
    needed = np.array([float((held > edge).mean()) for edge in edges])
    usd = needed * instead.usd_per_replica_hour
    if instead.usd_per_unit_spilled is not None:
        usd = np.minimum(usd, used * capacity * SECONDS_PER_HOUR * instead.usd_per_unit_spilled)
    if lot == 1:
        return LayerUse(used, needed, usd)
    return LayerUse(used.reshape(-1, lot).mean(axis=1), needed.reshape(-1, lot).mean(axis=1), usd.reshape(-1, lot).sum(axis=1))


def _held_for(demand: Array, step_seconds: float, instead: Instead) -> Array:
    """Return the demand that rented replicas are held for: the highest of what a boot looks ahead to, and of what a hold looks back on."""
    ahead = int(np.ceil(instead.lead_seconds / step_seconds))
    behind = int(np.ceil(max(instead.hold_seconds - instead.lead_seconds, 0.0) / step_seconds))
    padded = np.concatenate((np.full(behind, -np.inf), demand, np.full(ahead, -np.inf)))
    highest: Array = np.lib.stride_tricks.sliding_window_view(padded, ahead + behind + 1).max(axis=1)
    return highest


def size_floor(demand_per_second: Array, step_seconds: float, terms: Sequence[Term], instead: Instead) -> tuple[FloorChoice, ...]:
    """Return what each term would come to, the one that saves most per hour first (the shorter one where they tie)."""
    whole = layer_uses(demand_per_second, step_seconds, instead)
    layers = len(whole.used)
    parts = [layer_uses(part, step_seconds, instead, layers) for part in parts_of(demand_per_second, step_seconds)]
    choices = [_choose(term, whole, parts) for term in terms]
    return tuple(sorted(choices, key=lambda choice: (-choice.saving_usd_per_hour, choice.term.seconds, choice.term.name)))


def parts_of(demand_per_second: Array, step_seconds: float) -> list[Array]:
    """Return the history in whole weeks where there are two at least, else in days; a rest that is not whole is left out."""
    for days in (WEEK_DAYS, 1):
        steps = round(days * SECONDS_PER_DAY / step_seconds)
        count = len(demand_per_second) // steps
        if count >= 2:
            return [demand_per_second[index * steps : (index + 1) * steps] for index in range(count)]
    return [demand_per_second]


def _choose(term: Term, whole: LayerUse, parts: Sequence[LayerUse]) -> FloorChoice:
    replicas = _worth_owning(term, whole)
    savings = [_saving(term, part, replicas) for part in parts]
    counts = [_worth_owning(term, part) for part in parts]
    return FloorChoice(term, replicas, min(counts), max(counts), _saving(term, whole, replicas), min(savings), max(savings))


def _worth_owning(term: Term, use: LayerUse) -> int:
    """Return how many layers from the bottom cost more otherwise than reserved; a higher layer never costs more than a lower one."""
    return int((use.usd_per_hour > term.usd_per_replica_hour).sum())


def _saving(term: Term, use: LayerUse, replicas: int) -> float:
    return float(use.usd_per_hour[:replicas].sum()) - replicas * term.usd_per_replica_hour
