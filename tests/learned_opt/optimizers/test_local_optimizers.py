"""Local optimizers by name, and steps of normalized SGD by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt.optimizers import LOCAL_OPTIMIZERS, RMS_FLOOR, make_local_optimizer, normalized_sgd
from meta_train.config_rules import LOCAL_OPTIMIZERS as CONFIGURED


@pytest.fixture(autouse=True)
def standard_promotion():
    # optax's Adam raises a float to an integer power.
    with jax.numpy_dtype_promotion("standard"):
        yield


def test_the_configuration_offers_these():
    assert tuple(LOCAL_OPTIMIZERS) == CONFIGURED


def test_unknown_name():
    with pytest.raises(ValueError, match="local_optimizer='adm': use one of sgd, adam"):
        make_local_optimizer("adm", 0.1)


@pytest.mark.parametrize("name", LOCAL_OPTIMIZERS)
def test_descends_with_a_traced_learning_rate(name):
    @jax.jit
    def run(learning_rate):
        optimizer = make_local_optimizer(name, learning_rate)
        params = {"w": jnp.asarray([1.0, -2.0]), "b": jnp.float32(0.5)}
        state = optimizer.init(params)
        for _ in range(20):
            updates, state = optimizer.update(params, state, params)
            params = jax.tree.map(jnp.add, params, updates)
        return jnp.sum(jnp.square(params["w"]))

    # The gradient of |w|^2 / 2 is w.
    assert run(jnp.float32(0.05)) < 0.7 * 5


def test_normalized_steps_have_a_share_of_the_tensor_whatever_the_gradient():
    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(5, 3)).astype(np.float32), "zero": np.zeros(4, np.float32)}
    gradient = {"w": rng.normal(size=(5, 3)).astype(np.float32), "zero": np.ones(4, np.float32)}
    optimizer = normalized_sgd(0.1)
    for scale in (1.0, 1e-30, 1e30):
        scaled = jax.tree.map(lambda g, scale=scale: jnp.asarray(g * np.float32(scale)), gradient)
        updates: Any
        updates, _ = optimizer.update(scaled, optimizer.init(params), params)
        rms = {name: np.sqrt(np.mean(np.square(params[name]))) for name in params}
        expected = -0.1 * rms["w"] * gradient["w"] / np.sqrt(np.mean(np.square(gradient["w"])))
        np.testing.assert_allclose(updates["w"], expected, rtol=1e-5)
        np.testing.assert_allclose(updates["zero"], -0.1 * RMS_FLOOR, rtol=1e-5)


def test_normalized_step_of_no_gradient_is_none():
    params = jnp.ones(3, jnp.bfloat16)
    optimizer = normalized_sgd(0.1)
    updates: Any
    updates, _ = optimizer.update(jnp.zeros(3, jnp.bfloat16), optimizer.init(params), params)
    assert updates.dtype == jnp.bfloat16 and not np.any(np.asarray(updates, np.float32))
    with pytest.raises(ValueError, match="needs params"):
        optimizer.update(params, optimizer.init(params))
