"""How much each method counts: recent pinball loss by horizon, and the weights that follow from it.

Owns the losses and the stated favour that a method enjoys before its record speaks. It must not make forecasts; see `pool`.
"""

from collections.abc import Sequence

import numpy as np

from forecasters.api import Array
from forecasters.spread import prior_scale

LOSS_MEMORY, AGEING = 150.0, 0.5
LOSS_LIMIT = 50.0
SHARPNESS, FLATTER, FIRST_SHARPNESS = 8.0, 0.25, 4.0
FAVOUR = {"working-week": 6.0, "blend": 2.0}
FIRST_LOSS = {"harmonic": 2.0, "blend": 1.3}


def first_losses(names: Sequence[str], horizons_seconds: Array) -> Array:
    """Return the loss that each method is taken to have had, f64[H, M]: the untried count as worse."""
    out: Array = prior_scale(horizons_seconds)[:, None] * np.array([FIRST_LOSS.get(name, 1.0) for name in names])
    return out


def favours(names: Sequence[str]) -> Array:
    """Return a factor on each weight, f64[M]: where records are equal, Monday should look like Friday, not like Sunday."""
    return np.array([FAVOUR.get(name, 1.0) for name in names])


def follow_losses(loss: Array, actual: Array, said: Array, quantiles: Array, level: Array, count: Array) -> Array:
    """Return losses f64[k, M] moved towards the pinball of quantiles `said` f64[k, M, Q] relative to `level` f64[k].

    The first losses, of methods that had learnt nothing yet, fade as if the record were half as old as it is, `count` f64[k].
    """
    miss = actual[:, None, None] - said
    pinball = np.maximum(quantiles * miss, (quantiles - 1.0) * miss).sum(axis=2) / (len(quantiles) * level[:, None])
    rate = 1.0 / np.minimum(AGEING * count + 2.0, LOSS_MEMORY)
    out: Array = loss + rate[:, None] * (np.minimum(pinball, LOSS_LIMIT) - loss)
    return out


def weigh(loss: Array, favour: Array, overlap: Array | float = 1.0) -> Array:
    """Return weights along the last axis, falling with a power of the loss: at 4, one that is 20 % worse has half the weight.

    The power is less where `overlap` f64[k] says that the record holds few independent trials.
    """
    power = (loss.min(axis=-1, keepdims=True) + 1e-9) / (loss + 1e-9)
    power = power ** (SHARPNESS / np.asarray(overlap, dtype=np.float64)[..., None] ** FLATTER) * favour
    out: Array = power / power.sum(axis=-1, keepdims=True)
    return out
