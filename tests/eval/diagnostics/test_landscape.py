"""Landscape diagnostics where the answer is known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eval.diagnostics.landscape import feature_spectrum_slope, fisher_trace, landscape, sharpness
from tasks.base import Task
from tests.eval.toy import toy_family

KEY = jax.random.key(0)
EIGENVALUES = np.array([5.0, 2.0, 1.0, 0.5], np.float32)


def quadratic_task():
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    hessian = jnp.float32(rotation @ np.diag(EIGENVALUES) @ rotation.T)

    def loss(params, key, batch):
        del key
        x = jnp.concatenate([params["a"], params["b"]])
        return 0.5 * x @ hessian @ x + jnp.sum(batch["x"])

    return Task(lambda key: {}, loss, lambda key, split, shape: {}, lambda params, batch: {})


def test_sharpness_of_a_quadratic_is_its_largest_eigenvalue():
    params = {"a": jnp.ones(2), "b": jnp.zeros(2)}
    found = jax.jit(lambda p: sharpness(quadratic_task(), p, {"x": jnp.zeros(1)}, KEY))(params)
    assert float(found) == pytest.approx(5.0, rel=1e-5)


def test_fisher_trace_of_softmax_regression():
    # Gradient of -ln p(y|x) in weights and biases: (p - e_y) times (x, 1).
    family = toy_family()
    task = family.task({}, family.data)
    params = task.init(KEY)
    batch = jax.tree.map(lambda x: x[:7], family.eval_batch(family.data, "test"))
    x = np.asarray(batch["image"], np.float64).reshape(7, 4)
    logits = x @ np.float64(params["Dense_0"]["kernel"]) + np.float64(params["Dense_0"]["bias"])
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    square = np.array([[np.sum((p[i] - np.eye(3)[y]) ** 2) for y in range(3)] for i in range(7)])
    expected = np.mean(np.sum(p * square, axis=1) * (np.sum(x**2, axis=1) + 1))
    assert float(fisher_trace(task, params, batch, 3, KEY)) == pytest.approx(expected, rel=1e-4)


def test_fisher_trace_needs_labels():
    with pytest.raises(ValueError, match="no leaf 'label'"):
        fisher_trace(quadratic_task(), {}, {"x": jnp.zeros(1)}, 3, KEY)


def test_spectrum_slope_of_a_power_law():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(200, 20)) - 0.0)[0]
    basis -= basis.mean(axis=0)
    basis = np.linalg.qr(basis)[0]
    features = basis * np.arange(1, 21.0) ** -0.75
    assert feature_spectrum_slope(features) == pytest.approx(1.5, rel=1e-6)
    with pytest.raises(ValueError, match="fewer than two"):
        feature_spectrum_slope(np.ones((5, 3)))


def test_all_of_them_together():
    found = landscape(
        quadratic_task(),
        {"a": jnp.ones(2), "b": jnp.zeros(2)},
        {"a": np.zeros(2), "b": np.ones(2)},
        {"x": jnp.zeros(1)},
        KEY,
    )
    assert found["distance_from_initialisation"] == pytest.approx(2.0)
    assert found["sharpness"] == pytest.approx(5.0, rel=1e-5) and "fisher_trace" not in found
