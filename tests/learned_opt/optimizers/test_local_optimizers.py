"""Local optimizers against optax where it has them, and against NumPy loops where it has not."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt.optimizers import (
    adam_b1_0,
    make_local_optimizer,
    normalized_sgd,
    relative_adam,
    relative_rmsprop,
)
from learned_opt.optimizers.normalized_sgd import RMS_FLOOR


@pytest.fixture(autouse=True)
def standard_promotion():
    # optax's Adam raises a float to an integer power.
    with jax.numpy_dtype_promotion("standard"):
        yield


def draw(num_steps, seed=0):
    """Parameters of several sizes, one of them zero, and gradients of every step."""
    rng = np.random.default_rng(seed)
    params = {"w": 10 * rng.normal(size=(5, 3)), "small": 0.001 * rng.normal(size=4), "zero": np.zeros(3)}
    params = {name: p.astype(np.float32) for name, p in params.items()}
    gradients = [{n: rng.normal(size=p.shape).astype(np.float32) for n, p in params.items()} for _ in range(num_steps)]
    return params, gradients


def run(optimizer, params, gradients):
    """Parameters after every step."""
    state, history = optimizer.init(params), []
    for gradient in gradients:
        updates, state = optimizer.update(jax.tree.map(jnp.asarray, gradient), state, params)
        params = optax.apply_updates(params, updates)
        history.append(params)
    return history


def assert_close(found, expected, rtol=2e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-7), found, expected)


def test_adam_b1_0_is_optax_adam_without_momentum():
    params, gradients = draw(20)
    found = run(adam_b1_0(0.01), params, gradients)
    assert_close(found, run(optax.adam(0.01, b1=0.0), params, gradients))
    other = run(optax.rmsprop(0.01), params, gradients)
    assert np.max(np.abs(other[0]["w"] - found[0]["w"])) > 0.005


def test_relative_rmsprop_equals_a_numpy_loop():
    params, gradients = draw(20)
    found = run(relative_rmsprop(0.05, b2=0.9, eps=1e-4, floor=0.2), params, gradients)
    for name, p in params.items():
        p, v = p.astype(np.float64), 0.0
        for t, gradient in enumerate(gradients, start=1):
            g = gradient[name].astype(np.float64)
            v = 0.9 * v + 0.1 * g**2
            size = max(np.sqrt(np.mean(p**2)), 0.2)
            p = p - 0.05 * size * g / (np.sqrt(v / (1 - 0.9**t)) + 1e-4)
            np.testing.assert_allclose(found[t - 1][name], p, rtol=1e-4, atol=1e-5)


def test_relative_adam_equals_a_numpy_loop():
    params, gradients = draw(12)
    found = run(relative_adam(0.02, b1=0.6, b2=0.95, eps=1e-6, floor=0.05), params, gradients)
    for name, y in params.items():
        y, m, v = y.astype(np.float64), 0.0, 0.0
        for t, gradient in enumerate(gradients, 1):
            g = gradient[name].astype(np.float64)
            m, v = 0.6 * m + 0.4 * g, 0.95 * v + 0.05 * g**2
            size = max(np.sqrt(np.mean(y**2)), 0.05)
            y = y - 0.02 * size * (m / (1 - 0.6**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-6)
            np.testing.assert_allclose(found[t - 1][name], y, rtol=2e-5, atol=1e-7)


def test_relative_adam_without_momentum_is_relative_rmsprop():
    params, gradients = draw(5)
    found, expected = (run(build, params, gradients) for build in (relative_adam(0.1, b1=0.0), relative_rmsprop(0.1)))
    for x, y in zip(found, expected, strict=True):
        assert_close(x, y)


def test_relative_rmsprop_does_not_depend_on_the_scale_of_a_tensor():
    params, gradients = draw(5)
    larger = {"w": 8 * params["w"]}
    smaller_gradients = [{"w": g["w"] / 8} for g in gradients]
    # Powers of two are exact, and eps is the only thing that knows a scale.
    found = run(relative_rmsprop(0.03, eps=0.0), larger, smaller_gradients)
    expected = run(relative_rmsprop(0.03, eps=0.0), {"w": params["w"]}, [{"w": g["w"]} for g in gradients])
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a["w"], 8 * b["w"], rtol=1e-6)


@pytest.mark.parametrize("build", [adam_b1_0, relative_rmsprop])
def test_state_is_float32_for_bfloat16_parameters(build):
    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.bfloat16), draw(0)[0])
    optimizer = build(0.01)
    state: Any
    updates, state = optimizer.update(params, optimizer.init(params), params)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.second_moment)} == {jnp.dtype(jnp.float32)}
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype(jnp.bfloat16)}


def test_references_with_arguments():
    params, gradients = draw(3)
    for reference, expected in [
        ("adam,learning_rate=0.01,b1=0.5", optax.adam(0.01, b1=0.5)),
        ("adamw,learning_rate=0.01,weight_decay=0.3", optax.adamw(0.01, weight_decay=0.3)),
        ("optax:lion,learning_rate=0.01", optax.lion(0.01)),
    ]:
        assert_close(run(make_local_optimizer(reference), params, gradients), run(expected, params, gradients))
    found = run(make_local_optimizer("sgd,learning_rate=0.5,momentum=0.9", 0.125), params, gradients)
    assert_close(found, run(optax.sgd(0.125, 0.9), params, gradients))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rmsprop", 0.1), r"use adam_b1_0 for Adam without momentum, once called so here, or optax:rmsprop"),
        (("adm", 0.1), r"local optimizer: 'adm' is unknown; did you mean 'adam'\? use it, or one of "),
        (("sgd",), "local optimizer 'sgd' has no learning rate: use 'sgd,learning_rate=0.01'"),
        (("sgd", -0.1), "learning_rate=-0.1: use a number above 0"),
        (("sgd", 0), "learning_rate=0: use"),
        (("sgd", float("nan")), "learning_rate=nan: use"),
        (("sgd,learning_rate=fast",), "learning_rate='fast': use a number"),
        (("sgd", np.ones(3)), r"learning_rate has shape \(3,\): use a single number"),
        (
            ("sgd", lambda count: jnp.ones(2)),
            r"schedule returns an array of shape \(2,\): use one that returns a single",
        ),
        (("sgd", lambda count: (0.1, 0.2)), "schedule returns tuple: use"),
        (("sgd", lambda count: None), "schedule returns NoneType: use"),
        (("sgd", lambda count: 0.1 if count < 3 else 0.01), "schedule fails on a traced count .* jax.numpy"),
        (("sgd", lambda: 0.1), "schedule fails on a traced count"),
        (("sgd,momentun=0.9", 0.1), "no argument 'momentun'; did you mean 'momentum'"),
        (("optax:clip,max_delta=1.0", 0.1), "no argument 'learning_rate'"),
        (("math:sqrt",), "math:sqrt"),
    ],
)
@pytest.mark.usefixtures("unchecked_annotations")
def test_mistakes_are_named(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        make_local_optimizer(*arguments)
    assert "\n" not in str(caught.value) and caught.type is ValueError


@pytest.mark.parametrize("build", [relative_rmsprop, relative_adam, normalized_sgd])
def test_params_are_needed(build):
    params = jnp.ones(3)
    with pytest.raises(ValueError, match="update needs params"):
        build(0.1).update(params, build(0.1).init(params))


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
