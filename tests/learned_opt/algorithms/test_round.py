"""Workers spread over devices, or in an axis of the user's, train as vmapped workers do."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.round import WORKERS, dense_bytes, simulate, spread, worker_index
from learned_opt.algorithms.worker_mesh import make_worker_mesh
from learned_opt.base import LocalAlgorithm, RoundInfo, RoundState

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


def train(algorithm, loss):
    state, losses = algorithm.init(PARAMS), []
    step = jax.jit(functools.partial(algorithm.round, loss))
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
    algorithm = local_sgd(local_opt, server_opt)
    expected = train(simulate(algorithm, NUM_WORKERS), loss)
    return train(spread(algorithm, NUM_WORKERS, make_worker_mesh(num_devices)), loss), expected


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


def test_what_is_shared_is_replicated_and_the_rest_split():
    algorithm = spread(local_sgd(optax.sgd(0.1, 0.9), optax.sgd(0.1, 0.9)), NUM_WORKERS, make_worker_mesh(4))
    batches = jax.tree.map(lambda x: x[0], draw_batches())
    step = jax.jit(functools.partial(algorithm.round, regression_loss))
    state, info = step(algorithm.init(PARAMS), KEY, batches)
    assert info.losses.shape == (NUM_WORKERS, 2)
    for leaf in jax.tree.leaves(state.shared):
        assert leaf.sharding.is_fully_replicated
    for leaf in jax.tree.leaves(state.worker):
        assert leaf.shape[0] == NUM_WORKERS
        assert leaf.addressable_shards[0].data.shape[0] == NUM_WORKERS // 4


@pytest.mark.parametrize("own_axis", ["vmap", "shard_map"])
def test_the_same_round_in_a_named_axis_of_the_user(own_axis):
    """One worker for every member of an axis "workers" that is not ours."""
    algorithm = local_sgd(optax.sgd(0.5), optax.sgd(0.7, 0.9, nesterov=True))
    whole = simulate(algorithm, NUM_WORKERS)
    batches = jax.tree.map(lambda x: x[0], draw_batches())
    expected, _ = jax.jit(functools.partial(whole.round, linear_loss))(whole.init(PARAMS), KEY, batches)

    def of_one_worker(batches):
        state, _ = algorithm.round(linear_loss, algorithm.init(PARAMS), KEY, batches)
        return algorithm.params(state)

    if own_axis == "vmap":
        found = jax.jit(jax.vmap(of_one_worker, axis_name=WORKERS))(batches)
    else:
        split = jax.P(WORKERS)

        def on_device(batches):
            own = of_one_worker(jax.tree.map(lambda x: x[0], batches))
            return jax.tree.map(lambda x: x[None], own)

        mapped = jax.shard_map(on_device, mesh=make_worker_mesh(), in_specs=split, out_specs=split, check_vma=False)
        found = jax.jit(mapped)(batches)
    for k in range(NUM_WORKERS):
        chex.assert_trees_all_equal(jax.tree.map(lambda x, k=k: x[k], found), whole.params(expected))


def test_state_that_differs_between_workers_cannot_be_called_shared():
    def init(params):
        return RoundState(params, ())

    def round_fn(loss_fn, state, key, batches):
        del loss_fn, key, batches
        params = jax.tree.map(lambda p: p + worker_index().astype(p.dtype), state.shared)
        return RoundState(params, ()), RoundInfo(jnp.zeros(2), {})

    algorithm = simulate(LocalAlgorithm(init, round_fn, lambda state: state.shared, dense_bytes), NUM_WORKERS)
    with pytest.raises(ValueError, match="out_axes"):
        algorithm.round(linear_loss, algorithm.init(PARAMS), KEY, jax.tree.map(lambda x: x[0], draw_batches()))


@pytest.mark.parametrize("num_workers", [0, -2])
def test_impossible_numbers_of_workers_are_named(num_workers):
    algorithm = local_sgd(optax.sgd(0.1), optax.sgd(1.0))
    for build in (simulate, functools.partial(spread, mesh=make_worker_mesh(1))):
        with pytest.raises(ValueError, match=f"num_workers={num_workers}: use "):
            build(algorithm, num_workers)


def test_workers_that_devices_do_not_divide_are_an_error():
    with pytest.raises(ValueError, match="num_workers=6: use a positive multiple of the mesh's 4 devices"):
        spread(local_sgd(optax.sgd(0.1), optax.sgd(1.0)), 6, make_worker_mesh(4))


@pytest.mark.parametrize("build", [simulate, functools.partial(spread, mesh=make_worker_mesh(1))])
def test_batches_of_another_number_of_workers_are_an_error(build):
    algorithm = build(local_sgd(optax.sgd(0.1), optax.sgd(1.0)), 3)
    batches = jax.tree.map(lambda x: x[0], draw_batches())
    with pytest.raises(ValueError, match=r"\(8, 2, 4, 3\), expected \[workers, local steps, batch.*3 workers"):
        algorithm.round(regression_loss, algorithm.init(PARAMS), KEY, batches)


@pytest.mark.parametrize("num_devices", [0, 9])
def test_impossible_meshes_are_an_error(num_devices):
    with pytest.raises(ValueError, match=f"num_devices={num_devices}"):
        make_worker_mesh(num_devices)
