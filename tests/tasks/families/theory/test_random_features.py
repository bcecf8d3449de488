import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.families.theory.random_features import features, random_features


def test_metrics_are_the_written_out_formulas():
    family = random_features(width=7, num_inputs=3, noise_std=0.5)
    config = family.sample(jax.random.key(0))
    task = family.task(config, family.data)
    params = {"a": jax.random.normal(jax.random.key(1), (7,))}
    batch = task.sample_batch(jax.random.key(2), "train", (9,))
    x, noise, u, w, a = (
        np.asarray(leaf, np.float64)
        for leaf in (batch["x"], batch["white_noise"], config["teacher"], config["directions"], params["a"])
    )
    np.testing.assert_allclose(np.linalg.norm(u), 1, rtol=1e-6)
    f = np.maximum(x @ w.T, 0) @ a / 7**0.5
    metrics = jax.jit(task.metrics)(params, batch)
    np.testing.assert_allclose(metrics["loss"], np.mean((f - x @ u - 0.5 * noise) ** 2), rtol=1e-5)
    np.testing.assert_allclose(metrics["excess_risk"], np.mean((f - x @ u) ** 2), rtol=1e-5)
    np.testing.assert_allclose(task.loss(params, jax.random.key(0), batch), metrics["loss"], rtol=1e-6)


def test_test_error_of_least_norm_interpolation_peaks_at_the_number_of_examples():
    """Double descent: solved in closed form at widths below, at and far above 64 examples, median over tasks."""
    medians = {}
    for width in (16, 64, 1024):
        family = random_features(width=width, noise_std=0.3, num_train=64)
        x, noise = (family.data["train"][leaf].astype(np.float64) for leaf in ("x", "white_noise"))
        batch = family.eval_batch(family.data, "test")
        errors = []
        for seed in range(5):
            config = family.sample(jax.random.key(seed))
            task = family.task(config, family.data)
            phi = np.asarray(features(config["directions"], jnp.asarray(x, jnp.float32)), np.float64)
            a = np.linalg.pinv(phi) @ (x @ np.asarray(config["teacher"], np.float64) + 0.3 * noise)
            params = {"a": jnp.asarray(a, jnp.float32)}
            errors.append(float(task.metrics(params, batch)["excess_risk"]))
            fits = task.metrics(params, family.eval_batch(family.data, "train"))["loss"]
            assert (fits < 1e-3) == (width >= 64)
        medians[width] = np.median(errors)
    assert medians[64] > 5 * medians[16] and medians[64] > 5 * medians[1024]
    assert medians[1024] < medians[16]


def test_a_constant_guess_costs_the_uninformed_loss():
    """Of 20,000 labels N(0, 1 + noise^2), whose mean square has a relative standard error of sqrt(2 / N)."""
    family = random_features(width=4, noise_std=0.7, num_train=20_000)
    task = family.task(family.sample(jax.random.key(0)), family.data)
    loss = task.loss({"a": jnp.zeros(4)}, jax.random.key(0), family.eval_batch(family.data, "train"))
    np.testing.assert_allclose(loss, family.uninformed_loss, rtol=4 * (2 / 20_000) ** 0.5)


@pytest.mark.parametrize("arguments, message", [({"width": 0}, "width=0"), ({"noise_std": -1.0}, "noise_std=-1.0")])
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        random_features(**arguments)
