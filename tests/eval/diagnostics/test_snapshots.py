"""Diagnostics of snapshots where the answer is known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eval.diagnostics.base import Snapshot
from eval.diagnostics.distance import distance_from_initialisation
from eval.diagnostics.feature_spectrum import feature_spectrum, spectrum_slope
from eval.diagnostics.fisher_trace import fisher_trace
from eval.diagnostics.sharpness import sharpness
from tasks.base import Task
from tests.eval.toy import toy_family

KEY = jax.random.key(0)
EIGENVALUES = np.array([5.0, 2.0, 1.0, 0.5], np.float32)


def quadratic():
    """A snapshot of a rotated quadratic with a constant that depends on the batch."""
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    hessian = jnp.float32(rotation @ np.diag(EIGENVALUES) @ rotation.T)

    def loss(params, key, batch):
        del key
        x = jnp.concatenate([params["a"], params["b"]])
        return 0.5 * x @ hessian @ x + jnp.sum(batch["x"])

    task = Task(lambda key: {}, loss, lambda key, split, shape: {}, lambda params, batch: {})
    initial = {"a": jnp.zeros(2), "b": jnp.ones(2)}
    return Snapshot(task, {"a": jnp.ones(2), "b": jnp.zeros(2)}, initial, {"x": jnp.zeros(1)}, KEY, None)


def classifier():
    family = toy_family()
    task = family.task({}, family.data)
    params = task.init(KEY)
    batch = jax.tree.map(lambda x: x[:7], family.eval_batch(family.data, "test"))
    return Snapshot(task, params, params, batch, KEY, 3)


def probabilities(snapshot):
    x = np.asarray(snapshot.batch["image"], np.float64).reshape(7, 4)
    layer = snapshot.params["Dense_0"]
    logits = x @ np.float64(layer["kernel"]) + np.float64(layer["bias"])
    return x, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_sharpness_of_a_quadratic_is_its_largest_eigenvalue():
    snapshot = quadratic()
    found = jax.jit(lambda params: sharpness(snapshot._replace(params=params)))(snapshot.params)
    assert float(found) == pytest.approx(5.0, rel=1e-5)


def test_fisher_trace_of_softmax_regression():
    # Gradient of -ln p(y|x) in weights and biases: (p - e_y) times (x, 1).
    snapshot = classifier()
    x, p = probabilities(snapshot)
    square = np.array([[np.sum((p[i] - np.eye(3)[y]) ** 2) for y in range(3)] for i in range(7)])
    expected = np.mean(np.sum(p * square, axis=1) * (np.sum(x**2, axis=1) + 1))
    assert float(fisher_trace(snapshot)) == pytest.approx(expected, rel=1e-4)


def test_what_is_no_classification_has_no_fisher_trace():
    assert np.isnan(fisher_trace(quadratic())) and np.isnan(fisher_trace(classifier()._replace(num_classes=None)))


def test_distance_is_euclidean_over_all_parameters():
    assert float(distance_from_initialisation(quadratic())) == pytest.approx(2.0)


def test_spectrum_slope_of_a_power_law():
    # Orthogonal columns of mean zero, scaled: the eigenvalues of the covariance are (i^-0.75)^2 / n.
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(200, 20))
    basis = np.linalg.qr(columns - columns.mean(axis=0))[0]
    features = jnp.float32(basis * np.arange(1, 21.0) ** -0.75)
    assert float(spectrum_slope(features)) == pytest.approx(1.5, rel=1e-3)
    assert np.isnan(spectrum_slope(jnp.ones((5, 3))))


def test_the_features_of_an_example_are_its_gradient():
    snapshot = classifier()
    x, p = probabilities(snapshot)
    error = p - np.eye(3)[np.asarray(snapshot.batch["label"])]
    gradients = np.concatenate([error, (x[:, :, None] * error[:, None]).reshape(7, 12)], axis=1)
    expected = np.linalg.svd(gradients - gradients.mean(axis=0), compute_uv=False)[:6] ** 2 / 7
    slope, _ = np.polyfit(np.log(np.arange(1, 7)), np.log(expected), 1)
    assert float(feature_spectrum(snapshot)) == pytest.approx(-slope, rel=1e-3)
