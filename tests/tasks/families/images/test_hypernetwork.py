import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tasks.base import SPLITS
from tasks.families.images.hypernetwork import encode_magnitude_invariant, hypernetwork, main_logits, predicted_weights
from tasks.suites.entry import fashion_mnist_8
from tests.tasks.training_curves import training_curves

HIDDEN, CLASSES = 3, 5


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return {
        split: {
            "image": rng.integers(0, 256, (12, 4, 4, 1), np.uint8),
            "label": rng.integers(0, CLASSES, 12, np.int32),
        }
        for split in SPLITS
    }


def start(images, parametrisation):
    family = hypernetwork(images, parametrisation, HIDDEN, hyper_hidden=4, num_classes=CLASSES)
    task = family.task({}, family.data)
    return family, task, jax.jit(task.init)(jax.random.key(0))


def test_encoding_has_norm_one():
    g = jnp.linspace(0, 1, 11)
    encoding = encode_magnitude_invariant(g)
    np.testing.assert_allclose(jnp.linalg.norm(encoding, axis=-1), 1, rtol=1e-6)
    np.testing.assert_allclose(encoding[jnp.array([0, 5, 10])], [[1, 0], [0.5**0.5, 0.5**0.5], [0, 1]], atol=1e-6)


def test_predicted_weights_are_proportional_to_g_in_the_plain_form_only(images):
    """With the zero biases of the start: LeakyReLU is positively homogeneous."""
    g = jnp.array([0.1, 0.4, 0.8])
    predict = jax.jit(predicted_weights)
    plain = predict(start(images, "plain")[2], g)
    np.testing.assert_allclose(plain[1:], plain[:-1] * (g[1:] / g[:-1])[:, None], rtol=1e-5)
    params = start(images, "mip")[2]
    mip = predict(params, g)
    norms = jnp.linalg.norm(mip, axis=-1)
    assert norms.max() / norms.min() < 1.5
    change = predict(params | {"main_weights": jnp.zeros_like(params["main_weights"])}, g)
    np.testing.assert_allclose(mip - change, jnp.broadcast_to(params["main_weights"], mip.shape), atol=1e-6)


@pytest.mark.parametrize("parametrisation", ["mip", "plain"])
def test_loss_and_metrics_are_the_written_out_formulas(images, parametrisation):
    family, task, params = start(images, parametrisation)
    keys = iter(jax.random.split(jax.random.key(1), len(params)))
    params = {name: p + 0.5 * jax.random.normal(next(keys), p.shape) for name, p in params.items()}
    batch = family.eval_batch(family.data, "test")
    w = {name: np.asarray(p, np.float64) for name, p in params.items()}

    def probabilities(image, g):
        inputs = [np.cos(np.pi * g / 2), np.sin(np.pi * g / 2)] if parametrisation == "mip" else [g]
        h = np.asarray(inputs) @ w["hyper_in"] + w["hyper_in_bias"]
        flat = np.where(h > 0, h, 0.01 * h) @ w["hyper_out"] + w["hyper_out_bias"] + w.get("main_weights", 0.0)
        into, into_bias, out, out_bias = np.split(flat, np.cumsum([16 * HIDDEN, HIDDEN, HIDDEN * CLASSES]))
        units = np.maximum(image.ravel() @ into.reshape(16, HIDDEN) + into_bias, 0)
        logits = units @ out.reshape(HIDDEN, CLASSES) + out_bias
        return np.exp(logits) / np.exp(logits).sum()

    losses, hits, distances = [], [], []
    for image, label, g in zip(*(np.asarray(batch[leaf]) for leaf in ("image", "label", "g")), strict=True):
        p, eps = probabilities(image, g), g / 2
        losses.append(-(1 - eps) * np.log(p[label]) - eps * np.log(p).mean())
        hits.append(p.argmax() == label)
        distances.append(abs(probabilities(image, 1.0) - probabilities(image, 0.0)).sum() / 2)
    metrics = jax.jit(task.metrics)(params, batch)
    np.testing.assert_allclose(jax.jit(task.loss)(params, jax.random.key(0), batch), np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(metrics["accuracy"], np.mean(hits), rtol=1e-6)
    np.testing.assert_allclose(metrics["sensitivity"], np.mean(distances), rtol=1e-4)
    assert metrics["sensitivity"] > 0.01


def test_sensitivity_is_zero_where_g_is_ignored_and_loss_ln_c_for_a_uniform_guess(images):
    family, task, params = start(images, "mip")
    batch = family.eval_batch(family.data, "test")
    ignored = task.metrics(params | {"hyper_in": jnp.zeros_like(params["hyper_in"])}, batch)
    np.testing.assert_allclose(ignored["sensitivity"], 0, atol=1e-7)
    uniform = task.metrics(jax.tree.map(jnp.zeros_like, params), batch)
    np.testing.assert_allclose(uniform["loss"], family.uninformed_loss, rtol=1e-6)
    np.testing.assert_allclose(family.uninformed_loss, math.log(CLASSES))


def test_each_example_has_its_own_weights():
    weights = jax.random.normal(jax.random.key(0), (3, 16 * HIDDEN + HIDDEN + HIDDEN * CLASSES + CLASSES))
    images = jax.random.uniform(jax.random.key(1), (3, 4, 4, 1))
    logits = jax.jit(lambda weights, images: main_logits(weights, images, HIDDEN, CLASSES))
    together = logits(weights, images)
    for i in range(3):
        alone = logits(weights[i : i + 1], images[i : i + 1])
        np.testing.assert_allclose(together[i], alone[0], rtol=1e-4, atol=1e-5)


def test_hyper_parameters_are_uniform_and_new_in_each_batch(images):
    family, task, _ = start(images, "mip")
    g = task.sample_batch(jax.random.key(0), "train", (4000,))["g"]
    assert 0 <= g.min() and g.max() < 1
    # The standard error of the mean is 0.005, that of the standard deviation 0.002.
    np.testing.assert_allclose([g.mean(), g.std()], [0.5, 12**-0.5], atol=0.02)
    assert set(family.data["test"]) == {"image", "label", "g"} and "g" not in images["test"]


def test_directly_trained_weights_start_as_an_ordinary_network():
    """LeCun normal with zero biases: standard deviations 1/8 of 64 pixels, 1/10 of 100 units."""
    rng = np.random.default_rng(0)
    split = {"image": rng.integers(0, 256, (2, 8, 8, 1), np.uint8), "label": np.zeros(2, np.int32)}
    family = hypernetwork(dict.fromkeys(SPLITS, split), hidden=100, hyper_hidden=2)
    weights = jax.jit(family.task({}, family.data).init)(jax.random.key(0))["main_weights"]
    into, into_bias, out, out_bias = np.split(weights, np.cumsum([6400, 100, 1000]))
    # The standard error of a standard deviation from n draws is 1 / sqrt(2 n) of it.
    np.testing.assert_allclose([8 * into.std(), 10 * out.std()], [1, 1], atol=0.08)
    assert not into_bias.any() and not out_bias.any()


@pytest.mark.parametrize("parametrisation, num_inputs, num_trained_directly", [("mip", 2, 71), ("plain", 1, 0)])
def test_number_of_parameters(images, parametrisation, num_inputs, num_trained_directly):
    params = start(images, parametrisation)[2]
    # The main network has 16 * 3 + 3 + 3 * 5 + 5 = 71 weights.
    expected = num_inputs * 4 + 4 + 4 * 71 + 71 + num_trained_directly
    assert sum(p.size for p in params.values()) == expected


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"hidden": 0}, "hidden=0"),
        ({"hyper_hidden": 0}, "hyper_hidden=0"),
        ({"num_classes": 1}, "num_classes=1"),
    ],
)
def test_bad_arguments(images, arguments, message):
    with pytest.raises(ValueError, match=message):
        hypernetwork(images, **arguments)


@pytest.mark.slow
def test_the_magnitude_invariant_form_trains_where_the_plain_one_does_not():
    """At one learning rate of gradient descent with momentum: the published comparison, in direction."""
    falls = {}
    for parametrisation in ("mip", "plain"):
        family = hypernetwork(fashion_mnist_8(), parametrisation)
        losses = training_curves(family, optax.sgd(0.01, momentum=0.9), 200, 200, batch_size=32)["train"]["loss"]
        falls[parametrisation] = family.uninformed_loss - losses[-1]
    assert falls["mip"] > 0.6
    assert falls["plain"] < 0.4 * falls["mip"]
