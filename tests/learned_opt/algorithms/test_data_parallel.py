"""Data-parallel training is one step on the batches of all workers and local steps."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from tests.noisy_toy import draw_batch, init, loss_fn, quiet_loss_fn

PARAMS = init(jax.random.key(0))
KEY = jax.random.key(9)
NUM_WORKERS = 3
NUM_ROUNDS = 4


def batches_of(num_steps):
    """Of every round: [K, H, B] examples."""
    return [draw_batch(jax.random.key(t), (NUM_WORKERS, num_steps, 4)) for t in range(NUM_ROUNDS)]


def train(algorithm, loss, batches):
    """Parameters after the last round, and the losses of every round."""
    algorithm = learned_opt.simulate(algorithm, NUM_WORKERS)
    one_round = jax.jit(lambda state, key, batch: algorithm.round(loss, state, key, batch))
    state, losses = algorithm.init(PARAMS), []
    for t, batch in enumerate(batches):
        state, info = one_round(state, jax.random.fold_in(KEY, t), batch)
        losses.append(info.losses)
    return algorithm.params(state), losses


def assert_close(first, second):
    chex.assert_trees_all_close(first, second, rtol=1e-5, atol=1e-6)


def test_one_local_step_is_local_sgd():
    batches = batches_of(1)
    synchronous, _ = train(learned_opt.data_parallel(optax.sgd(0.3)), quiet_loss_fn, batches)
    averaged, _ = train(learned_opt.local_sgd(optax.sgd(0.3), optax.sgd(1.0)), quiet_loss_fn, batches)
    assert_close(synchronous, averaged)


@pytest.mark.parametrize("opt", [optax.sgd(0.3), optax.adam(0.01, eps=1e-3)])
@jax.numpy_dtype_promotion("standard")  # optax's Adam raises a float to an integer power
def test_it_is_the_optimizer_on_the_examples_of_all_workers(opt):
    """Every worker has a key of its own, and the gradient is the mean over workers of those of their H B examples."""
    batches = batches_of(2)
    params, losses = train(learned_opt.data_parallel(opt), loss_fn, batches)
    value_and_grad = jax.jit(jax.value_and_grad(loss_fn))
    expected, state = PARAMS, opt.init(PARAMS)
    for t, batch in enumerate(batches):
        found = []
        for k in range(NUM_WORKERS):
            key = jax.random.fold_in(jax.random.fold_in(KEY, t), k)
            own = {name: x[k].reshape(8, *x.shape[3:]) for name, x in batch.items()}
            found.append(value_and_grad(expected, key, own))
        loss, gradient = jax.tree.map(lambda *x: sum(x) / NUM_WORKERS, *found)
        np.testing.assert_allclose(losses[t], np.full((NUM_WORKERS, 2), loss), rtol=1e-5)
        updates, state = opt.update(gradient, state, expected)
        expected = optax.apply_updates(expected, updates)
    assert_close(params, expected)


def test_the_optimizer_is_told_the_loss_and_workers_send_one_gradient():
    seen = optax.GradientTransformationExtraArgs(
        lambda params: jnp.float32(0),
        lambda updates, state, params=None, *, value=None, **extra: (updates, jnp.asarray(value)),
    )
    algorithm = learned_opt.data_parallel(seen)
    (batch,) = batches_of(2)[:1]
    driven = learned_opt.simulate(algorithm, NUM_WORKERS)
    state, info = driven.round(loss_fn, driven.init(PARAMS), KEY, batch)
    np.testing.assert_array_equal(state.shared.opt_state, info.losses[0, 0])
    assert algorithm.bytes_sent(PARAMS) == 4 * 4
