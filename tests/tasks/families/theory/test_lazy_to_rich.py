import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tasks.families.theory.lazy_to_rich import lazy_to_rich
from tests.tasks.training_curves import training_curves


def start(**arguments):
    family = lazy_to_rich(**arguments)
    config = family.sample(jax.random.key(0))
    task = family.task(config, family.data)
    return family, task, np.asarray(config["direction"], np.float64), jax.jit(task.init)(jax.random.key(1))


def test_loss_and_metrics_are_the_written_out_formulas():
    family, task, direction, params = start(alpha=3.0, num_features=5, width=4)
    params = {"hidden": params["hidden"] + 0.3 * jax.random.normal(jax.random.key(2), (5, 4))}
    batch = family.eval_batch(family.data, "test")
    errors = []
    weights = np.asarray(params["hidden"], np.float64)
    for x in np.asarray(batch["x"], np.float64):
        h = weights.T @ x
        units = h + 0.25 * h**2
        f = 3 / 4 * (units[0] + units[1] - units[2] - units[3])
        errors.append(f - ((direction @ x) ** 2 - 1) / 2)
    metrics = jax.jit(task.metrics)(params, batch)
    np.testing.assert_allclose(metrics["mse"], np.mean(np.square(errors)), rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], np.mean(np.square(errors)) / 9, rtol=1e-5)
    np.testing.assert_allclose(task.loss(params, jax.random.key(0), batch), metrics["loss"], rtol=1e-6)
    share = sum((direction @ w) ** 2 for w in weights.T) / (weights**2).sum()
    np.testing.assert_allclose(metrics["alignment"], share, rtol=1e-5)


def test_the_network_starts_at_the_best_constant():
    family, task, _, params = start(num_train=20_000)
    metrics = jax.jit(task.metrics)(params, family.eval_batch(family.data, "train"))
    # y = (z^2 - 1) / 2 for a normal z: y^2 has mean 1/2 and standard deviation 1.9, over 20,000 examples 0.013.
    np.testing.assert_allclose(metrics["loss"], family.uninformed_loss, atol=0.05)
    # The share along any direction of random weights is 1 / D.
    np.testing.assert_allclose(metrics["alignment"], 1 / 24, atol=0.025)


def test_gradient_descent_of_a_lazy_network_is_that_of_its_kernel():
    """In the limit of a large alpha: f_t = (1 - (1 - 2 rate K)^t) y with the kernel K of the initial features."""
    num_steps = 30
    with jax.enable_x64(True):
        family, task, direction, params = start(alpha=1e4, num_features=6, width=8, num_train=12)
        params = {"hidden": params["hidden"].astype(jnp.float64)}
        x = np.asarray(family.data["train"]["x"], np.float64)
        weights = np.asarray(params["hidden"])
        slopes = 1 + 0.5 * (x @ weights)
        kernel = (slopes @ slopes.T) * (x @ x.T) / (8**2 * 12)
        rate = 0.4 / np.linalg.eigvalsh(kernel)[-1]
        y = ((x @ direction) ** 2 - 1) / 2
        expected = -np.linalg.matrix_power(np.eye(12) - 2 * rate * kernel, num_steps) @ y
        batch = {"x": jnp.asarray(x)}

        def step(params, _):
            gradient = jax.grad(task.loss)(params, jax.random.key(0), batch)
            return {"hidden": params["hidden"] - rate * gradient["hidden"]}, None

        params, _ = jax.jit(lambda params: jax.lax.scan(step, params, length=num_steps))(params)
        assert np.mean(expected**2) < 0.5 * np.mean(y**2)
        np.testing.assert_allclose(jax.jit(task.metrics)(params, batch)["mse"], np.mean(expected**2), rtol=1e-3)


@pytest.mark.slow
def test_smaller_laziness_learns_features():
    """Gradient descent to the same training loss: weights turn along the target where alpha is small, and only there
    does the test error follow (192 examples; a kernel would need 300)."""
    ends = {}
    for alpha, rate in ((1.0, 20.0), (16.0, 20.0)):
        curves = training_curves(lazy_to_rich(alpha), optax.sgd(rate), 1000, 100)
        reached = np.argmax(curves["train"]["mse"] < 0.01)
        assert reached > 0
        ends[alpha] = curves["test"]["alignment"][reached], curves["test"]["mse"][reached]
    assert ends[1.0][0] > 3 * ends[16.0][0]
    assert ends[1.0][1] < 0.5 * ends[16.0][1]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"alpha": 0.0}, "alpha=0.0"),
        ({"curvature": 0.0}, "curvature=0.0"),
        ({"width": 3}, "width=3"),
        ({"num_train": 0}, "num_train=0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        lazy_to_rich(**arguments)
