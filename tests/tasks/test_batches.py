"""Indices and images of minibatches: in range, nearly uniform within the stated bound, those that were asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.batches import MAX_EXAMPLES, draw_indices, gather_images, sample_images


@pytest.mark.parametrize("n", [1, 10, 48_000, MAX_EXAMPLES])
def test_indices_lie_in_range(n):
    index = draw_indices(jax.random.key(0), (100_000,), n)
    assert index.dtype == jnp.int32 and index.min() >= 0 and index.max() < n


def test_the_largest_uniform_does_not_leave_the_range(monkeypatch):
    largest = jnp.float32(1 - 2**-23)
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape, dtype: jnp.full(shape, largest))
    for n in (1, 2, 3, 6_000, 48_000, 60_000, MAX_EXAMPLES - 1, MAX_EXAMPLES):
        assert draw_indices(jax.random.key(0), (1,), n)[0] == n - 1


def test_indices_are_uniform_within_the_stated_bound():
    """Chi-squared over the 10 values: mean 9, standard deviation sqrt(18), bound at 5
    deviations."""
    draws = 1_000_000
    counts = np.bincount(draw_indices(jax.random.key(1), (draws,), 10), minlength=10)
    chi_squared = ((counts - draws / 10) ** 2 / (draws / 10)).sum()
    assert chi_squared < 9 + 5 * 18**0.5


@pytest.mark.parametrize("n", [3, 48_000, 1_000_003])
def test_every_value_of_the_uniform_hits_each_index_about_equally_often(monkeypatch, n):
    """The bias bound, exactly: the function is given all 2^23 values that a uniform can take."""
    values = jnp.arange(2**23, dtype=jnp.float32) * jnp.float32(2**-23)
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape, dtype: values.reshape(shape))
    index = draw_indices(jax.random.key(0), (2**23,), n)
    probability = np.bincount(index, minlength=n) / 2**23
    assert abs(probability * n - 1).max() <= n / 2**22


@pytest.mark.parametrize("n", [0, MAX_EXAMPLES + 1])
def test_bad_number_of_examples(n):
    with pytest.raises(ValueError, match=f"n={n} examples"):
        draw_indices(jax.random.key(0), (1,), n)


@pytest.mark.parametrize("image_shape", [(8, 8, 1), (3, 3, 1), (4, 4, 3), (5,)])
@pytest.mark.parametrize("index_shape", [(), (6,), (2, 3)])
def test_gather_is_plain_indexing(image_shape, index_shape):
    images = np.random.default_rng(0).integers(0, 256, (11, *image_shape), np.uint8)
    index = np.random.default_rng(1).integers(0, 11, index_shape, np.int32)
    found = jax.jit(gather_images)(images, index)
    assert found.dtype == jnp.uint8
    np.testing.assert_array_equal(found, images[index])


def test_images_stay_with_their_labels_and_are_scaled():
    labels = np.arange(200, dtype=np.int32)
    images = np.broadcast_to(labels.astype(np.uint8)[:, None, None, None], (200, 2, 2, 1))
    batch = sample_images(jax.random.key(0), {"image": images, "label": labels}, (50, 2))
    pixels = np.asarray(batch["label"])[..., None, None, None] / 255
    np.testing.assert_allclose(batch["image"], np.broadcast_to(pixels, (50, 2, 2, 2, 1)), rtol=1e-6)
    assert len(np.unique(batch["label"])) > 50
