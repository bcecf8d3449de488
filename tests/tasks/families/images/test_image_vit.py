import jax
import numpy as np
import pytest

from tasks.families.images.image_vit import ViT, image_vit
from tasks.networks.image_patches import cut_into_patches
from tests.tasks.generated_data import noisy, num_params, random_images


def test_patches_tile_the_image():
    images = np.arange(2 * 4 * 6 * 2, dtype=np.float32).reshape(2, 4, 6, 2)
    patches = jax.jit(cut_into_patches, static_argnums=1)(images, 2)
    assert patches.shape == (2, 6, 8)
    for n, i, j in np.ndindex(2, 2, 3):
        expected = images[n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].ravel()
        np.testing.assert_array_equal(patches[n, 3 * i + j], expected)


@pytest.mark.parametrize("patch, hidden, depth, ratio", [(2, 32, 2, 2), (4, 16, 1, 4)])
def test_number_of_parameters(patch, hidden, depth, ratio):
    family = image_vit(random_images((8, 8, 3)), patch, hidden, depth, 4, ratio)
    attention = 3 * hidden**2 + hidden**2 + hidden
    mlp = 2 * ratio * hidden**2 + ratio * hidden + hidden
    embedding = (3 * patch**2 + 1) * hidden + (8 // patch) ** 2 * hidden
    expected = embedding + depth * (attention + mlp + 4 * hidden) + 2 * hidden + 10 * (hidden + 1)
    assert num_params(family) == expected


def test_positions_are_what_tells_patches_apart():
    """Without positions the mean over tokens does not change when patches trade places."""
    model = ViT(2, 8, 1, 2, 2, 3, jax.nn.gelu)
    images = np.random.default_rng(0).uniform(size=(2, 4, 4, 1)).astype(np.float32)
    params = noisy(jax.jit(model.init)(jax.random.key(0), images)["params"])
    apply = jax.jit(model.apply)
    traded = np.roll(images, 2, axis=1)
    difference = apply({"params": params}, images) - apply({"params": params}, traded)
    assert np.abs(difference).max() > 1e-3
    params["positions"] = 0 * params["positions"]
    np.testing.assert_allclose(
        apply({"params": params}, images), apply({"params": params}, traded), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("arguments, message", [({"patch_size": 3}, "patch_size=3"), ({"num_heads": 5}, "num_heads=5")])
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        image_vit(random_images((8, 8, 1)), **arguments)
