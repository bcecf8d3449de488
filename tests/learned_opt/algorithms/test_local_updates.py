"""Local updates in a loop of the caller's: equal to data-parallel training at H = 1, to `local_sgd` at any H."""

from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

import learned_opt
from learned_opt.algorithms.flax_train_state import LossTrainState
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.round import WORKERS, simulate
from learned_opt.algorithms.server import diloco
from learned_opt.algorithms.worker_mesh import make_worker_mesh

NUM_WORKERS = 4
PARAMS = {"w": np.asarray([0.5, -1.0, 0.1], np.float32), "b": np.float32(0.25)}


def loss_fn(params, batch):
    return jnp.mean(jnp.square(jnp.tanh(batch["x"] @ params["w"] + params["b"]) - batch["y"]))


def draw(num_steps, seed=0):
    """Leaves [steps, workers, examples, ...]."""
    rng = np.random.default_rng(seed)
    shape = (num_steps, NUM_WORKERS, 8)
    return {"x": rng.normal(size=(*shape, 3)).astype(np.float32), "y": rng.normal(size=shape).astype(np.float32)}


def stacked(tree):
    return jax.tree.map(lambda x: jnp.stack([x] * NUM_WORKERS), tree)


def train(tx, num_steps, layout="vmap", start=None, batches=None):
    """Every worker's parameters and state, leading axis [workers], after the steps."""

    def worker_step(params, state, batch):
        loss, gradient = jax.value_and_grad(loss_fn)(params, batch)
        updates, state = tx.update(gradient, state, params, value=loss)
        return optax.apply_updates(params, updates), state

    if layout == "vmap":
        step = jax.vmap(worker_step, axis_name=WORKERS)
    else:

        def on_device(*arguments):
            results = worker_step(*jax.tree.map(lambda x: x[0], arguments))
            return jax.tree.map(lambda x: x[None], results)

        split = PartitionSpec(WORKERS)
        mesh = make_worker_mesh(NUM_WORKERS)
        step = jax.shard_map(on_device, mesh=mesh, in_specs=split, out_specs=split, check_vma=False)
    step = jax.jit(step)
    params, state = start or stacked((PARAMS, tx.init(PARAMS)))
    batches = draw(num_steps) if batches is None else batches
    for t in range(num_steps):
        params, state = step(params, state, jax.tree.map(lambda x, t=t: x[t], batches))
    return params, state


def worker(tree, k):
    return jax.tree.map(lambda x: np.asarray(x[k]), tree)


@pytest.mark.parametrize("layout", ["vmap", "shard_map"])
def test_one_local_step_and_plain_averaging_are_data_parallel_training_bit_for_bit(layout):
    """The learning rate is a power of two, so that scaling before or after the mean rounds alike."""
    local_opt = optax.sgd(0.125)
    tx = learned_opt.local_updates(local_opt, optax.sgd(1.0), num_local_steps=1, axis_name=WORKERS)
    params, _ = train(tx, 5, layout)

    def average_then_step(updates, state, params=None, **extra):
        del extra
        mean = jax.tree.map(lambda g: jnp.mean(jax.lax.all_gather(g, WORKERS), axis=0), updates)
        return local_opt.update(mean, state, params)

    # Laid out alike, so that both have the gradients of one program.
    data_parallel = optax.GradientTransformationExtraArgs(local_opt.init, average_then_step)
    expected, _ = train(data_parallel, 5, layout)
    chex.assert_trees_all_equal(params, expected)
    assert not np.array_equal(worker(params, 0)["w"], PARAMS["w"])


@pytest.mark.parametrize("layout", ["vmap", "shard_map"])
@pytest.mark.parametrize("server", ["average", "diloco", "lagg_a", "gatherless"])
def test_agrees_with_local_sgd(layout, server):
    num_local_steps, num_rounds = 3, 4
    if server == "lagg_a":
        lopt = learned_opt.lagg_a(num_workers=NUM_WORKERS, hidden_size=4, nominal="average")
        rng = np.random.default_rng(1)
        shapes = jax.eval_shape(lopt.init, jax.random.key(0))
        server_opt = lopt.transform(jax.tree.map(lambda x: 0.1 * rng.normal(size=x.shape).astype(np.float32), shapes))
    else:
        server_opt = {"average": optax.sgd(1.0), "diloco": diloco(0.7, 0.9), "gatherless": diloco(0.7, 0.9)}[server]
    local_opt = optax.sgd(0.3, momentum=0.5)
    tx = learned_opt.local_updates(local_opt, server_opt, num_local_steps, WORKERS, gather=server != "gatherless")
    params, state = train(tx, num_local_steps * num_rounds, layout)

    algorithm = simulate(local_sgd(local_opt, server_opt), NUM_WORKERS)
    one_round = jax.jit(lambda s, b: algorithm.round(lambda p, key, b: loss_fn(p, b), s, jax.random.key(0), b))
    expected = algorithm.init(PARAMS)
    batches = jax.tree.map(
        lambda x: np.swapaxes(x.reshape(num_rounds, num_local_steps, *x.shape[1:]), 1, 2),
        draw(num_local_steps * num_rounds),
    )
    for t in range(num_rounds):
        expected, _ = one_round(expected, jax.tree.map(lambda x, t=t: x[t], batches))
    for k in range(NUM_WORKERS):
        chex.assert_trees_all_close(worker(params, k), algorithm.params(expected), rtol=2e-5, atol=1e-6)
        chex.assert_trees_all_equal(worker(state.global_params, k), worker(state.global_params, 0))
        # A unit in the last place of the largest parameter, before or after.
        chex.assert_trees_all_close(worker(params, k), worker(state.global_params, k), rtol=0, atol=2**-23)
    np.testing.assert_array_equal(state.local_step, 0)


def test_workers_differ_within_a_round_and_a_restart_there_loses_nothing():
    tx = learned_opt.local_updates(optax.sgd(0.3), optax.sgd(1.0), 3, WORKERS)
    batches = draw(6)
    whole = train(tx, 6, batches=batches)
    half = jax.device_get(train(tx, 4, batches=batches))
    assert not np.array_equal(half[0]["w"][0], half[0]["w"][1])
    np.testing.assert_array_equal(half[1].local_step, 1)
    rest = train(tx, 2, start=half, batches=jax.tree.map(lambda x: x[4:], batches))
    chex.assert_trees_all_equal(jax.device_get(rest), jax.device_get(whole))


def test_a_single_worker_is_lookahead():
    """K = 1 with server SGD of learning rate a: slow weights move a share a of the way (Zhang et al., 1907.08610)."""
    tx = learned_opt.local_updates(optax.sgd(0.3), optax.sgd(0.5), num_local_steps=2)
    params, state = PARAMS, tx.init(PARAMS)
    fast = slow = PARAMS
    batches = draw(6)
    for t in range(6):
        batch = jax.tree.map(lambda x, t=t: x[t, 0], batches)
        updates, state = tx.update(jax.grad(loss_fn)(params, batch), state, params)
        params = optax.apply_updates(params, updates)
        fast = jax.tree.map(lambda p, g: p - 0.3 * g, fast, jax.grad(loss_fn)(fast, batch))
        if t % 2:
            fast = slow = jax.tree.map(lambda s, f: s + 0.5 * (f - s), slow, fast)
    chex.assert_trees_all_close(params, fast, rtol=1e-5)


def test_the_server_sees_the_mean_loss_of_workers_and_steps_of_its_own_round():
    seen = []

    def update(updates, state, params, *, value, worker_updates, **extra):
        seen.append((value.shape, worker_updates["w"].shape))
        return jax.tree.map(jnp.negative, updates), value

    server = optax.GradientTransformationExtraArgs(lambda params: jnp.float32(0), update)  # pyright: ignore[reportArgumentType]
    batches = draw(4)
    tx = learned_opt.local_updates(optax.sgd(0.0), server, 2, WORKERS)
    state = None
    for first in (0, 2):
        both = jax.tree.map(lambda x, t=first: x[t : t + 2], batches)
        state = train(tx, 2, start=state, batches=both)
        losses = [loss_fn(PARAMS, jax.tree.map(lambda x, t=t, k=k: x[t, k], both)) for t in range(2) for k in range(4)]
        np.testing.assert_allclose(state[1].server_state, np.mean(losses), rtol=1e-6)
    assert set(seen) == {((), (NUM_WORKERS, 3))}


def test_the_server_is_given_no_loss_by_a_caller_who_has_none():
    given = []

    def update(updates, state, params=None, **extra):
        del params
        given.append("value" in extra)
        return updates, state

    tx = learned_opt.local_updates(
        optax.sgd(0.1), optax.GradientTransformationExtraArgs(lambda params: (), update), num_local_steps=1
    )
    state = tx.init(PARAMS)
    for value in ({"value": 1.0}, {}):
        _, state = tx.update(PARAMS, state, PARAMS, **value)
    assert given == [True, False]


def test_rates_of_the_server_and_uploads_as_in_local_sgd():
    class State(NamedTuple):
        local_rates: dict

    def update(updates, state, params=None, **extra):
        del params, extra
        halved = jax.tree.map(lambda rate: rate / 2, state.local_rates)
        return jax.tree.map(jnp.negative, updates), State(halved)

    server = optax.GradientTransformationExtraArgs(
        lambda params: State(jax.tree.map(lambda p: jnp.float32(1), params)), update
    )
    batches, upload = draw(4), optax.scale(0.5)
    tx = learned_opt.local_updates(optax.sgd(0.25), server, 2, WORKERS, upload=upload)
    _, state = train(tx, 4, batches=batches)
    algorithm = simulate(local_sgd(optax.sgd(0.25), server, upload), NUM_WORKERS)
    expected = algorithm.init(PARAMS)
    for first in (0, 2):
        of_round = jax.tree.map(lambda x, t=first: np.swapaxes(x[t : t + 2], 0, 1), batches)
        expected, _ = algorithm.round(lambda p, key, b: loss_fn(p, b), expected, jax.random.key(0), of_round)
    chex.assert_trees_all_close(worker(state.global_params, 0), algorithm.params(expected), rtol=2e-5, atol=1e-6)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(nn.tanh(nn.Dense(4)(x)))[..., 0]


@pytest.mark.parametrize("num_local_steps", [1, 2])
def test_flax_train_state_passes_the_loss(num_local_steps):
    model, batch = Net(), jax.tree.map(lambda x: x[0, 0], draw(1))
    received = []

    def update(updates, state, params=None, *, value=None, **extra):
        received.append(value)
        return jax.tree.map(lambda g: -0.1 * g, updates), state

    probe = optax.GradientTransformationExtraArgs(lambda params: (), update)
    tx = learned_opt.local_updates(probe, optax.sgd(1.0), num_local_steps)
    params = model.init(jax.random.key(0), batch["x"])["params"]
    state = LossTrainState.create(apply_fn=model.apply, params=params, tx=tx)

    @jax.jit
    def step(state):
        loss, grads = jax.value_and_grad(
            lambda p: jnp.mean((state.apply_fn({"params": p}, batch["x"]) - batch["y"]) ** 2)
        )(state.params)
        return state.apply_gradients(grads=grads, value=loss), loss

    state, first = step(state)
    for _ in range(20):
        state, loss = step(state)
    assert loss < first and received[0] is not None and int(state.step) == 21
    # An optimizer that takes no loss is not given one.
    plain = LossTrainState.create(apply_fn=model.apply, params=params, tx=optax.sgd(0.1))
    plain = plain.apply_gradients(grads=params, value=1.0)
    chex.assert_trees_all_close(plain.params, jax.tree.map(lambda p: p - 0.1 * p, params))


def test_nnx_optimizer_takes_it_as_it_is():
    batch = jax.tree.map(lambda x: x[0, 0], draw(1))
    model = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
    tx = learned_opt.local_updates(optax.sgd(0.1), optax.sgd(1.0), num_local_steps=2)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    losses = []
    for _ in range(10):
        loss, grads = nnx.value_and_grad(lambda m: jnp.mean((m(batch["x"])[:, 0] - batch["y"]) ** 2))(model)
        optimizer.update(model, grads, value=loss)
        losses.append(float(loss))
    assert losses[-1] < losses[0]


def test_odd_arguments_are_named():
    with pytest.raises(ValueError, match="num_local_steps=0"):
        learned_opt.local_updates(optax.sgd(1.0), optax.sgd(1.0), 0)
    tx = learned_opt.local_updates(optax.sgd(1.0), optax.sgd(1.0), 1)
    with pytest.raises(ValueError, match="needs the parameters"):
        tx.update(PARAMS, tx.init(PARAMS))
