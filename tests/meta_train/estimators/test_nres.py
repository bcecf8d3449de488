"""NRES: one perturbation an episode."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.meta_train.estimators.linear_dynamics import (
    DATA,
    EXACT_THETA,
    START,
    THETA,
    TRUNCATION,
    VARIED,
    begun_ages,
    build,
)
from tests.meta_train.estimators.test_es import run_rounds


def test_every_step_follows_the_definition():
    init, estimate = build("nres", schedule=VARIED, sigma=0.2)
    state = init(THETA, jax.random.key(0), DATA)
    kept, resets = 0, 0
    for step in range(6):
        began = np.asarray(begun_ages(state)) == 0
        old = jax.tree.map(np.asarray, state)
        gradient, state, info = estimate(
            THETA, state, jax.random.fold_in(jax.random.key(1), step), jnp.int32(step), DATA
        )
        eps = np.asarray(state.accumulator)
        same = np.all(eps == old.accumulator, axis=-1)
        np.testing.assert_array_equal(same, ~began)
        kept, resets = kept + np.sum(same), resets + np.sum(began)
        np.testing.assert_allclose(state.inner["theta"][:, 0], EXACT_THETA + eps, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(state.inner["theta"][:, 1], EXACT_THETA - eps, rtol=1e-5, atol=1e-6)
        x = np.where(began[:, None, None], START, old.inner["x"])
        after_positive, positive = run_rounds(x[:, 0], EXACT_THETA + eps)
        after_negative, negative = run_rounds(x[:, 1], EXACT_THETA - eps)
        np.testing.assert_allclose(
            state.inner["x"], np.stack([after_positive, after_negative], 1), rtol=1e-5, atol=1e-6
        )
        each = eps * ((positive - negative) / (2 * 0.2**2))[:, None]
        np.testing.assert_allclose(gradient, np.mean(each, axis=0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(info.mean_age, np.mean(state.age), rtol=1e-6)
    assert kept > 16 and resets > 20 and TRUNCATION < 8


def test_perturbations_have_standard_deviation_sigma():
    init, estimate = build("nres", num_tasks=512, sigma=0.3)
    state = init(THETA, jax.random.key(0), DATA)
    _, state, _ = estimate(THETA, state, jax.random.key(1), jnp.int32(2), DATA)
    # 1024 draws: 4 standard errors of the deviation are 9%.
    np.testing.assert_allclose(np.std(state.accumulator), 0.3, rtol=0.09)
