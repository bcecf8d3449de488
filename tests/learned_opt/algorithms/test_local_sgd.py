"""Local SGD against what it must equal: plain training, large batches, averaging, a slow loop."""

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.measured import measured
from learned_opt.algorithms.round import simulate

PARAMS = {"w": np.asarray([0.5, -1.0, 0.1], np.float32), "b": np.float32(0.2)}
KEY = jax.random.key(0)
NUM_ROUNDS = 4
# optax.adam mixes integer and float under strict dtype promotion; this has its per-worker state.
RMSPROP = optax.rmsprop(0.02, momentum=0.9)


def loss_fn(params, key, batch):
    """Mean squared error with noise from the key, so that a reused or lost key shows."""
    noise = 0.1 * jax.random.normal(key, batch["y"].shape)
    error = batch["x"] @ params["w"] + params["b"] - batch["y"] - noise
    return jnp.mean(jnp.square(error))


def keyless_loss_fn(params, key, batch):
    del key
    return jnp.mean(jnp.square(batch["x"] @ params["w"] + params["b"] - batch["y"]))


def draw_batches(num_workers, num_local_steps, batch_size=4, seed=0):
    """Batches of every round, leaves [rounds, K, H, B, ...]."""
    rng = np.random.default_rng(seed)
    shape = (NUM_ROUNDS, num_workers, num_local_steps, batch_size)
    return {
        "x": rng.normal(size=(*shape, 3)).astype(np.float32),
        "y": rng.normal(size=shape).astype(np.float32),
    }


def at(tree, *index):
    return jax.tree.map(lambda x: x[index], tree)


def train(algorithm, batches, loss=loss_fn):
    """Parameters after every round, and the losses of every round."""
    one_round = jax.jit(functools.partial(algorithm.round, loss))
    state, params, losses = algorithm.init(PARAMS), [], []
    for t in range(NUM_ROUNDS):
        state, info = one_round(state, jax.random.fold_in(KEY, t), at(batches, t))
        params.append(algorithm.params(state))
        losses.append(info.losses)
    return params, losses


def assert_close(found, expected):
    # A dozen float32 operations a round, in an order that fusion may change.
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-6)


def python_loop(local_opt, server_opt, num_workers, num_local_steps, batches, loss=loss_fn):
    """Local SGD as the paper writes it, one worker and one step after the other."""
    local_opt, server_opt = map(optax.with_extra_args_support, (local_opt, server_opt))
    grad = jax.jit(jax.value_and_grad(loss))
    params, server_state = PARAMS, server_opt.init(PARAMS)
    local_states = [local_opt.init(PARAMS) for _ in range(num_workers)]
    history, all_losses = [], []
    for t in range(NUM_ROUNDS):
        deltas, losses = [], np.zeros((num_workers, num_local_steps), np.float32)
        for k in range(num_workers):
            worker_key = jax.random.fold_in(jax.random.fold_in(KEY, t), k)
            local = params
            for h in range(num_local_steps):
                batch = at(batches, t, k, h)
                losses[k, h], g = grad(local, jax.random.fold_in(worker_key, h), batch)
                step, local_states[k] = local_opt.update(g, local_states[k], local, value=jnp.asarray(losses[k, h]))
                local = optax.apply_updates(local, step)
            deltas.append(jax.tree.map(lambda before, after: before - after, params, local))
        workers = jax.tree.map(lambda *x: jnp.stack(x), *deltas)
        mean = jax.tree.map(lambda x: sum(x[k] for k in range(num_workers)) / num_workers, workers)
        step, server_state = server_opt.update(
            mean, server_state, params, worker_updates=workers, value=jnp.mean(losses)
        )
        params = optax.apply_updates(params, step)
        history.append(params)
        all_losses.append(losses)
    return history, all_losses


def spy():
    """A server that steps by functions of everything it is given."""

    def update(updates, state, params=None, *, worker_updates=None, value=0.0, **extra):
        del extra
        step = jax.tree.map(
            lambda u, w, p: -u + 0.1 * jnp.max(w, axis=0) - 0.3 * w[0] + 0.01 * value * p,
            updates,
            worker_updates,
            params,
        )
        return step, state + 1

    return optax.GradientTransformationExtraArgs(lambda params: jnp.int32(0), update)


@pytest.mark.parametrize("server_opt", [optax.sgd(0.7, 0.9, nesterov=True), spy()])
@pytest.mark.parametrize("local_opt", [optax.sgd(0.1), RMSPROP])
def test_vmapped_workers_equal_a_python_loop(local_opt, server_opt):
    batches = draw_batches(3, 2)
    found = train(simulate(local_sgd(local_opt, server_opt), 3), batches)
    assert_close(found, python_loop(local_opt, server_opt, 3, 2, batches))


@pytest.mark.parametrize("local_opt", [optax.sgd(0.1, 0.9), RMSPROP])
def test_one_worker_one_step_is_the_local_optimizer(local_opt):
    batches = draw_batches(1, 1)
    found, _ = train(simulate(local_sgd(local_opt, optax.sgd(1.0)), 1), batches, keyless_loss_fn)
    params, state = PARAMS, local_opt.init(PARAMS)
    for t in range(NUM_ROUNDS):
        gradient = jax.grad(keyless_loss_fn)(params, KEY, at(batches, t, 0, 0))
        step, state = local_opt.update(gradient, state, params)
        params = optax.apply_updates(params, step)
        assert_close(found[t], params)


def test_one_worker_one_step_of_sgd_1_is_the_server_optimizer():
    # x - (x - 1 * g) is g: the server optimizer then sees plain gradients.
    batches = draw_batches(1, 1)
    server = RMSPROP
    found, _ = train(simulate(local_sgd(optax.sgd(1.0), server), 1), batches, keyless_loss_fn)
    params, state = PARAMS, server.init(PARAMS)
    for t in range(NUM_ROUNDS):
        gradient = jax.grad(keyless_loss_fn)(params, KEY, at(batches, t, 0, 0))
        step, state = server.update(gradient, state, params)
        params = optax.apply_updates(params, step)
        assert_close(found[t], params)


def test_one_local_step_of_sgd_is_large_batch_sgd():
    batches = draw_batches(4, 1)
    found, _ = train(simulate(local_sgd(optax.sgd(0.1), optax.sgd(1.0)), 4), batches, keyless_loss_fn)
    params = PARAMS
    for t in range(NUM_ROUNDS):
        whole = jax.tree.map(lambda x, t=t: x[t].reshape(16, *x.shape[4:]), batches)
        gradient = jax.grad(keyless_loss_fn)(params, KEY, whole)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
        assert_close(found[t], params)


def test_server_sgd_1_is_parameter_averaging():
    batches = draw_batches(3, 2)
    averaging = simulate(local_sgd(optax.sgd(0.1), optax.sgd(1.0)), 3)
    found, _ = train(averaging, batches, keyless_loss_fn)
    params = PARAMS
    gradient = jax.jit(jax.grad(keyless_loss_fn))
    for t in range(NUM_ROUNDS):
        ends = []
        for k in range(3):
            local = params
            for h in range(2):
                g = gradient(local, KEY, at(batches, t, k, h))
                local = jax.tree.map(lambda p, g: p - 0.1 * g, local, g)
            ends.append(local)
        params = jax.tree.map(lambda *x: sum(x) / 3, *ends)
        assert_close(found[t], params)


def test_losses_are_taken_before_each_local_step():
    batches = draw_batches(2, 3)
    _, losses = train(simulate(local_sgd(optax.sgd(0.1), optax.sgd(1.0)), 2), batches, keyless_loss_fn)
    assert losses[0].shape == (2, 3)
    for k in range(2):
        at_start = keyless_loss_fn(PARAMS, KEY, at(batches, 0, k, 0))
        np.testing.assert_allclose(losses[0][k, 0], at_start, rtol=1e-5)


def test_local_optimizer_state_stays_on_its_worker():
    algorithm = simulate(local_sgd(optax.sgd(0.1, 0.9), optax.sgd(1.0)), 2)
    batches = draw_batches(2, 1)
    state, _ = jax.jit(functools.partial(algorithm.round, loss_fn))(algorithm.init(PARAMS), KEY, at(batches, 0))
    momentum = state.worker.local_state[0].trace["w"]
    gradient = jax.grad(loss_fn)
    for k in range(2):
        key = jax.random.fold_in(jax.random.fold_in(KEY, k), 0)
        assert_close(momentum[k], gradient(PARAMS, key, at(batches, 0, k, 0))["w"])


@pytest.mark.parametrize("nominal", ["average", "momentum"])
def test_untrained_learned_server_is_local_sgd_or_diloco(nominal):
    lopt = learned_opt.lagg_a(num_workers=2, hidden_size=4, nominal=nominal)
    shapes = jax.eval_shape(lopt.init, KEY)
    # The last layer of an untrained network is 0; the others are not, and must not matter.
    theta = jax.tree.map(lambda x: 0.1 * jnp.ones(x.shape, x.dtype), shapes)
    theta["mlp"] |= {k: jnp.zeros_like(theta["mlp"][k]) for k in ("w2", "b2")}
    hand_made = optax.sgd(1.0) if nominal == "average" else optax.sgd(0.7, 0.9, nesterov=True)
    batches = draw_batches(2, 2)
    local = optax.sgd(0.1)
    found = train(simulate(local_sgd(local, lopt.transform(theta)), 2), batches)
    expected = train(simulate(local_sgd(local, hand_made), 2), batches)
    if nominal == "average":
        chex.assert_trees_all_equal(found, expected)
    else:
        # The updates are equal bits (test_reference). Here the compiler may multiply and add them
        # to the parameters in one rounding, and does so for the hand-made step alone.
        chex.assert_trees_all_close(found, expected, rtol=1e-6, atol=1e-7)


def test_vmap_over_tasks_and_traced_hyperparameters():
    batches = draw_batches(2, 2)
    rates = jnp.asarray([0.05, 0.1])

    def final(rate, shift):
        algorithm = simulate(local_sgd(optax.sgd(rate), optax.sgd(1.0)), 2)
        state = algorithm.init(jax.tree.map(lambda p: p + shift, PARAMS))
        step = functools.partial(algorithm.round, loss_fn)
        state, _ = jax.lax.scan(lambda s, b: step(s, KEY, b), state, batches)
        return algorithm.params(state)

    shifts = jnp.asarray([0.0, 0.5])
    found = jax.jit(jax.vmap(final))(rates, shifts)
    one = jax.jit(final)
    for i in range(2):
        assert_close(at(found, i), one(rates[i], shifts[i]))


def test_local_transforms_see_the_anchor_a_key_of_their_own_and_the_gradient_function():
    seen = []

    def update(updates, state, params=None, *, value=None, anchor=None, key=None, grad_fn=None, **extra):
        del extra
        del state
        seen.append(jax.tree.structure(anchor))
        assert grad_fn is not None and key is not None
        again = grad_fn(params)
        error = jax.tree.map(lambda a, b: jnp.max(jnp.abs(a - b)), again, updates)
        draws = jax.random.uniform(key)
        away = jnp.sqrt(
            sum(jnp.sum(jnp.square(p - a)) for p, a in zip(*map(jax.tree.leaves, (params, anchor)), strict=True))
        )
        return jax.tree.map(lambda g: -0.1 * g, updates), (value, away, draws, jnp.maximum(error["w"], error["b"]))

    probe = optax.GradientTransformationExtraArgs(lambda params: (jnp.float32(0),) * 4, update)  # pyright: ignore
    batches = draw_batches(2, 2)
    draws, distances = [], []
    for steps in (1, 2):
        algorithm = simulate(local_sgd(probe, optax.sgd(1.0)), 2)
        first = jax.tree.map(lambda x, h=steps: x[0, :, :h], batches)
        state, info = jax.jit(functools.partial(algorithm.round, loss_fn))(algorithm.init(PARAMS), KEY, first)
        value, away, draw, error = state.worker.local_state
        np.testing.assert_allclose(value, info.losses[:, -1])
        np.testing.assert_allclose(error, 0, atol=1e-6)
        draws.append(draw)
        distances.append(away)
    np.testing.assert_array_equal(distances[0], 0)
    assert np.all(distances[1] > 0)
    # Workers, and steps of a worker, draw differently.
    assert len({float(x) for draw in draws for x in draw}) == 4
    assert seen[0] == jax.tree.structure(PARAMS)


def test_a_server_sets_the_rates_of_the_workers():
    """The first round runs at the initial rates, the second at what the server found in the first."""

    class State(NamedTuple):
        local_rates: dict

    def init(params):
        return State(jax.tree.map(lambda p: jnp.float32(1), params))

    def update(updates, state, params=None, **extra):
        del state, params, extra
        return jax.tree.map(jnp.negative, updates), State({"w": jnp.float32(0.5), "b": jnp.float32(0)})

    server = optax.chain(optax.identity(), optax.GradientTransformationExtraArgs(init, update))
    algorithm = simulate(local_sgd(optax.sgd(0.1), server), 2)
    params, _ = train(algorithm, draw_batches(2, 2))
    plain, _ = train(simulate(local_sgd(optax.sgd(0.1), optax.sgd(1.0)), 2), draw_batches(2, 2))
    assert_close(params[0], plain[0])
    np.testing.assert_array_equal(params[1]["b"], params[0]["b"])
    only_w = optax.masked(optax.set_to_zero(), {"w": False, "b": True})
    by_hand = simulate(local_sgd(optax.chain(only_w, optax.sgd(0.05)), optax.sgd(1.0)), 2)
    state = by_hand.init(params[0])
    state, _ = jax.jit(functools.partial(by_hand.round, loss_fn))(
        state, jax.random.fold_in(KEY, 1), at(draw_batches(2, 2), 1)
    )
    assert_close(params[1], by_hand.params(state))


def test_uploads_act_on_each_worker_and_keep_their_own_state():
    """Error feedback by hand: a worker sends the sign of what it owes times 0.1, and keeps the rest."""

    def update(updates, state, params=None, *, key):
        del params
        owed = jax.tree.map(jnp.add, updates, state["owed"])
        sent = jax.tree.map(lambda x: 0.1 * jnp.sign(x), owed)
        return sent, {"owed": jax.tree.map(jnp.subtract, owed, sent), "drawn": jax.random.uniform(key)}

    def init(params):
        return {"owed": jax.tree.map(jnp.zeros_like, params), "drawn": jnp.float32(0)}

    upload = optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]
    batches = draw_batches(2, 1)
    algorithm = simulate(local_sgd(optax.sgd(0.1), optax.sgd(1.0), upload), 2)
    state = algorithm.init(PARAMS)
    owed, params = [jax.tree.map(np.zeros_like, PARAMS)] * 2, PARAMS
    step = jax.jit(functools.partial(algorithm.round, keyless_loss_fn))
    for t in range(NUM_ROUNDS):
        state, _ = step(state, KEY, at(batches, t))
        sent = []
        for k in range(2):
            gradient = jax.grad(keyless_loss_fn)(params, KEY, at(batches, t, k, 0))
            total = jax.tree.map(lambda g, e: 0.1 * g + e, gradient, owed[k])
            sent.append(jax.tree.map(lambda x: 0.1 * np.sign(x), total))
            owed[k] = jax.tree.map(lambda a, b: a - b, total, sent[k])
        params = jax.tree.map(lambda p, a, b: p - (a + b) / 2, params, *sent)
        assert_close(algorithm.params(state), params)
    drawn = state.worker.upload_state["drawn"]
    assert drawn[0] != drawn[1]


def test_measurements_travel_in_the_information_of_the_round():
    def apart(sent):
        return {"apart": jnp.max(jnp.abs(sent["w"][0] - sent["w"][1]))}

    whole = simulate(measured(local_sgd(optax.sgd(0.1), optax.sgd(1.0)), apart), 2)
    _, info = whole.round(loss_fn, whole.init(PARAMS), KEY, at(draw_batches(2, 1), 0))
    assert info.diagnostics["apart"].shape == () and info.diagnostics["apart"] > 0


def test_bytes_of_a_round():
    assert local_sgd(optax.sgd(0.1), optax.sgd(1.0)).bytes_sent(PARAMS) == 16
    assert local_sgd(optax.sgd(0.1), optax.sgd(1.0), bytes_sent=lambda params: 3).bytes_sent(PARAMS) == 3
