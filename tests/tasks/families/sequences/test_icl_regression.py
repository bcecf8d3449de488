import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.families.sequences.icl_regression import (
    icl_regression,
    one_step_prediction,
    optimal_preconditioner,
    optimal_step_loss,
    ridge_prediction,
)


def draw(variances, num_pairs, noise_std, num_prompts, seed=0):
    """Prompts in float64 as the module's docstring defines them: x, y, query, its label."""
    rng = np.random.default_rng(seed)
    d = len(variances)
    w = rng.standard_normal((num_prompts, d)) / d**0.5
    x = rng.standard_normal((num_prompts, num_pairs + 1, d)) * np.sqrt(variances)
    y = np.einsum("bij,bj->bi", x, w) + noise_std * rng.standard_normal((num_prompts, num_pairs + 1))
    return x[:, :-1], y[:, :-1], x[:, -1], y[:, -1]


def test_preconditioner_of_trained_transformers():
    """Zhang et al. 2023 without noise: Gamma = (1 + 1/n) Lambda + tr(Lambda) / n I, and P its inverse."""
    variances = jnp.array([0.5, 1.0, 1.5])
    gamma = (1 + 1 / 6) * np.diag([0.5, 1.0, 1.5]) + 3.0 / 6 * np.eye(3)
    np.testing.assert_allclose(np.diag(optimal_preconditioner(variances, 6, 0.0)), np.linalg.inv(gamma), rtol=1e-6)


@pytest.mark.parametrize("noise_std", [0.0, 0.5])
def test_preconditioner_minimises_the_loss_over_all_matrices(noise_std):
    """Least squares for a full matrix P on many prompts, and the loss it reaches."""
    variances = np.array([0.4, 1.6])
    x, y, query, label = draw(variances, 5, noise_std, 200_000)
    direction = np.einsum("bi,bij->bj", y, x) / 5
    design = np.einsum("bj,bk->bjk", query, direction).reshape(len(y), 4)
    fitted, *_ = np.linalg.lstsq(design, label, rcond=None)
    expected = np.asarray(optimal_preconditioner(jnp.asarray(variances, jnp.float32), 5, noise_std))
    np.testing.assert_allclose(fitted.reshape(2, 2), np.diag(expected), atol=0.02)
    loss = ((design @ np.diag(expected).ravel() - label) ** 2).mean()
    np.testing.assert_allclose(optimal_step_loss(jnp.asarray(variances, jnp.float32), 5, noise_std), loss, rtol=0.02)


def test_ridge_is_the_written_out_formula():
    x, y, query, _ = draw(np.ones(4), 6, 0.5, 3)
    expected = [q @ np.linalg.solve(a.T @ a + 0.7 * np.eye(4), a.T @ b) for a, b, q in zip(x, y, query, strict=True)]
    arguments = (jnp.asarray(leaf, jnp.float32) for leaf in (x, y, query))
    np.testing.assert_allclose(ridge_prediction(0.7, *arguments), expected, rtol=1e-4)


def test_one_step_is_a_gradient_step_from_zero():
    x, y, query, _ = draw(np.ones(4), 6, 0.5, 3)
    p = np.array([0.5, 1.0, 1.5, 2.0])
    loss_of_prompt = lambda w, a, b: 0.5 * jnp.mean((a @ w - b) ** 2)  # noqa: E731
    arrays = [jnp.asarray(leaf, jnp.float32) for leaf in (x, y, query)]
    gradients = jax.vmap(jax.grad(loss_of_prompt), (None, 0, 0))(jnp.zeros(4), *arrays[:2])
    expected = (arrays[2] * -(p * np.asarray(gradients))).sum(-1)
    np.testing.assert_allclose(
        one_step_prediction(jnp.asarray(p, jnp.float32), *arrays), expected, rtol=1e-4, atol=1e-6
    )


def test_loss_is_that_of_the_full_attention_layer():
    """E + W_PV E (E^T W_KQ E) / n with full matrices; the prediction is the query's label entry."""
    family = icl_regression(num_features=3, num_pairs=4)
    config = family.sample(jax.random.key(0))
    np.testing.assert_allclose(config["variances"].mean(), 1, rtol=1e-6)
    task = family.task(config, family.data)
    params = task.init(jax.random.key(1))
    batch = task.sample_batch(jax.random.key(2), "train", (5,))
    raw = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), batch)
    rng = np.random.default_rng(0)
    pv, kq = rng.standard_normal((2, 4, 4))
    pv[-1], kq[:, :-1] = params["value"], params["key_query"]
    errors = []
    for white, w, noise in zip(raw["white_inputs"], raw["weights"], raw["white_noise"], strict=True):
        x = white * np.sqrt(np.asarray(config["variances"]))
        y = x @ w + 0.25 * noise
        e = np.concatenate([x, np.append(y[:-1], 0)[:, None]], axis=1).T
        errors.append((e + pv @ e @ (e.T @ kq @ e) / 4)[-1, -1] - y[-1])
    np.testing.assert_allclose(task.loss(params, jax.random.key(0), batch), np.mean(np.square(errors)), rtol=1e-5)


def optimum_of(config):
    p = optimal_preconditioner(config["variances"], 16, 0.25)
    return {"value": jnp.zeros(9).at[-1].set(1.0), "key_query": jnp.concatenate([jnp.diag(p), jnp.zeros((1, 8))])}


def test_the_optimal_step_is_among_the_parameters_and_has_no_gap():
    family = icl_regression()
    config = family.sample(jax.random.key(0))
    task = family.task(config, family.data)
    metrics = jax.jit(task.metrics)
    batch = family.eval_batch(family.data, "train")
    at_optimum = metrics(optimum_of(config), batch)
    assert abs(at_optimum["gap_to_optimal_step"]) < 1e-5
    np.testing.assert_allclose(at_optimum["loss"], optimal_step_loss(config["variances"], 16, 0.25), rtol=0.1)
    # No predictor beats ridge, and its own prompts' noise is the floor.
    assert at_optimum["gap_to_ridge"] > 0.1 and at_optimum["loss"] - at_optimum["gap_to_ridge"] > 0.25**2


def test_the_optimal_step_is_a_critical_point_of_the_expected_loss():
    """The mean gradient over prompts is within 4.5 standard errors of zero in every entry, the value vector's too."""
    family = icl_regression()
    config = family.sample(jax.random.key(0))

    def z_scores(params, data):
        task = family.task(config, data)
        prompts = jax.tree.map(lambda leaf: leaf[:, None], family.eval_batch(data, "train"))
        gradient = jax.vmap(lambda prompt: jax.grad(task.loss)(params, jax.random.key(0), prompt))(prompts)
        flat = jnp.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(gradient)], axis=1)
        return jnp.max(jnp.abs(jnp.mean(flat, axis=0)) / (jnp.std(flat, axis=0) / flat.shape[0] ** 0.5))

    z_scores = jax.jit(z_scores)
    assert z_scores(optimum_of(config), family.data) < 4.5
    assert z_scores(family.task(config, family.data).init(jax.random.key(1)), family.data) > 10


@pytest.mark.parametrize(
    "arguments, message",
    [({"num_pairs": 0}, "num_pairs=0"), ({"noise_std": 0.0}, "noise_std=0.0"), ({"max_spread": 0.5}, "max_spread=0.5")],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        icl_regression(**arguments)
