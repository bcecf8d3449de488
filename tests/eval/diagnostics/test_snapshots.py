"""Diagnostics of the loss's curvature and gradients where the answer is known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eval.diagnostics.balancedness import balancedness_drift
from eval.diagnostics.distance import distance_from_initialisation
from eval.diagnostics.example_coherence import example_coherence
from eval.diagnostics.feature_spectrum import activation_spectrum, feature_spectrum, spectrum_slope
from eval.diagnostics.fisher_trace import fisher_trace
from eval.diagnostics.hessian_trace import NUM_PROBES, hessian_trace
from eval.diagnostics.path_geometry import error_bound, implied_learning_rate, restricted_secant
from eval.diagnostics.radial_fraction import effective_learning_rate, radial_fraction
from eval.diagnostics.sharpness import sharpness
from eval.diagnostics.stability import sharpness_times_rate, trace_times_rate
from tests.eval.diagnostics.tiny_tasks import (
    EIGENVALUES,
    HESSIAN,
    classifier,
    inputs,
    measured,
    probabilities,
    quadratic,
    snapshot_of,
)

GEOMETRY = (restricted_secant, error_bound, implied_learning_rate)


def test_sharpness_of_a_quadratic_is_its_largest_eigenvalue():
    assert measured(quadratic(), sharpness, sharpness_times_rate) == pytest.approx([5.0, 2.5], rel=1e-5)


def test_without_a_rate_there_is_no_edge_of_stability():
    snapshot = quadratic(np.diag(EIGENVALUES))._replace(learning_rate=jnp.float32(jnp.nan))
    assert np.isnan(measured(snapshot, sharpness_times_rate, trace_times_rate)).all()


def test_the_trace_of_a_diagonal_hessian_is_exact():
    snapshot = quadratic(np.diag(EIGENVALUES))
    found = measured(snapshot, lambda s: hessian_trace(s, 1), trace_times_rate)
    assert found == pytest.approx([EIGENVALUES.sum(), 0.5 * EIGENVALUES.sum()], rel=1e-5)


def test_the_trace_is_unbiased_with_hutchinsons_variance():
    snapshot, seeds = quadratic(), jax.random.split(jax.random.key(1), 400)
    found = jax.jit(jax.vmap(lambda key: hessian_trace(snapshot._replace(key=key))))(seeds)
    variance = 2 * (np.sum(HESSIAN**2) - np.sum(np.diag(HESSIAN) ** 2)) / NUM_PROBES
    # Four standard errors of a mean and, roughly, of a variance.
    assert float(jnp.mean(found)) == pytest.approx(EIGENVALUES.sum(), abs=4 * np.sqrt(variance / 400))
    assert float(jnp.var(found)) == pytest.approx(variance, rel=4 * np.sqrt(2 / 400))


def test_path_geometry_of_a_round_bowl():
    # g = 3 (w - w*): every gradient step points at the end, with rate 1/3 it arrives.
    end = {"w": jnp.array([1.0, -2.0])}
    at = {"w": jnp.array([4.0, 2.0])}
    snapshot = snapshot_of(lambda p, b: 1.5 * jnp.sum((p["w"] - end["w"]) ** 2), at, {}, final_params=end)
    assert measured(snapshot, *GEOMETRY) == pytest.approx([3, 3, 1 / 3], rel=1e-5)


def test_path_geometry_of_a_quadratic_and_of_its_end():
    end = {"a": jnp.array([0.5, 0.0]), "b": jnp.array([0.0, -1.0])}
    snapshot = quadratic()._replace(final_params=end)
    w, way = np.array([1.0, 1.0, 0, 0]), np.array([0.5, 1.0, 0.0, 1.0])
    g = HESSIAN @ w
    expected = [g @ way / (way @ way), np.sqrt(g @ g / (way @ way)), g @ way / (g @ g)]
    assert measured(snapshot, *GEOMETRY) == pytest.approx(expected, rel=1e-5)
    assert np.isnan(measured(quadratic(), *GEOMETRY)).all()


def test_fisher_trace_of_softmax_regression():
    # Gradient of -ln p(y|x) in weights and biases: (p - e_y) times (x, 1).
    snapshot = classifier()
    x, p = inputs(snapshot), probabilities(snapshot)
    square = np.array([[np.sum((p[i] - np.eye(3)[y]) ** 2) for y in range(3)] for i in range(7)])
    expected = np.mean(np.sum(p * square, axis=1) * (np.sum(x**2, axis=1) + 1))
    assert float(measured(snapshot, fisher_trace)) == pytest.approx(expected, rel=1e-4)


def test_distance_is_euclidean_over_all_parameters():
    assert float(measured(quadratic(), distance_from_initialisation)) == pytest.approx(2.0)


def test_spectrum_slope_of_a_power_law():
    # Orthogonal columns of mean zero, scaled: the eigenvalues of the covariance are (i^-0.75)^2 / n.
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(200, 20))
    basis = np.linalg.qr(columns - columns.mean(axis=0))[0]
    features = jnp.float32(basis * np.arange(1, 21.0) ** -0.75)
    slope = jax.jit(spectrum_slope)
    assert float(slope(features)) == pytest.approx(1.5, rel=1e-3)
    assert np.isnan(slope(jnp.ones(features.shape)))


def slope_of(features):
    values = np.linalg.svd(features - features.mean(axis=0), compute_uv=False) ** 2
    values = values[values > 1e-6 * values[0]]
    return -np.polyfit(np.log(np.arange(1, 1 + len(values))), np.log(values), 1)[0]


def test_the_features_of_an_example_are_its_gradient():
    snapshot = classifier()
    x, error = inputs(snapshot), probabilities(snapshot) - np.eye(3)[np.asarray(snapshot.batch["label"])]
    gradients = np.concatenate([error, (x[:, :, None] * error[:, None]).reshape(7, 12)], axis=1)
    assert float(measured(snapshot, feature_spectrum)) == pytest.approx(slope_of(gradients), rel=1e-3)


def test_the_activations_of_softmax_regression_are_its_inputs():
    snapshot = classifier()
    assert float(measured(snapshot, activation_spectrum)) == pytest.approx(slope_of(inputs(snapshot)), rel=1e-3)


def test_example_coherence_of_softmax_regression():
    snapshot = classifier()
    x, error = inputs(snapshot), probabilities(snapshot) - np.eye(3)[np.asarray(snapshot.batch["label"])]
    gradients = np.concatenate([error, (x[:, :, None] * error[:, None]).reshape(7, 12)], axis=1)
    expected = np.sum(gradients.mean(axis=0) ** 2) / np.mean(np.sum(gradients**2, axis=1))
    assert float(measured(snapshot, example_coherence)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("rows", "expected"), [(np.ones((5, 5)), 1.0), (np.eye(5), 1 / 5)])
def test_example_coherence_of_equal_and_orthogonal_gradients(rows, expected):
    snapshot = snapshot_of(lambda p, b: jnp.mean(b["x"] @ p["w"]), {"w": jnp.ones(5)}, {"x": jnp.float32(rows)})
    assert float(measured(snapshot, example_coherence)) == pytest.approx(expected)


def test_radial_fraction_is_the_cosine_and_the_effective_rate_the_tangent():
    # |w| = 2; one tensor moves by 0.5 at 60 degrees, one along itself, one begins at zero, one is a number.
    before = {"a": jnp.array([[2.0, 0.0]]), "b": jnp.array([0.0, 2.0]), "c": jnp.zeros(2), "d": jnp.float32(1)}
    moves = {
        "a": jnp.float32([[0.5 * np.cos(np.pi / 3), 0.5 * np.sin(np.pi / 3)]]),
        "b": jnp.array([0.0, -1.0]),
        "c": jnp.ones(2),
        "d": jnp.float32(1),
    }
    after = jax.tree.map(jnp.add, before, moves)
    snapshot = snapshot_of(lambda p, b: jnp.float32(0), after, {}, previous_params=before)
    expected = [(0.5 + 1) / 2, (0.5 * np.sin(np.pi / 3) / 2 + 0) / 2]
    assert measured(snapshot, radial_fraction, effective_learning_rate) == pytest.approx(expected, rel=1e-3)


def test_gradient_steps_turn_scale_invariant_weights_and_never_stretch_them():
    def loss(params, batch):
        w = params["w"]
        return batch["c"] @ w / jnp.linalg.norm(w)

    before, batch = {"w": jnp.array([1.0, 2.0, 3.0])}, {"c": jnp.array([1.0, -1.0, 0.5])}
    after = jax.tree.map(lambda w, g: w - 0.1 * g, before, jax.grad(loss)(before, batch))
    snapshot = snapshot_of(loss, after, batch, previous_params=before)
    assert float(measured(snapshot, radial_fraction)) < 1e-5


def test_a_gradient_step_on_a_linear_net_moves_the_conserved_quantity_by_eta_squared():
    rng = np.random.default_rng(0)
    u, v, truth = rng.normal(size=(4, 2)), rng.normal(size=(3, 2)), rng.normal(size=(4, 3))
    error, eta = u @ v.T - truth, 0.1
    grad_u, grad_v = error @ v, error.T @ u
    start = {"u": jnp.float32(u), "v": jnp.float32(v)}
    after = {"u": jnp.float32(u - eta * grad_u), "v": jnp.float32(v - eta * grad_v)}
    snapshot = snapshot_of(lambda p, b: jnp.float32(0), after, {}, initial_params=start)
    expected = eta**2 * np.linalg.norm(grad_u.T @ grad_u - grad_v.T @ grad_v)
    assert float(measured(snapshot, balancedness_drift)) == pytest.approx(expected, rel=1e-4)
