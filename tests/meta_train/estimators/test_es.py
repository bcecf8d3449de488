"""Truncated ES and the options of loss differences, step by step against the definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.estimators.base import EstimatorOptions
from tests.meta_train.estimators.linear_dynamics import (
    DATA,
    DECAY,
    FLAT,
    START,
    TARGET,
    THETA,
    TRUNCATION,
    VARIED,
    begun_ages,
    build,
    flatten,
)

SIGMA = 0.5


def run_rounds(x, theta):
    """x [pairs, 2] after a truncation, and the mean loss of its rounds [pairs]."""
    losses = []
    for _ in range(TRUNCATION):
        x = DECAY * x + theta
        losses.append(0.5 * np.sum(np.square(x - TARGET), axis=-1))
    return x, np.mean(losses, axis=0)


@pytest.mark.parametrize(
    "options",
    [EstimatorOptions(), EstimatorOptions(sign_scale=0.1), EstimatorOptions(max_difference=0.2)],
    ids=["plain", "sign", "clip"],
)
def test_every_step_follows_the_definition(options):
    init, estimate = build("es", schedule=VARIED, sigma=SIGMA, options=options)
    state = init(THETA, jax.random.key(0), DATA)
    resets = 0
    for step in range(5):
        ages = np.asarray(begun_ages(state))
        resets += np.sum(ages == 0)
        start = np.where(ages[:, None] == 0, START, state.inner["x"][:, 0])
        gradient, state, info = estimate(
            THETA, state, jax.random.fold_in(jax.random.key(1), step), jnp.int32(step), DATA
        )
        # The positive member's state, and the theta it used, are what remains.
        eps = np.asarray(state.inner["theta"][:, 0]) - FLAT
        assert len(np.unique(eps)) == eps.size
        after, positive = run_rounds(start, FLAT + eps)
        _, negative = run_rounds(start, FLAT - eps)
        np.testing.assert_allclose(state.inner["x"][:, 0], after, rtol=1e-5, atol=1e-6)
        difference = positive - negative
        if options.sign_scale:
            difference = options.sign_scale * np.sign(difference)
        if options.max_difference:
            assert np.any(np.abs(difference) > options.max_difference)
            difference = np.clip(difference, -options.max_difference, options.max_difference)
        each = eps * difference[:, None] / (2 * SIGMA**2)
        np.testing.assert_allclose(flatten(gradient), np.mean(each, axis=0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(info.gradient_std, np.sqrt(np.sum(np.var(each, axis=0, ddof=1))), rtol=1e-4)
        np.testing.assert_allclose(info.meta_loss, np.mean([positive, negative]), rtol=1e-5)
        np.testing.assert_array_equal(state.age, ages + TRUNCATION)
        np.testing.assert_array_equal(state.inner["rounds"][:, 0], state.age)
    assert resets > 16 and state.accumulator == ()
