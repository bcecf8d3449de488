"""Truncated ES, step by step against the definition."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.meta_train.estimators.linear_dynamics import (
    DATA,
    DECAY,
    EXACT_THETA,
    START,
    TARGET,
    THETA,
    TRUNCATION,
    VARIED,
    begun_ages,
    build,
)

SIGMA = 0.5


def run_rounds(x, theta):
    """x [pairs, 2] after a truncation, and the mean loss of its rounds [pairs]."""
    losses = []
    for _ in range(TRUNCATION):
        x = DECAY * x + theta
        losses.append(0.5 * np.sum(np.square(x - TARGET), axis=-1))
    return x, np.mean(losses, axis=0)


def test_every_step_follows_the_definition():
    init, estimate = build("es", schedule=VARIED, sigma=SIGMA)
    state = init(THETA, jax.random.key(0), DATA)
    resets = 0
    for step in range(5):
        ages = np.asarray(begun_ages(state))
        resets += np.sum(ages == 0)
        start = np.where(ages[:, None] == 0, START, state.inner["x"][:, 0])
        gradient, state, info = estimate(
            THETA, state, jax.random.fold_in(jax.random.key(1), step), jnp.int32(step), DATA
        )
        # The positive sign's state, and the theta it used, are what remains.
        eps = np.asarray(state.inner["theta"][:, 0]) - EXACT_THETA
        assert len(np.unique(eps)) == eps.size
        after, positive = run_rounds(start, EXACT_THETA + eps)
        _, negative = run_rounds(start, EXACT_THETA - eps)
        np.testing.assert_allclose(state.inner["x"][:, 0], after, rtol=1e-5, atol=1e-6)
        difference = positive - negative
        each = eps * difference[:, None] / (2 * SIGMA**2)
        np.testing.assert_allclose(gradient, np.mean(each, axis=0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(info.gradient_std, np.sqrt(np.sum(np.var(each, axis=0, ddof=1))), rtol=1e-4)
        np.testing.assert_allclose(info.meta_loss, np.mean([positive, negative]), rtol=1e-5)
        np.testing.assert_array_equal(state.age, ages + TRUNCATION)
        np.testing.assert_array_equal(state.inner["rounds"][:, 0], state.age)
    assert resets > 16 and state.accumulator == ()
