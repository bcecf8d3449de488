"""The rule against a slow loop, and what it promises: rates for the workers, no step from broken rounds."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.algorithms.auto_diloco import HIGHEST_LOG_RATE, LOWEST_LOG_RATE, auto_diloco, cosine_of, is_cosine
from learned_opt.algorithms.local_sgd import Shared, local_sgd
from learned_opt.algorithms.round import local_rates, simulate
from learned_opt.algorithms.server import diloco

PARAMS = {"w": np.asarray([[0.5, -1.0], [0.1, 2.0]], np.float32), "b": np.float32(0.2), "none": None}


def pseudo_gradients(rounds, seed=0):
    rng = np.random.default_rng(seed)
    return [jax.tree.map(lambda p: rng.normal(size=p.shape).astype(np.float32), PARAMS) for _ in range(rounds)]


def slow_loop(deltas, a, b, kappa, tau):
    """The rule in float64, tensor by tensor; returns the steps and the rate after every round."""
    momentum, previous, log_rate, history = None, None, 0.0, []
    for delta in deltas:
        flat = np.concatenate([np.ravel(x).astype(np.float64) for x in jax.tree.leaves(delta)])
        momentum = flat if momentum is None else b * momentum + flat
        if previous is not None:
            cosine = flat @ previous / np.sqrt((flat @ flat) * (previous @ previous))
            log_rate = min(max(log_rate + kappa * (cosine - tau), LOWEST_LOG_RATE), HIGHEST_LOG_RATE)
        previous = flat
        history.append((-a * (flat + b * momentum), np.exp(log_rate)))
    return history


@pytest.mark.parametrize("settings", [(0.7, 0.9, 0.1, 0.2), (1.0, 0.0, 0.5, -0.3)])
def test_against_a_slow_loop(settings):
    tx = auto_diloco(*settings)
    update, state = jax.jit(tx.update), tx.init(PARAMS)
    deltas = pseudo_gradients(6)
    for delta, (step, rate) in zip(deltas, slow_loop(deltas, *settings), strict=True):
        found, state = update(delta, state, PARAMS)
        flat = np.concatenate([np.ravel(x) for x in jax.tree.leaves(found)])
        np.testing.assert_allclose(flat, step, rtol=1e-5, atol=1e-6)
        for tensor_rate in jax.tree.leaves(local_rates(state)):
            np.testing.assert_allclose(tensor_rate, rate, rtol=1e-5)


def test_what_is_evaluated_is_the_average_of_the_global_parameters():
    """z by hand in float64; with bfloat16 parameters it is returned in their dtype and kept in float32."""
    algorithm = local_sgd(optax.sgd(1.0), auto_diloco(average=0.5))
    tx, deltas = auto_diloco(average=0.5), pseudo_gradients(4)
    params: Any = jax.tree.map(jnp.asarray, PARAMS)
    state: Any = tx.init(params)
    z = np.float64(PARAMS["b"])
    for t, delta in enumerate(deltas):
        updates, state = tx.update(delta, state, params)
        params = optax.apply_updates(params, updates)
        z += (1 - min(0.5, (1 + t) / (10 + t))) * (np.float64(params["b"]) - z)
        np.testing.assert_allclose(state.averaged_params["b"], z, rtol=1e-5)
    whole = algorithm.init(params)._replace(shared=Shared(params, state))
    np.testing.assert_allclose(algorithm.params(whole)["b"], z, rtol=1e-5)
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
    assert algorithm.params(algorithm.init(half))["w"].dtype == jnp.bfloat16
    assert algorithm.init(half).shared.server_state.averaged_params["w"].dtype == jnp.float32
    plain = local_sgd(optax.sgd(1.0), auto_diloco(average=0.0))
    assert plain.params(plain.init(params)) is params
    with pytest.raises(ValueError, match="params is None"):
        tx.update(deltas[0], state)


def test_without_its_rule_it_is_diloco():
    rule, plain = auto_diloco(0.7, 0.9, kappa=0.0), diloco(0.7, 0.9)
    states = rule.init(PARAMS), plain.init(PARAMS)
    for delta in pseudo_gradients(3):
        ours, first = rule.update(delta, states[0], PARAMS)
        theirs, second = plain.update(delta, states[1], PARAMS)
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)
        states = first, second


def test_the_rate_stays_within_its_bounds_and_does_not_depend_on_the_scale():
    tx = auto_diloco(kappa=10.0, tau=0.0)
    (delta,) = pseudo_gradients(1)
    for sign, bound in ((1, HIGHEST_LOG_RATE), (-1, LOWEST_LOG_RATE)):
        for scale in (1e-12, 1.0, 1e12):
            state: Any = tx.init(PARAMS)
            for t in range(4):
                moved = jax.tree.map(lambda d, t=t, s=sign, c=scale: c * d * s**t, delta)
                _, state = tx.update(moved, state, PARAMS)
            np.testing.assert_allclose(state.log_rate, bound, rtol=1e-6)


def test_there_is_no_cosine_of_nothing():
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    for pair in ((zeros, PARAMS), (PARAMS, zeros)):
        assert not is_cosine(cosine_of(*pair)) and np.isfinite(cosine_of(*pair))
    assert is_cosine(cosine_of(PARAMS, PARAMS)) and not is_cosine(jnp.float32(jnp.nan))
    np.testing.assert_allclose(cosine_of(PARAMS, PARAMS), 1, rtol=1e-6)


def round_of(deltas, num_workers):
    """One round in which worker k's pseudo-gradient is deltas[k]."""

    def loss_fn(params, key, batch):
        del key
        return jnp.sum(params["w"] * batch["w"][0])

    algorithm = simulate(local_sgd(optax.sgd(1.0), auto_diloco()), num_workers)
    state = algorithm.init({"w": jnp.zeros(3)})
    step = jax.jit(functools.partial(algorithm.round, loss_fn))
    batches = {"w": jnp.asarray(deltas, jnp.float32).reshape(num_workers, 1, 1, 3)}
    return algorithm, step(state, jax.random.key(0), batches)[0]


def test_a_worker_that_is_not_finite_is_left_out_of_the_mean():
    good = [[1.0, 2.0, 3.0], [3.0, -2.0, 1.0]]
    algorithm, with_broken = round_of([*good, [np.nan, 0, 0], [0, np.inf, 0]], 4)
    _, without = round_of(good, 2)
    np.testing.assert_allclose(algorithm.params(with_broken)["w"], algorithm.params(without)["w"], rtol=1e-6)


def test_a_round_that_no_worker_survives_moves_nothing():
    algorithm, state = round_of([[np.nan, 0, 0], [0, np.inf, 0]], 2)
    np.testing.assert_array_equal(algorithm.params(state)["w"], 0)
    for leaf in jax.tree.leaves(state.shared.server_state):
        assert np.all(np.isfinite(leaf))
    np.testing.assert_array_equal(state.shared.server_state.momentum["w"], 0)


def test_hyper_parameters_may_be_traced():
    (delta,) = pseudo_gradients(1)

    def step(rate):
        tx = auto_diloco(rate, kappa=rate)
        updates: Any = tx.update(delta, tx.init(PARAMS), PARAMS)[0]
        return updates["w"]

    found = jax.jit(jax.vmap(step))(jnp.asarray([0.5, 1.0]))
    np.testing.assert_allclose(2 * found[0], found[1], rtol=1e-6)


def test_a_donated_state_takes_nothing_else_with_it():
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
    state = auto_diloco().init(params)
    jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)(state)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(params))
