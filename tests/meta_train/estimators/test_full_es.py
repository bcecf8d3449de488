"""ES on whole episodes: their losses and lengths. That the gradient is right is shown in `test_estimator_oracles`."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.meta_train.estimators.linear_dynamics import (
    DATA,
    EPISODE,
    EXACT_THETA,
    START,
    THETA,
    TRUNCATION,
    VARIED,
    build,
)
from tests.meta_train.estimators.test_es import run_rounds


def episode_loss(rounds):
    x, losses = np.tile(START, (1, 1)), []
    for _ in range(rounds // TRUNCATION):
        x, loss = run_rounds(x, EXACT_THETA)
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
