"""Training under `jax_debug_nans`, which stops at the first NaN of an array that a program returns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.algorithms.auto_diloco import auto_diloco, auto_diloco_workers

K, H = 2, 2
PARAMS = {"w": np.asarray([[0.5, -1.0], [0.1, 2.0], [0.3, 0.4]], np.float32), "b": np.float32(0.0)}


def loss_fn(params, key, batch):
    del key
    return jnp.mean(jnp.square(jnp.sum(batch["x"] @ params["w"], axis=-1) + params["b"] - batch["y"]))


def trained(algorithm, rounds=3):
    """The loss of every round."""
    rng, losses = np.random.default_rng(0), []
    state = algorithm.init(jax.tree.map(jnp.asarray, PARAMS))
    step = jax.jit(functools.partial(algorithm.round, loss_fn))
    for t in range(rounds):
        x = rng.normal(size=(K, H, 8, 3)).astype(np.float32)
        state, info = step(state, jax.random.key(t), {"x": x, "y": x.sum(-1)})
        losses.append(np.mean(info.losses))
    return losses


@pytest.mark.parametrize("name", ["lagg_any", "lopt_generalist", "auto_diloco"])
def test_nothing_stops_a_training(name):
    with jax.debug_nans(True):
        if name == "auto_diloco":
            algorithm = learned_opt.simulate(learned_opt.local_sgd(auto_diloco_workers(), auto_diloco()), K)
        else:
            algorithm = learned_opt.load_algorithm(name, num_workers=K, num_local_steps=H)
        assert np.all(np.isfinite(trained(algorithm)))


@pytest.mark.parametrize("name", ["lagg_any", "auto_diloco"])
def test_nothing_stops_an_update_that_is_not_compiled(name):
    """There, every operation is looked at."""
    with jax.debug_nans(True):
        tx = auto_diloco() if name == "auto_diloco" else learned_opt.load(name)
        params = jax.tree.map(jnp.asarray, PARAMS)
        state = tx.init(params)
        for size in (0.1, 0.2):
            delta = jax.tree.map(lambda p, size=size: size * p, params)
            updates, state = tx.update(delta, state, params, value=jnp.float32(size), pseudo_gradient=True)
            params = optax.apply_updates(params, updates)
