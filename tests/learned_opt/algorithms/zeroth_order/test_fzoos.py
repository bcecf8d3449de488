"""The surrogate against automatic differentiation and NumPy's least squares; FZooS learns from losses alone."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt
from learned_opt.algorithms.round import dense_bytes
from learned_opt.algorithms.zeroth_order.fzoos import fzoos
from learned_opt.algorithms.zeroth_order.random_features import draw_features, feature_values, fit, surrogate_gradient
from tests.learned_opt.algorithms.quadratics import CURVATURE, KEY, NUM_PARAMS, PARAMS, draw_batches, flat, loss_fn

RNG = np.random.default_rng(0)
FEATURES = draw_features(0, 40, 3, 0.8)
POINTS = RNG.normal(size=(10, 3)).astype(np.float32)


def test_features_approach_the_gaussian_kernel():
    features = draw_features(1, 20000, 3, 0.8)
    phi = np.asarray(feature_values(features, jnp.asarray(POINTS)))
    squares = np.sum((POINTS[:, None] - POINTS[None]) ** 2, axis=2)
    np.testing.assert_allclose(phi @ phi.T, np.exp(-squares / (2 * 0.8**2)), atol=0.04)


def test_the_surrogates_gradient_is_that_of_automatic_differentiation():
    weights = jnp.asarray(RNG.normal(size=40), jnp.float32)
    expected = jax.grad(lambda x: feature_values(FEATURES, x[None])[0] @ weights)(POINTS[0])
    np.testing.assert_allclose(
        surrogate_gradient(FEATURES, weights, jnp.asarray(POINTS[0])), expected, rtol=1e-4, atol=1e-5
    )


def test_the_fit_is_numpys_ridge_regression_on_the_known_points():
    values, ridge, is_known = RNG.normal(size=10).astype(np.float32), 0.1, np.arange(10) < 7
    known = values[:7] - values[:7].mean()
    phi = np.asarray(feature_values(FEATURES, jnp.asarray(POINTS[:7])), np.float64)
    expected = np.linalg.solve(phi.T @ phi + ridge * np.eye(40), phi.T @ known)
    found = fit(FEATURES, jnp.asarray(POINTS), jnp.asarray(values), jnp.asarray(is_known), ridge)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_a_smooth_functions_gradient_is_found_from_its_values():
    """A quadratic near its minimum, from 40 values around the point."""
    features = draw_features(0, 2000, 3, 2.0)
    point, curvature = jnp.asarray([0.3, -0.2, 0.1]), jnp.asarray([1.0, 2.0, 0.5])
    around = point[None] + 0.3 * jnp.asarray(RNG.uniform(-1, 1, size=(40, 3)), jnp.float32)
    values = 0.5 * jnp.sum(curvature[None] * jnp.square(around), axis=1)
    weights = fit(features, around, values, jnp.ones(40, bool), 1e-5)
    np.testing.assert_allclose(surrogate_gradient(features, weights, point), curvature * point, atol=0.05)


def train(algorithm, batches):
    def without_gradient(params, key, batch):
        # A gradient of this is zero: nothing could be learned from it.
        return jax.lax.stop_gradient(loss_fn(params, key, batch))

    algorithm = learned_opt.simulate(algorithm, batches.shape[1])
    one_round = jax.jit(functools.partial(algorithm.round, without_gradient))
    state = algorithm.init(PARAMS)
    for t, batch in enumerate(batches):
        state, _ = one_round(state, jax.random.fold_in(KEY, t), jnp.asarray(batch))
    return state, np.asarray(flat(algorithm.params(state)))


@pytest.fixture
def constant_batches():
    """Every worker has one example of its own, always the same."""
    one = draw_batches(1, 3, 1, batch_size=1)
    return np.broadcast_to(one, (15, 3, 5, 1, NUM_PARAMS))


def test_it_learns_without_gradients(constant_batches):
    optimum = constant_batches[0, :, 0, 0].mean(axis=0)

    def excess(x):
        return 0.5 * np.sum(CURVATURE * (x - optimum) ** 2)

    algorithm = fzoos(optax.sgd(0.1), num_features=400, num_points=40, num_around=6, radius=0.3, lengthscale=4.0)
    _, found = train(algorithm, constant_batches)
    assert excess(found) < 0.05 * excess(np.asarray(flat(PARAMS)))


def test_the_correction_is_of_the_mean_surrogate_less_the_own(constant_batches):
    settings: dict[str, Any] = dict(num_features=50, num_points=10, num_around=2, lengthscale=4.0)
    state, _ = train(fzoos(optax.sgd(0.1), correction=0.0, **settings), constant_batches[:1])
    np.testing.assert_allclose(state.shared.weights, np.mean(state.worker.weights, axis=0), rtol=1e-5, atol=1e-6)
    # With a learning rate of 1 and one local step, workers' moves of the second round differ by the correction.
    start_of_second = jnp.asarray(flat(state.shared.params))
    features = draw_features(0, 50, NUM_PARAMS, 4.0)
    moves = []
    for correction in (0.0, 1.0):
        algorithm = learned_opt.simulate(fzoos(optax.sgd(1.0), correction=correction, **settings), 3)
        new, _ = algorithm.round(loss_fn, state, KEY, jnp.asarray(constant_batches[0, :, :1]))
        moves.append(np.asarray(flat(new.shared.params)))
    # Workers' corrections have a mean of zero, as SCAFFOLD's do.
    np.testing.assert_allclose(moves[0], moves[1], rtol=1e-3, atol=1e-4)
    own = [surrogate_gradient(features, state.shared.weights - w, start_of_second) for w in state.worker.weights]
    assert np.abs(np.asarray(own)).max() > 1e-2
    np.testing.assert_allclose(np.mean(own, axis=0), 0, atol=1e-4)


def test_questions_are_the_last_of_a_ring(constant_batches):
    algorithm = fzoos(optax.sgd(0.0), num_features=20, num_points=7, num_around=1)
    state, _ = train(algorithm, constant_batches[:1])
    # Five steps of two questions: ten in all, of which the last seven are kept.
    assert int(state.worker.questions.count[0]) == 10
    losses = np.asarray(state.worker.questions.losses[0])
    at_start = float(loss_fn(PARAMS, KEY, jnp.asarray(constant_batches[0, 0, 0])))
    # Questions 0, 2, 4, 6, 8 were at the parameters; 4, 6 and 8 are in places 4, 6 and 1.
    np.testing.assert_allclose(losses[[4, 6, 1]], at_start, rtol=1e-6)
    assert np.all(np.abs(losses[[3, 5, 0, 2]] - at_start) > 1e-6)


def test_bytes_and_mistakes():
    assert fzoos(optax.sgd(0.1), num_features=30).bytes_sent(PARAMS) == dense_bytes(PARAMS) + 120
    with pytest.raises(ValueError, match="num_points=4: use at least 1 . num_around=4"):
        fzoos(optax.sgd(0.1), num_points=4)
    with pytest.raises(ValueError, match="num_features=0: use at least 1"):
        fzoos(optax.sgd(0.1), num_features=0)
