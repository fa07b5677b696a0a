"""The economics: capacity as layers of one replica, each bought, kept or let go on what it is expected to carry.

Owns the marginal rule of the product. A layer of capacity c that lies above `base` carries S(base+c) - S(base) work per second at a
horizon, where S(x) = E[min(demand, x)] under the forecast. Carried work is worth the price of the next way to serve it (spill, or a miss).
It must not know about cooldowns, budgets or bounds: `policies.stabilize` and `policies.guard` come after.

The rule, with G(t) the value carried minus the rent paid up to t:

      G                                        start: from the lead time on, G must reach one boot's rent
  +boot ┤ - - - - - - - - ╭─── start pays       before it dips below zero (else waiting is cheaper);
      0 ┼────────╮   ╭────╯ - keep pays        keep:  from now on, G must come back above zero
  -boot ┤ - - - -╰─╮╱ - - - - - let go          before it dips below one boot's rent (else a reboot is cheaper).

With a constant demand this is the newsvendor's critical ratio: hold the quantile 1 - rent / value (Arrow, Harris, Marschak 1951).
One number: spill at 3x the rent keeps a layer while it is used 33 % of the time.
"""

from dataclasses import dataclass

import numpy as np

from policies.view import Array, OfferView, Outlook

MAX_LAYERS_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class Grid:
    """The forecast laid out for integration: `times` f64[T] from 0, `demand` f64[T, Q] and the mass `weights` f64[Q] of each quantile."""

    times: Array
    demand: Array
    weights: Array


def grid_of(outlook: Outlook, extra_per_second: float = 0.0) -> Grid:
    """Return the integration grid of a forecast; `extra_per_second` is backlog to be worked off on top of demand."""
    times = np.concatenate(([0.0], outlook.horizons_seconds))
    demand = np.concatenate((outlook.demand[:1], outlook.demand))
    if extra_per_second > 0.0:
        demand = demand + extra_per_second
    return Grid(times, demand, quantile_weights(outlook.quantiles))


def quantile_weights(quantiles: Array) -> Array:
    """Return the probability mass that each quantile stands for; (0.1, 0.5, 0.9) gives (0.3, 0.4, 0.3)."""
    middles = (quantiles[1:] + quantiles[:-1]) / 2.0
    return np.diff(np.concatenate(([0.0], middles, [1.0])))


def carried(grid: Grid, edges: Array) -> Array:
    """Return f64[layer, T]: the work each layer between two `edges` carries from now to each time, in units of work."""
    served = np.minimum(grid.demand[None, :, :], edges[:, None, None]) @ grid.weights
    layers = served[1:] - served[:-1]
    steps = (layers[:, 1:] + layers[:, :-1]) * (0.5 * np.diff(grid.times))
    return np.concatenate((np.zeros((len(layers), 1)), np.cumsum(steps, axis=1)), axis=1)


def _at(times: Array, values: Array, moment: float) -> Array:
    """Return `values` f64[layer, T] linearly interpolated at one moment, f64[layer]."""
    right = int(np.clip(np.searchsorted(times, moment), 1, len(times) - 1))
    left = right - 1
    share = min(max((moment - times[left]) / (times[right] - times[left]), 0.0), 1.0)
    return values[:, left] * (1.0 - share) + values[:, right] * share


def pays_to_start(work: Array, times: Array, value: float, rent: float, lead: float, hold: float) -> Array:
    """Return bool[layer]: whether asking for the layer now beats both waiting and doing without.

    `value` is USD per unit of work carried, `rent` USD per second from the request on, `lead` and `hold` seconds.
    """
    after = times > lead
    if not after.any():
        return np.zeros(len(work), dtype=bool)
    since = times[after] - lead
    gain = value * (work[:, after] - _at(times, work, lead)[:, None]) - rent * since
    boot = rent * lead
    repaid = (gain >= boot) & (since >= hold - lead)
    dipped = np.minimum.accumulate(gain, axis=1) < 0.0
    return np.asarray((repaid & ~dipped).any(axis=1))


def pays_to_keep(work: Array, times: Array, value: float, rent: float, lead: float) -> Array:
    """Return bool[layer]: whether keeping the layer beats letting it go, now, and booting another when it is needed."""
    gain = value * work[:, 1:] - rent * times[1:]
    boot = rent * lead
    recovered = gain >= 0.0
    sunk = np.minimum.accumulate(gain, axis=1) < -boot
    return np.asarray((recovered & ~sunk).any(axis=1))


def _leading(accepted: Array) -> int:
    """Return how many layers from the bottom are accepted without a break."""
    return int(len(accepted) if accepted.all() else np.argmin(accepted))


def kept(view: OfferView, grid: Grid, base: float, value: float) -> int:
    """Return how many of an offer's held replicas, stacked on `base`, are worth keeping."""
    held = view.held
    if held == 0:
        return 0
    rent = marginal_usd_per_second(view)
    if rent <= 0.0:
        return held
    edges = base + view.offer.capacity_per_second * np.arange(held + 1)
    work = carried(grid, edges)
    return _leading(pays_to_keep(work, grid.times, value, rent, view.offer.lead_time_seconds))


def started(view: OfferView, grid: Grid, base: float, value: float, most: int) -> int:
    """Return how many further replicas of an offer, stacked on `base`, are worth asking for now, `most` at the most."""
    capacity = view.offer.capacity_per_second
    reach = int(np.ceil(max(float(grid.demand.max()) - base, 0.0) / capacity))
    count = min(most, reach, MAX_LAYERS_AT_ONCE)
    if count <= 0:
        return 0
    rent = marginal_usd_per_second(view)
    work = carried(grid, base + capacity * np.arange(count + 1))
    pays = pays_to_start(work, grid.times, value, rent, view.offer.lead_time_seconds, view.offer.hold_seconds)
    return _leading(pays)


def marginal_usd_per_second(view: OfferView) -> float:
    """Return what one more second of a replica costs: the rent, or a floor's opportunity price (0 where it is sunk)."""
    if view.offer.tier == "floor":
        return view.offer.opportunity_usd_per_replica_hour / 3600.0
    price = view.usd_per_replica_hour
    return float("inf") if price is None else price / 3600.0
