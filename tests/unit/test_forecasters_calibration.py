"""What is promised of the quantiles: how often they are missed in the long run, and how fast they follow a method that improves."""

from collections import deque

import numpy as np
import pytest

from forecasters.api import Array
from forecasters.blend import learn_blend, start_blend
from forecasters.spread import NUDGE, Singles, learn_errors, start_spread

HOUR = 3600.0
LEVELS = np.array([0.1, 0.5, 0.9, 0.99])
ROW, MEMORY = np.zeros(1, dtype=np.int64), np.full(1, 500.0)


def _misses(errors: Array, delay: int) -> tuple[Array, Array]:
    """Score log errors, each known `delay` counts after its forecast; return misses bool[T, L] of what was said, and the last shift [L]."""
    spread, waiting, missed = start_spread(1, np.array([HOUR]), 2, LEVELS), deque[Singles](), []
    for error in errors:
        waiting.append(spread.quantile[ROW].reshape(1, -1).astype(np.float32))
        if len(waiting) > delay:
            said = waiting.popleft()
            missed.append(error > said[0, : len(LEVELS)])
            learn_errors(spread, ROW, ROW, np.full((1, 2), error), said, MEMORY, np.full(1, float(max(delay, 1))), LEVELS)
    return np.array(missed), spread.shift[0, 0]


@pytest.mark.parametrize("delay", [0, 24])
@pytest.mark.parametrize("kind", ["calm", "ever larger", "first low and then high", "by turns"])
def test_misses_are_off_nominal_only_by_what_the_correction_has_moved_whatever_comes(kind: str, delay: int) -> None:
    count, noise = 6000, np.random.default_rng(4)
    errors = 0.1 * noise.standard_normal(count)
    place = np.arange(count)
    if kind == "ever larger":
        errors *= np.exp(place / 1500.0)
    elif kind == "first low and then high":
        errors += np.where(place < count // 2, -0.5, 0.5)
    elif kind == "by turns":
        errors *= np.where((place // 300) % 2, 4.0, 1.0)
    missed, shift = _misses(errors, delay)
    off = missed.mean(axis=0) - (1.0 - LEVELS)
    assert off * len(missed) * NUDGE / max(delay, 1) == pytest.approx(shift)
    assert np.abs(off).max() < 0.02


def test_what_a_method_got_wrong_while_it_was_new_fades_sooner_than_in_a_mean() -> None:
    spread = start_spread(1, np.array([HOUR]), 2, LEVELS)
    said = np.zeros((1, 2 * len(LEVELS)), dtype=np.float32)
    sizes = [1.0] * 30 + [0.1] * 60
    for size in sizes:
        learn_errors(spread, ROW, ROW, np.full((1, 2), size), said, MEMORY, np.ones(1), LEVELS)
    own, maximum = spread.scale[0]
    assert own < 0.75 * np.mean(sizes)
    assert maximum > own, "the maximum has seen few independent errors, and keeps what it has seen"


@pytest.mark.parametrize("lasting", [0.0, 0.8])
def test_the_blend_learns_how_much_of_its_newest_error_to_expect_again(lasting: float) -> None:
    blend, noise = start_blend(1, np.zeros(3)), np.random.default_rng(2)
    error = 0.0
    for _ in range(1500):
        # One method that is right but for an error of which `lasting` stays; then the newest error, then the constant.
        design = np.array([[1.0 + noise.standard_normal(), blend.newest[0], 1.0]])
        error = lasting * error + 0.1 * noise.standard_normal()
        learn_blend(blend, ROW, design, design[:, 0] + error, np.ones(1))
    assert blend.theta[0] == pytest.approx([1.0, lasting, 0.0], abs=0.1)
