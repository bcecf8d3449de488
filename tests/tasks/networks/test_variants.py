import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.families.images.image_mlp import MLP, image_mlp
from tasks.networks.variants import ACTIVATIONS, PLAIN, Variants, draw_rows, sample_config
from tests.tasks.generated_data import noisy, random_images

VARIANTS = Variants(("relu", "tanh", "gelu"), (0.5, 2.0))


def test_what_does_not_differ_is_not_in_the_configuration():
    key = jax.random.key(0)

    def drawn(variants, num_datasets=1):
        return set(jax.eval_shape(lambda key: sample_config(key, variants, num_datasets), key))

    assert drawn(PLAIN) == drawn(Variants(activations=("tanh",))) == set()
    assert drawn(Variants(init_scale=(0.5, 2.0))) == {"init_scale"}
    assert drawn(VARIANTS, 3) == {"activation", "init_scale", "dataset"}


def test_draws_are_uniform_and_the_scale_is_log_uniform():
    n = 4000
    keys = jax.random.split(jax.random.key(0), n)
    config = jax.jit(jax.vmap(lambda key: sample_config(key, VARIANTS, num_datasets=3)))(keys)
    for name in ("activation", "dataset"):
        counts = np.bincount(config[name], minlength=3)
        # Five standard deviations of a binomial count.
        assert counts.shape == (3,) and (abs(counts - n / 3) < 5 * math.sqrt(n * 2 / 9)).all()
    exponent = np.log2(config["init_scale"])
    assert exponent.min() >= -1.001 and exponent.max() <= 1.001
    np.testing.assert_allclose(exponent.mean(), 0, atol=5 / math.sqrt(3 * n))
    np.testing.assert_allclose(exponent.std(), 1 / math.sqrt(3), rtol=0.05)


def test_the_drawn_activation_is_the_networks():
    data = random_images((4, 4, 1))
    drawn = image_mlp(data, (5, 3), variants=VARIANTS)
    singles = [image_mlp(data, (5, 3), variants=Variants(activations=(name,))) for name in VARIANTS.activations]
    params = noisy(jax.jit(singles[0].task({}, data).init)(jax.random.key(1)))
    batch = drawn.eval_batch(data, "test")

    @jax.jit
    def losses(params, batch, index):
        config = {"activation": index, "init_scale": jnp.float32(1)}
        of_index = drawn.task(config, data).loss(params, jax.random.key(0), batch)
        return of_index, jnp.stack([single.task({}, data).loss(params, jax.random.key(0), batch) for single in singles])

    for i in range(3):
        loss, expected = losses(params, batch, jnp.int32(i))
        np.testing.assert_allclose(loss, expected[i], rtol=1e-6)
        assert np.unique(expected).size == 3


def test_the_scale_multiplies_weights_and_not_biases():
    data = random_images((4, 4, 1))
    plain, scaled = image_mlp(data, (5,)), image_mlp(data, (5,), variants=Variants(init_scale=(1.0, 2.0)))

    @jax.jit
    def both(key):
        return plain.task({}, data).init(key), scaled.task({"init_scale": jnp.float32(1.7)}, data).init(key)

    expected, params = both(jax.random.key(1))
    for layer, leaves in expected.items():
        np.testing.assert_allclose(params[layer]["kernel"], 1.7 * leaves["kernel"], rtol=1e-6)
        np.testing.assert_array_equal(params[layer]["bias"], leaves["bias"])


def test_the_plain_start_is_what_it_was():
    """flax's own initialisation from the same key, bit by bit."""
    data = random_images((8, 8, 1))
    task = image_mlp(data, (32,)).task({}, data)
    model = MLP((32, 10))
    images = jnp.zeros((1, 8, 8, 1))
    params, expected = jax.jit(lambda key: (task.init(key), model.init(key, images)["params"]))(jax.random.key(5))
    jax.tree.map(np.testing.assert_array_equal, params, expected)


def test_rows_are_those_of_the_drawn_dataset():
    config = {"dataset": jnp.int32(2)}
    index = np.asarray(draw_rows(jax.random.key(0), (500,), 12, config, 3))
    assert set(index.tolist()) == {2, 5, 8, 11}


def test_activations_are_finite_far_out():
    x = jnp.array([-1e4, -1.0, 0.0, 1.0, 1e4])

    @jax.jit
    def values_and_slopes(x):
        return {name: jax.vmap(jax.value_and_grad(activation))(x) for name, activation in ACTIVATIONS.items()}

    for name, (value, slope) in values_and_slopes(x).items():
        assert np.isfinite(value).all() and np.isfinite(slope).all(), name


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"activations": ("relu", "swish")}, "swish"),
        ({"init_scale": (0.0, 1.0)}, r"init_scale=\(0.0, 1.0\)"),
        ({"init_scale": (2.0, 1.0)}, r"init_scale=\(2.0, 1.0\)"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Variants(**arguments)
