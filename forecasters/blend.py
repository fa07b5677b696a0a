"""A learnt blend: by horizon, how far to trust each method, how fast a deviation fades, whether yesterday's shape holds.

Owns one small recursive regression per fleet and horizon, in logs, on what the methods say relative to the recent level and on
its own newest error: where errors last (a storm, a holiday), it learns how much of one to expect again.
It must not know the methods; `pool` hands it their words and asks it for one more. Prior: what `PRIOR_SHARE` says.
"""

from dataclasses import dataclass

import numpy as np

from forecasters.api import Array
from forecasters.intake import Index

PRIOR_DEVIATION = 0.25
PRIOR_NOISE = 0.09
MEMORY = 1000.0
HUBER = 2.5
LEAST_NOISE = 1e-5
ROOM = 0.7


@dataclass(slots=True)
class Blend:
    """Per row (fleet x horizon): coefficients f64[R, p], covariance f64[R, p, p], noise variance, count and newest error f64[R].

    The newest error, of what the blend would have said without knowing any, is the last feature but the constant.
    """

    theta: Array
    covariance: Array
    noise: Array
    count: Array
    newest: Array


def start_blend(rows: int, prior: Array) -> Blend:
    """Return the prior coefficients f64[p] for every row, each uncertain by `PRIOR_DEVIATION`."""
    size = len(prior)
    return Blend(
        theta=np.tile(prior, (rows, 1)),
        covariance=np.tile(np.eye(size) * PRIOR_DEVIATION**2, (rows, 1, 1)),
        noise=np.full(rows, PRIOR_NOISE),
        count=np.zeros(rows),
        newest=np.zeros(rows),
    )


def learn_blend(blend: Blend, row: Index, design: Array, wanted: Array, overlap: Array) -> None:
    """Update rows (each at most once) with features f64[k, p] and what came f64[k], log units relative to the level.

    `overlap` f64[k] errors in a row share their cause and count as one.
    """
    theta, covariance, noise = blend.theta.take(row, axis=0), blend.covariance.take(row, axis=0), blend.noise[row]
    gain = np.vecdot(covariance, design[:, None, :])
    leverage = np.vecdot(gain, design)
    total = (1.0 + overlap) * noise + leverage
    error = wanted - np.vecdot(theta, design)
    limit = HUBER * np.sqrt(noise + leverage)
    blend.newest[row] = np.minimum(np.maximum(error, -2.0 * limit), 2.0 * limit) + theta[:, -2] * design[:, -2]
    error = np.minimum(np.maximum(error, -limit), limit)
    share = gain / total[:, None]
    blend.theta[row] = theta + share * error[:, None]
    covariance -= gain[:, :, None] * share[:, None, :]
    open_ = covariance.trace(axis1=1, axis2=2) < len(design[0]) * PRIOR_DEVIATION**2
    if open_.all():
        covariance *= 1.0 + 1.0 / MEMORY
    else:
        covariance *= np.where(open_, 1.0 + 1.0 / MEMORY, 1.0)[:, None, None]
    blend.covariance[row] = covariance
    count = blend.count[row] + 1.0
    blend.count[row] = count
    blend.noise[row] = np.maximum(noise + (error * error - noise) / np.minimum(count + 10.0, 300.0), LEAST_NOISE)


def say_blend(blend: Blend, fleet: Index | slice, horizons: int, design: Array) -> Array:
    """Return the blend's deviation from the level, f64[k, H], for features f64[k, H, p]."""
    theta = blend.theta.reshape(-1, horizons, design.shape[2])[fleet]
    out: Array = np.vecdot(theta, design)
    if len(out) == 1 and np.maximum.reduce(np.abs(out), axis=None) <= ROOM:
        return out
    top = np.maximum.reduce(design, axis=2, initial=0.0)
    top += ROOM
    bottom = np.minimum.reduce(design, axis=2, initial=0.0)
    bottom -= ROOM
    np.maximum(out, bottom, out=out)
    return np.minimum(out, top, out=out)
