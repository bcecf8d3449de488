import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tasks.families.images.width_mlp import width_mlp
from tasks.suites.entry import fashion_mnist_8
from tests.tasks.generated_data import noisy, num_params, random_images
from tests.tasks.training_curves import training_curves


def initial(width, parametrisation, key=0):
    family = width_mlp(random_images((8, 8, 1)), width, parametrisation)
    task = family.task({}, family.data)
    return family, task, jax.jit(task.init)(jax.random.key(key))


def test_the_parametrisations_agree_at_the_base_width():
    (family, mup, params), (_, standard, same) = (initial(32, kind) for kind in ("mup", "standard"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), params, same)
    params, batch = noisy(params), family.eval_batch(family.data, "test")
    losses = [jax.jit(task.loss)(params, jax.random.key(0), batch) for task in (mup, standard)]
    np.testing.assert_allclose(*losses, rtol=1e-6)


@pytest.mark.parametrize(
    "parametrisation, multiplier", [("mup", 0.25), pytest.param("standard", 1.0, marks=pytest.mark.slow)]
)
def test_loss_and_initial_scales_are_the_written_out_formulas(parametrisation, multiplier):
    family, task, params = initial(128, parametrisation)
    # The standard error of a standard deviation from n numbers is 1 / sqrt(2 n) of it.
    found = [params["input"].std() * 8, params["hidden"].std(), params["output"].std()]
    expected = {"mup": [1, 128**0.5 / 32, 32**-0.5], "standard": [1, 128**-0.5, 128**-0.5]}[parametrisation]
    np.testing.assert_allclose(found, expected, rtol=0.07)
    batch = family.eval_batch(family.data, "test")
    w = {name: np.asarray(p, np.float64) for name, p in noisy(params).items()}
    h = np.asarray(batch["image"], np.float64).reshape(20, -1)
    h = np.maximum(h @ w["input"] + w["input_bias"], 0)
    h = np.maximum(multiplier * (h @ w["hidden"]) + w["hidden_bias"], 0)
    logits = multiplier * (h @ w["output"]) + w["output_bias"]
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(20), np.asarray(batch["label"])]
    loss = jax.jit(task.loss)(jax.tree.map(jnp.asarray, noisy(params)), jax.random.key(0), batch)
    np.testing.assert_allclose(loss, losses.mean(), rtol=1e-4)


@pytest.mark.slow
def test_one_step_of_fixed_size_moves_logits_as_much_at_every_width_in_mup_alone():
    """Signs of the gradient, as Adam's first step. The change of the logits per step grows with the width in the
    standard parametrisation, where n correlated changes of the same size add up in every layer."""
    changes = {}
    for kind in ("mup", "standard"):
        for width in (64, 1024):
            family, task, params = initial(width, kind)
            batch = family.eval_batch(family.data, "test")

            @jax.jit
            def change(params, task=task, batch=batch):
                gradient = jax.grad(task.loss)(params, jax.random.key(0), batch)
                moved = jax.tree.map(lambda p, g: p - 1e-4 * jnp.sign(g), params, gradient)
                return task.loss(params, jax.random.key(0), batch) - task.loss(moved, jax.random.key(0), batch)

            changes[kind, width] = float(change(params))
    assert 0.5 < changes["mup", 1024] / changes["mup", 64] < 2
    assert changes["standard", 1024] / changes["standard", 64] > 5


@pytest.mark.slow
def test_the_best_rate_stays_put_in_mup_and_moves_in_the_standard_parametrisation():
    """Training loss after 200 batches of 64 over Adam's learning rates, at 16 and at 256 hidden units."""
    rates = [2.0**k for k in range(-10, -3)]
    images, losses = fashion_mnist_8(), {}
    for kind in ("mup", "standard"):
        for width in (16, 256):
            curves = training_curves(width_mlp(images, width, kind), optax.adam(1.0), 200, 200, 64, rates=rates)
            losses[kind, width] = np.nan_to_num(curves["train"]["loss"][:, -1], nan=np.inf)
    best = {case: loss.argmin() for case, loss in losses.items()}
    assert abs(best["mup", 16] - best["mup", 256]) <= 1
    assert best["standard", 16] - best["standard", 256] >= 2
    # Wider is better at the narrow network's own rate.
    assert losses["mup", 256][best["mup", 16]] < losses["mup", 16].min()


def test_number_of_parameters():
    assert num_params(width_mlp(random_images((4, 4, 1)), 6)) == 16 * 6 + 6 + 36 + 6 + 60 + 10


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"width": 0}, "width=0"),
        ({"base_width": 0}, "base_width=0"),
        ({"num_classes": 1}, "num_classes=1"),
        ({"parametrisation": "ntk"}, "parametrisation='ntk': use one of mup, standard"),
    ],
)
def test_bad_arguments(arguments, message, unchecked_annotations):
    with pytest.raises(ValueError, match=message):
        width_mlp(random_images((4, 4, 1)), **arguments)
