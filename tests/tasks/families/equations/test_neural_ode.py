import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg

from tasks.base import SPLITS
from tasks.families.equations.neural_ode import bogacki_shampine_step, neural_ode, solve, spirals
from tests.tasks.generated_data import noisy
from tests.tasks.training_curves import training_curves


def test_the_solver_is_of_third_order_with_an_estimate_of_second_order():
    """dz/dt = A z: the error at t = 1 falls as h^3, and so does the estimate, the error of one step of order two."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        matrix = rng.standard_normal((3, 3))
        z = jnp.asarray(rng.standard_normal((2, 3)))
        exact = np.asarray(z) @ scipy.linalg.expm(matrix).T
        errors, estimates = [], []
        for num_steps in (16, 32):
            end, found = jax.jit(lambda z, n=num_steps: solve(lambda z, t: z @ matrix.T, z, n))(z)
            errors.append(np.abs(end - exact).max())
            estimates.append(found.mean())
        np.testing.assert_allclose(np.log2([errors[0] / errors[1], estimates[0] / estimates[1]]), 3, atol=0.15)


def test_one_step_on_powers_of_time():
    """dz/dt = t^k from 0 to h: exact up to k = 2; the answer of second order up to k = 1, then off by h^3 / 24."""
    with jax.enable_x64(True):
        zero, start, h = jnp.zeros((1, 1)), jnp.zeros(()), 0.5
        for power in range(3):

            def field(z, t, power=power):
                return jnp.full_like(z, 1.0) * t**power

            end, slope, difference = bogacki_shampine_step(field, zero, field(zero, start), start, h)
            np.testing.assert_allclose(end, h ** (power + 1) / (power + 1), rtol=1e-12)
            np.testing.assert_allclose(slope, h**power, rtol=1e-12)
            np.testing.assert_allclose(difference, -(h**3) / 24 if power == 2 else 0, rtol=1e-12, atol=1e-15)


def start(regularisation):
    family = neural_ode(regularisation, penalty=2.0, num_steps=3, width=4)
    task = family.task({}, family.data)
    return family, task, noisy(jax.jit(task.init)(jax.random.key(0)), 0.7)


def by_hand(params, batch):
    """Margins, and the estimates of each step and example; NumPy float64."""
    w = {name: np.asarray(p, np.float64) for name, p in params.items()}
    x, label = np.asarray(batch["x"], np.float64), np.asarray(batch["label"])

    def field(z, t):
        h = np.tanh(np.append(z, t) @ w["field_in"] + w["field_in_bias"])
        return h @ w["field_out"] + w["field_out_bias"]

    margins, errors = [], []
    for point, y in zip(x, label, strict=True):
        z, estimates, h = np.append(point, [0, 0]), [], 1 / 3
        for j in range(3):
            t = j / 3
            k1 = field(z, t)
            k2 = field(z + h / 2 * k1, t + h / 2)
            k3 = field(z + 3 * h / 4 * k2, t + 3 * h / 4)
            third = z + h * (2 * k1 + 3 * k2 + 4 * k3) / 9
            second = z + h * (7 / 24 * k1 + k2 / 4 + k3 / 3 + field(third, t + h) / 8)
            estimates.append(np.sqrt(np.mean((third - second) ** 2)))
            z = third
        margins.append(y * (z @ w["readout"][:, 0] + w["readout_bias"][0]))
        errors.append(estimates)
    return np.asarray(margins), np.asarray(errors).T


@pytest.mark.parametrize("regularisation", ["none", pytest.param("global", marks=pytest.mark.slow), "local"])
def test_loss_and_metrics_are_the_written_out_formulas(regularisation):
    family, task, params = start(regularisation)
    batch = task.sample_batch(jax.random.key(1), "train", (6,))
    margins, errors = by_hand(params, batch)
    plain = np.log1p(np.exp(-margins)).mean()
    weight = 0 if regularisation == "none" else 2.0
    metrics = jax.jit(task.metrics)(params, batch)
    np.testing.assert_allclose(metrics["loss"], plain + weight * errors.mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["solver_error"], errors.mean(), rtol=1e-3)
    np.testing.assert_allclose(metrics["accuracy"], (margins > 0).mean(), rtol=1e-6)
    keys = jax.random.split(jax.random.key(2), 40)
    losses = jax.jit(jax.vmap(task.loss, (None, 0, None)))(params, keys, batch)
    if regularisation == "local":
        # One step's error at a time: over the keys every step comes, and their mean is the metrics' loss.
        each = plain + weight * errors.mean(axis=1)
        assert len(np.unique(np.round(losses, 5))) == 3
        np.testing.assert_allclose(np.unique(np.round(losses, 5)), np.sort(each), rtol=1e-3)
        np.testing.assert_allclose(each.mean(), metrics["loss"], rtol=1e-4)
    else:
        np.testing.assert_allclose(losses, np.broadcast_to(metrics["loss"], 40), rtol=1e-5)


@pytest.mark.slow
def test_regularisation_makes_the_flow_easier_to_solve():
    """All three separate the spirals; a penalised flow errs less by far."""
    ends = {}
    for regularisation in ("none", "local", "global"):
        curves = training_curves(neural_ode(regularisation), optax.adam(0.01), 200, 200, batch_size=32)["test"]
        assert curves["accuracy"][-1] > 0.98
        ends[regularisation] = curves["solver_error"][-1]
    assert ends["local"] < 0.3 * ends["none"] and ends["global"] < 0.3 * ends["none"]


def test_spirals_are_two_arms():
    data = spirals()
    for split in SPLITS:
        x, label = data[split]["x"].astype(np.float64), data[split]["label"]
        assert label.sum() == 0 and x.shape[1] == 2
        # Turned back by its radius, a point lies on its own arm's side.
        radius = np.linalg.norm(x, axis=1) / 1.5
        angle = np.arctan2(x[:, 1], x[:, 0]) - 1.5 * np.pi * radius
        assert (np.sign(np.cos(angle)) == label).mean() > 0.99
    assert not np.isin(data["test"]["x"][:, 0], data["train"]["x"][:, 0]).all()


@pytest.mark.parametrize("arguments", [{"penalty": 0.0}, {"num_steps": 0}, {"width": 0}])
def test_bad_arguments(arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        neural_ode(**arguments)
