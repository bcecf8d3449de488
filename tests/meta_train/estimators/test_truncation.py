"""Episode lengths: allowed values, distribution, determinism, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.estimators.truncation import constant_length, log_uniform_length

STEP = jnp.int32(0)


def draw(schedule, count, seed=0):
    keys = jax.random.split(jax.random.key(seed), count)
    return np.asarray(jax.jit(jax.vmap(lambda key: schedule.length(key, STEP)))(keys))


@pytest.mark.parametrize(("minimum", "maximum", "truncation"), [(100, 1000, 50), (20, 500, 20), (7, 7, 7), (1, 3, 1)])
def test_lengths_are_multiples_within_bounds_and_reach_both(minimum, maximum, truncation):
    maximum -= maximum % truncation
    lengths = draw(log_uniform_length(minimum, maximum, truncation), 4000)
    assert lengths.dtype == np.int32
    assert np.all(lengths % truncation == 0)
    assert lengths.min() == minimum
    assert lengths.max() == maximum


def test_lengths_are_log_uniform():
    count = 20_000
    lengths = np.sort(draw(log_uniform_length(100, 10_000, 1), count))
    expected = np.log(lengths / 100) / np.log(100)
    distance = np.max(np.abs(expected - (np.arange(count) + 0.5) / count))
    # Kolmogorov-Smirnov at 0.1%: 1.95 / sqrt(n); rounding to whole rounds moves the distribution
    # function by at most half a round at the short end.
    assert distance < 1.95 / np.sqrt(count) + 0.5 / (100 * np.log(100))


def test_coarse_truncations_keep_the_distribution():
    count = 20_000
    lengths = draw(log_uniform_length(100, 1000, 50), count)
    for bound in range(100, 1000, 50):
        # A length up to `bound` is a draw up to half a truncation above it.
        expected = np.log((bound + 25) / 100) / np.log(10)
        error = 4 * np.sqrt(expected * (1 - expected) / count)
        assert abs(np.mean(lengths <= bound) - expected) < error


def test_lengths_follow_the_key():
    schedule = log_uniform_length(100, 1000, 50)
    np.testing.assert_array_equal(draw(schedule, 50), draw(schedule, 50))
    assert np.any(draw(schedule, 50) != draw(schedule, 50, seed=1))


def test_constant_length():
    assert set(draw(constant_length(200, 50), 20)) == {200}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((100, 1000, 0), "truncation_length=0"),
        ((100, 1000, 30), "min_length=100"),
        ((60, 1000, 30), "max_length=1000"),
        ((0, 100, 10), "min_length=0"),
        ((200, 100, 10), "min_length=200"),
    ],
)
def test_odd_lengths_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        log_uniform_length(*arguments)
