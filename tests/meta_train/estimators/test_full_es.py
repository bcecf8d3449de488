"""ES on whole episodes: their losses and lengths. That the gradient is right is shown in `test_estimator_oracles`."""

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.estimators.base import EstimatorOptions
from tests.meta_train.estimators.linear_dynamics import (
    DATA,
    EPISODE,
    FLAT,
    START,
    THETA,
    TRUNCATION,
    VARIED,
    build,
    flatten,
)
from tests.meta_train.estimators.test_es import run_rounds


def episode_loss(rounds):
    x, losses = np.tile(START, (1, 1)), []
    for _ in range(rounds // TRUNCATION):
        x, loss = run_rounds(x, FLAT)
        losses.append(loss[0])
    return np.mean(losses)


def test_every_estimate_trains_whole_episodes_of_one_length():
    init, estimate = build("full_es", schedule=VARIED, sigma=1e-3)
    state = init(THETA, jax.random.key(0), DATA)
    seen = set()
    for step in range(24):
        _, state, info = estimate(THETA, state, jax.random.key(step), jnp.int32(step), DATA)
        length = int(info.max_age)
        assert float(info.mean_age) == length
        # The perturbation moves the loss by its second order, about sigma^2.
        np.testing.assert_allclose(info.meta_loss, episode_loss(length), rtol=1e-4)
        seen.add(length)
    assert seen == set(range(TRUNCATION, EPISODE + 1, TRUNCATION))


def test_sign_of_the_difference():
    """The sign is taken of the whole episode's: then every pair's estimate has the length |eps| * scale / 2 sigma^2."""
    init, estimate = build("full_es", num_pairs=512, sigma=0.1, options=EstimatorOptions(sign_scale=0.02))
    gradient, _, info = estimate(THETA, init(THETA, jax.random.key(0), DATA), jax.random.key(1), jnp.int32(0), DATA)
    second_moment = info.gradient_std**2 * (511 / 512) + np.sum(np.square(flatten(gradient)))
    # E |eps|^2 = 2 sigma^2; over 512 pairs its mean deviates by 4 standard errors of 4.4% at most.
    np.testing.assert_allclose(second_moment, 0.02**2 * 2 / (4 * 0.1**2), rtol=0.18)
