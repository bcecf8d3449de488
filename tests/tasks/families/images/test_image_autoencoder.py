import jax
import numpy as np
import pytest

from tasks.families.images.image_autoencoder import image_autoencoder
from tests.tasks.generated_data import noisy, num_params, random_images


def test_loss_is_the_written_out_formula():
    data = random_images((3, 3, 2), n=4)
    family = image_autoencoder(data, (5, 2))
    task = family.task({}, data)
    params = noisy(jax.jit(task.init)(jax.random.key(0)))
    x = data["test"]["image"].reshape(4, 18) / 255
    h = x
    for layer in range(3):
        h = h @ params[f"Dense_{layer}"]["kernel"].astype(float) + params[f"Dense_{layer}"]["bias"]
        h = np.maximum(h, 0) if layer < 2 else 1 / (1 + np.exp(-h))
    batch = family.eval_batch(data, "test")
    np.testing.assert_allclose(jax.jit(task.loss)(params, jax.random.key(0), batch), ((h - x) ** 2).mean(), rtol=1e-5)
    np.testing.assert_allclose(jax.jit(task.metrics)(params, batch)["loss"], ((h - x) ** 2).mean(), rtol=1e-5)


def test_the_uninformed_loss_is_that_of_the_best_grey():
    data = random_images((3, 3, 1))
    pixels = data["train"]["image"] / 255
    greys = np.linspace(0, 1, 1001)
    best = min(((pixels - grey) ** 2).mean() for grey in greys)
    np.testing.assert_allclose(image_autoencoder(data).uninformed_loss, best, rtol=1e-4)


def test_number_of_parameters():
    assert num_params(image_autoencoder(random_images((8, 8, 1)), (32, 8, 32))) == 65 * 32 + 33 * 8 + 9 * 32 + 33 * 64


def test_bad_arguments():
    with pytest.raises(ValueError, match="hidden_sizes"):
        image_autoencoder(random_images((3, 3, 1)), ())
    data = random_images((3, 3, 1))
    data["train"]["image"][:] = 7
    with pytest.raises(ValueError, match="nothing to reconstruct"):
        image_autoencoder(data)
