"""Data-parallel training is one step on the batches of all workers and local steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.algorithms.data_parallel import data_parallel
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.server import fedavg
from tests.eval.toy import toy_family

FAMILY = toy_family()
TASK = FAMILY.task({}, FAMILY.data)


def rounds(algorithm, batch_shape, number=4):
    def one_round(state, i):
        batches = TASK.sample_batch(jax.random.key(i), "train", batch_shape)
        return algorithm.round(TASK.loss, state, jax.random.key(9), batches)

    state = algorithm.init(TASK.init(jax.random.key(0)))
    state, info = jax.jit(lambda s: jax.lax.scan(one_round, s, jnp.arange(number)))(state)
    return state.params, info.losses


def assert_close(first, second):
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_one_local_step_is_local_sgd():
    synchronous, _ = rounds(data_parallel(optax.sgd(0.3), 3, 1), (3, 1, 4))
    averaged, _ = rounds(local_sgd(optax.sgd(0.3), fedavg(), 3, 1), (3, 1, 4))
    assert_close(synchronous, averaged)


@pytest.mark.parametrize("opt", [optax.sgd(0.3), optax.adam(0.01, eps=1e-3)])
@jax.numpy_dtype_promotion("standard")  # optax's Adam raises a float to an integer power
def test_it_is_the_optimizer_on_the_large_batch(opt):
    params, losses = rounds(data_parallel(opt, 3, 2), (3, 2, 4))

    @jax.jit
    def step(expected, state, i):
        batches = TASK.sample_batch(jax.random.key(i), "train", (3, 2, 4))
        batch = {"image": batches["image"].reshape(24, 2, 2, 1)}
        batch["label"] = batches["label"].reshape(24)
        loss, gradient = jax.value_and_grad(TASK.loss)(expected, jax.random.key(9), batch)
        updates, state = opt.update(gradient, state, expected)
        return optax.apply_updates(expected, updates), state, loss

    expected = TASK.init(jax.random.key(0))
    state = opt.init(expected)
    for i in range(4):
        expected, state, loss = step(expected, state, i)
        np.testing.assert_allclose(losses[i], np.full((3, 2), loss), rtol=1e-5)
    assert_close(params, expected)
