import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from tasks.base import SPLITS
from tasks.families.images.image_mlp import image_mlp
from tasks.networks.classification import cross_entropy


def random_data(image_shape, n=20):
    rng = np.random.default_rng(0)
    return {
        split: {
            "image": rng.integers(0, 256, (n, *image_shape), np.uint8),
            "label": rng.integers(0, 10, n, np.int32),
        }
        for split in SPLITS
    }


@pytest.mark.parametrize(
    "image_shape, hidden_sizes, num_parameters",
    [((8, 8, 1), (32,), 2_410), ((28, 28, 1), (128, 128), 118_282), ((8, 8, 1), (), 650)],
)
def test_number_of_parameters(image_shape, hidden_sizes, num_parameters):
    family = image_mlp(random_data(image_shape), hidden_sizes)
    params = jax.eval_shape(family.task({}, family.data).init, jax.random.key(0))
    assert sum(p.size for p in jax.tree.leaves(params)) == num_parameters
    assert {p.dtype for p in jax.tree.leaves(params)} == {jnp.dtype("float32")}


def test_loss_is_the_written_out_formula():
    family = image_mlp(random_data((4, 4, 1)), (5, 3))
    task = family.task({}, family.data)
    params = jax.jit(task.init)(jax.random.key(0))
    flat, unravel = ravel_pytree(params)
    params = unravel(flat + 0.1 * jax.random.normal(jax.random.key(1), flat.shape))
    batch = jax.jit(lambda key: task.sample_batch(key, "train", (7,)))(jax.random.key(2))
    h = np.asarray(batch["image"], np.float64).reshape(7, 16)
    layers = [jax.tree.map(lambda p: np.asarray(p, np.float64), params[k]) for k in sorted(params)]
    for i, layer in enumerate(layers):
        h = h @ layer["kernel"] + layer["bias"]
        h = np.maximum(h, 0) if i < 2 else h
    probability = np.exp(h) / np.exp(h).sum(-1, keepdims=True)
    labels = np.asarray(batch["label"])
    metrics = jax.jit(task.metrics)(params, batch)
    expected = -np.log(probability[np.arange(7), labels]).mean()
    np.testing.assert_allclose(task.loss(params, jax.random.key(0), batch), expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["accuracy"], (probability.argmax(-1) == labels).mean())


def test_initialisation_is_lecun_normal_with_zero_biases():
    family = image_mlp(random_data((28, 28, 1)), (512,))
    params = jax.jit(family.task({}, family.data).init)(jax.random.key(0))
    weights = params["Dense_0"]["kernel"]
    # 401,408 draws: the standard error of the standard deviation is 0.1 %.
    np.testing.assert_allclose(weights.std(), 784**-0.5, rtol=0.01)
    assert abs(weights).max() < 2.3 * 784**-0.5
    assert all((params[name]["bias"] == 0).all() for name in params)


def test_cross_entropy_stands_large_logits():
    logits = jnp.array([[1e4, 0.0], [-1e4, 1e4]])
    loss, grad = jax.value_and_grad(lambda z: cross_entropy(z, jnp.array([1, 1])).sum())(logits)
    np.testing.assert_allclose(loss, 1e4)
    assert jnp.isfinite(grad).all()


@pytest.mark.parametrize(
    "arguments, message",
    [({"hidden_sizes": (0,)}, r"hidden_sizes=\(0,\)"), ({"num_classes": 1}, "num_classes=1")],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        image_mlp(random_data((4, 4, 1)), **arguments)
