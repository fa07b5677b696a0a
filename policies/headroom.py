"""How much more than the forecast a fleet without spill holds: feedback from its own attainment, nothing to tune.

Owns the level to cover, R = u + (f - 1) * (3/4 typical demand + 1/4 u) with u the 0.9 quantile at each horizon, and what feedback makes of
the factor f. `policies.rehearsal` chooses f, or a price instead, and feedback corrects it; alone it is where nothing can be rehearsed.
It must not choose replicas: `policies.layers` covers the level as if it were certain.

Why not a high quantile. On production traces the 0.999 quantile of the forecast costs up to 1.4 times what a scaled 0.9 quantile costs at
the same attainment: the far tail is rare launches and shifts, which another quantile cannot tell apart from noise.
Why feedback. In a queue one short deficit makes everything behind it late, so no quantile says what the SLO will be.
"""

from math import exp, log

import numpy as np

from policies.view import Array, Headroom, Outlook

BODY_QUANTILE = 0.9
TYPICAL_SHARE = 0.75
# Aim a little above the SLO, since what is learnt swings around its aim.
AIMED_SHARE = 0.85
# Per minute of typical demand at 99 % and a lead of eight minutes; a rarer miss says more, a longer lead answers later.
GAIN = 0.01
GAIN_ATTAINMENT_EXPONENT = 0.5
GAIN_LEAD_EXPONENT = 0.75
REFERENCE_MISS, REFERENCE_LEAD_SECONDS = 0.01, 480.0
# What was missed over the last weeks is made up for: aim lower after too much, higher after too little, within these bounds.
MADE_UP_FOR = (0.25, 1.5)
MISSED_SECONDS = 14 * 86400.0
LOG_FACTOR_RANGE = (log(0.6), log(6.0))
TYPICAL_SECONDS = 86400.0
PEAK_SECONDS = 7 * 86400.0
PEAK_SHARE = 1.3
SMALLEST_MISS = 1e-4


def start_headroom(attainment: float, demand_per_second: float) -> Headroom:
    """Return where learning starts: a factor of 1 at 99 %, 1.1 at 99.5 %, 1.25 at 99.9 % (a tenth for each factor e^0.9 of misses)."""
    rarity = log(REFERENCE_MISS / max(1.0 - attainment, SMALLEST_MISS))
    return Headroom(
        min(max(0.1 * rarity, LOG_FACTOR_RANGE[0]), LOG_FACTOR_RANGE[1]), demand_per_second, demand_per_second, 0.0, aimed_at(attainment)
    )


def learn_headroom(
    known: Headroom | None,
    seconds: float,
    demand_per_second: float,
    late_share: float | None,
    attainment: float,
    lead_seconds: float,
    foreseen: tuple[float, float] = (0.0, 0.0),
) -> Headroom:
    """Return the head-room after `seconds` of a demand of which `late_share` missed the SLO (None: nobody says, the factor stays).

    The gradient rule of adaptive conformal inference (Gibbs and Candes 2021) in the logarithm of the factor: up by a gain times what
    was late, down by the gain times what may be. Over time the two must balance, whatever demand or queue there is.

    `foreseen` is the share that a rehearsal was late with in those seconds, and on average: only what differs from it is news. Where
    no rehearsed rule keeps the SLO, feedback therefore settles where the rehearsal is: more head-room would buy nothing.
    """
    if known is None:
        return start_headroom(attainment, demand_per_second)
    seen = known.seen_seconds + seconds
    newer = min(seconds / max(min(seen, TYPICAL_SECONDS), 1.0), 1.0)
    typical = known.typical_per_second + (demand_per_second - known.typical_per_second) * newer
    peak = max(demand_per_second, known.peak_per_second * exp(-seconds / PEAK_SECONDS))
    level, missed = known.log_factor, known.missed_share
    if late_share is not None and typical > 0.0:
        allowed = max(1.0 - attainment, SMALLEST_MISS)
        gain = GAIN * (REFERENCE_MISS / allowed) ** GAIN_ATTAINMENT_EXPONENT
        gain *= (REFERENCE_LEAD_SECONDS / max(lead_seconds, REFERENCE_LEAD_SECONDS)) ** GAIN_LEAD_EXPONENT
        weight = min(seconds / 60.0, 60.0) * demand_per_second / typical
        allowed_now = lenience(known, attainment) * aimed_at(attainment)
        level += gain * weight * (late_share - foreseen[0] + min(foreseen[1], allowed_now) - allowed_now)
        missed += (late_share - missed) * min(60.0 * weight / min(max(seen, TYPICAL_SECONDS), MISSED_SECONDS), 1.0)
    return Headroom(min(max(level, LOG_FACTOR_RANGE[0]), LOG_FACTOR_RANGE[1]), typical, peak, seen, missed)


def aimed_at(attainment: float) -> float:
    """Return the share of work that may miss, a little less than the SLO leaves."""
    return AIMED_SHARE * max(1.0 - attainment, SMALLEST_MISS)


def lenience(headroom: Headroom, attainment: float) -> float:
    """Return how many times what is aimed at may be missed from now on, after what was missed over the last weeks."""
    aim = aimed_at(attainment)
    return min(max(aim / max(headroom.missed_share, SMALLEST_MISS * aim), MADE_UP_FOR[0]), MADE_UP_FOR[1])


def level_to_cover(outlook: Outlook, headroom: Headroom) -> Array:
    """Return f64[horizon, 1], the work per second to hold capacity for; more than 1.3 times the recent peak only where the forecast is."""
    return covered(body_of(outlook), headroom, np.array([headroom.log_factor]))


def body_of(outlook: Outlook) -> Array:
    """Return f64[horizon], the quantile of demand that head-room is added to."""
    return outlook.demand[:, int(np.searchsorted(outlook.quantiles, BODY_QUANTILE - 1e-9))]


def covered(body: Array, headroom: Headroom, log_factors: Array) -> Array:
    """Return f64[horizon, factors], the level to cover for several factors at once."""
    share = TYPICAL_SHARE * headroom.typical_per_second + (1.0 - TYPICAL_SHARE) * body
    level = body[:, None] + share[:, None] * (np.exp(log_factors) - 1.0)
    level = np.minimum(level, np.maximum(body, PEAK_SHARE * headroom.peak_per_second)[:, None])
    return np.maximum(level, 0.0)
