"""Workers spread over devices train as vmapped workers do."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.worker_mesh import WORKERS, make_worker_mesh, shard_round

NUM_WORKERS = 8
NUM_ROUNDS = 2
KEY = jax.random.key(0)
PARAMS = {"w": np.asarray([0.5, -1.0, 0.1], np.float32), "b": np.ones(3, np.float32)}


def regression_loss(params, key, batch):
    noise = 0.1 * jax.random.normal(key, batch["y"].shape)
    prediction = jnp.tanh(batch["x"] @ params["w"] + jnp.sum(params["b"]))
    return jnp.mean(jnp.square(prediction - batch["y"] - noise))


def linear_loss(params, key, batch):
    """Its gradient is the batch itself: no layout can round it differently."""
    del key
    return jnp.sum(params["w"] * batch["x"][0]) + jnp.sum(params["b"] * batch["x"][1])


def draw_batches():
    rng = np.random.default_rng(0)
    shape = (NUM_ROUNDS, NUM_WORKERS, 2, 4)
    return {
        "x": rng.normal(size=(*shape, 3)).astype(np.float32),
        "y": rng.normal(size=shape).astype(np.float32),
    }


def train(algorithm, one_round):
    state, losses = algorithm.init(PARAMS), []
    step = jax.jit(one_round)
    for t in range(NUM_ROUNDS):
        batches = jax.tree.map(lambda x, t=t: x[t], draw_batches())
        state, info = step(state, jax.random.fold_in(KEY, t), batches)
        losses.append(info.losses)
    return jax.tree.map(np.asarray, (state, losses))


@functools.cache
def learned_server():
    lopt = learned_opt.lagg_a(num_workers=NUM_WORKERS, hidden_size=4, nominal="average")
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(lopt.init, KEY)
    theta = jax.tree.map(lambda x: 0.1 * rng.normal(size=x.shape).astype(np.float32), shapes)
    return lopt.transform(theta)


def run_both(local_opt, server_opt, loss, num_devices):
    build = functools.partial(local_sgd, local_opt, server_opt, NUM_WORKERS, 2)
    plain, spread = build(), build(axis_name=WORKERS)
    mesh = make_worker_mesh(num_devices)
    expected = train(plain, functools.partial(plain.round, loss))
    return train(spread, shard_round(spread, loss, mesh)), expected


@pytest.mark.parametrize("num_devices", [1, 2, 4, 8])
def test_averaging_adds_in_the_same_order_on_every_layout(num_devices):
    # Learning rate and batches are exact in float32 products; the sum over workers is not, and any
    # other order of its terms shows in the last bits.
    found, expected = run_both(optax.sgd(0.5), optax.sgd(0.7, 0.9, nesterov=True), linear_loss, num_devices)
    chex.assert_trees_all_equal(found[0], expected[0])


def test_learned_server_on_a_real_loss():
    found, expected = run_both(optax.sgd(0.1, 0.9), learned_server(), regression_loss, 4)
    # Kernels for another number of workers per device may round the last bits of a gradient
    # differently; the learned step passes that on without amplifying it much.
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-5)


def test_local_state_is_split_and_the_rest_replicated():
    algorithm = local_sgd(optax.sgd(0.1, 0.9), optax.sgd(0.1, 0.9), NUM_WORKERS, 2, axis_name=WORKERS)
    mesh = make_worker_mesh(4)
    batches = jax.tree.map(lambda x: x[0], draw_batches())
    state, info = jax.jit(shard_round(algorithm, regression_loss, mesh))(algorithm.init(PARAMS), KEY, batches)
    assert info.losses.shape == (NUM_WORKERS, 2)
    for leaf in jax.tree.leaves((state.params, state.server_state)):
        assert leaf.sharding.is_fully_replicated
    for leaf in jax.tree.leaves(state.local_state):
        assert leaf.shape[0] == NUM_WORKERS
        assert leaf.addressable_shards[0].data.shape[0] == NUM_WORKERS // 4


def test_workers_that_devices_do_not_divide_are_an_error():
    algorithm = local_sgd(optax.sgd(0.1), optax.sgd(1.0), 6, 2, axis_name=WORKERS)
    batches = jax.tree.map(lambda x: x[0, :6], draw_batches())
    one_round = shard_round(algorithm, regression_loss, make_worker_mesh(4))
    with pytest.raises(ValueError, match="6"):
        one_round(algorithm.init(PARAMS), KEY, batches)


@pytest.mark.parametrize("num_devices", [0, 9])
def test_impossible_meshes_are_an_error(num_devices):
    with pytest.raises(ValueError, match=f"num_devices={num_devices}"):
        make_worker_mesh(num_devices)
