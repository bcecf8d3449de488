import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.families.images.ghost_norm_mlp import GhostNormMLP, ghost_norm_mlp, normalise_ghost_batches
from tests.tasks.generated_data import noisy, num_params, random_images


def batch_norm(h):
    return (h - h.mean(0)) / np.sqrt(h.var(0) + 1e-5)


@pytest.mark.parametrize("batch, ghost_size, num_ghosts", [(12, 4, 3), (11, 4, 2), (6, 16, 1), (7, 2, 3)])
def test_each_ghost_batch_is_normalised_by_itself(batch, ghost_size, num_ghosts):
    h = np.random.default_rng(0).normal(3, 2, (batch, 5))
    expected = np.zeros_like(h)
    for ghost in range(num_ghosts):
        expected[ghost::num_ghosts] = batch_norm(h[ghost::num_ghosts])
    found = jax.jit(normalise_ghost_batches, static_argnums=1)(jnp.asarray(h, jnp.float32), ghost_size)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_network_is_the_written_out_formula_and_a_ghost_batch_knows_nothing_of_the_others():
    model = GhostNormMLP((4, 3, 5), 8, jax.nn.relu)
    images = jax.random.uniform(jax.random.key(0), (16, 4, 4, 1))
    params = noisy(jax.jit(model.init)(jax.random.key(1), images)["params"], 0.5)
    apply = jax.jit(lambda images: model.apply({"params": params}, images))
    logits = apply(images)
    np.testing.assert_allclose(logits[1::2], apply(images[1::2]), rtol=1e-4, atol=1e-5)
    w = jax.tree.map(lambda p: np.asarray(p, np.float64), params)
    h = np.asarray(images[::2], np.float64).reshape(8, -1)
    for layer in range(2):
        h = batch_norm(h @ w[f"Dense_{layer}"]["kernel"])
        h = np.maximum(h * w[f"scale_{layer}"] + w[f"bias_{layer}"], 0)
    np.testing.assert_allclose(logits[::2], h @ w["Dense_2"]["kernel"] + w["Dense_2"]["bias"], rtol=1e-3, atol=1e-4)


def test_number_of_parameters():
    assert num_params(ghost_norm_mlp(random_images((4, 4, 1)), (3, 5))) == (16 * 3 + 6) + (3 * 5 + 10) + 60


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"hidden_sizes": ()}, "hidden_sizes="),
        ({"hidden_sizes": (0,)}, "hidden_sizes="),
        ({"ghost_size": 1}, "ghost_size=1"),
        ({"num_classes": 1}, "num_classes=1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ghost_norm_mlp(random_images((4, 4, 1)), **arguments)
