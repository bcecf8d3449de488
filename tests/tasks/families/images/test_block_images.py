import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.base import SPLITS
from tasks.families.images.block_images import block_images, null_block, null_gradient_share, with_null_blocks
from tests.tasks.generated_data import random_images


def test_null_block_is_a_hollow_square():
    lines = ["".join(".#"[int(pixel > 0)] for pixel in row) for row in null_block(8, 8, 1)[..., 0]]
    assert lines == ["........", "........", "..####..", "..#..#..", "..#..#..", "..####..", "........", "........"]


def test_each_image_stands_beside_the_null_block_in_random_order():
    images = random_images((8, 6, 1), n=200)
    data = with_null_blocks(images)
    for split in SPLITS:
        first, rows = data[split]["null_first"], data[split]["image"]
        assert rows.shape == (200, 16, 6, 1) and rows.dtype == np.uint8 and 60 < first.sum() < 140
        np.testing.assert_array_equal(data[split]["label"], images[split]["label"])
        for image, row, is_first in zip(images[split]["image"], rows, first, strict=True):
            upper, lower = (row[8:], row[:8]) if is_first else (row[:8], row[8:])
            np.testing.assert_array_equal(upper, image)
            np.testing.assert_array_equal(lower, null_block(8, 6, 1))
    assert (data["train"]["null_first"] != data["test"]["null_first"]).any()


def test_share_of_a_linear_classifier_by_hand():
    """The gradient of the cross-entropy of logits W x is W^T (softmax - onehot)."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((2 * 4 * 3, 5))
    batch = {
        "image": jnp.asarray(rng.uniform(0, 1, (7, 8, 3, 1)), jnp.float32),
        "label": jnp.asarray(rng.integers(0, 5, 7), jnp.int32),
        "null_first": jnp.asarray([0, 1, 0, 1, 1, 0, 0], jnp.int32),
    }
    shares = []
    for image, label, first in zip(*(np.asarray(leaf) for leaf in batch.values()), strict=True):
        logits = image.ravel().astype(np.float64) @ weights
        p = np.exp(logits) / np.exp(logits).sum()
        gradient = np.abs(weights @ (p - np.eye(5)[label]))
        upper, lower = gradient[:12].sum(), gradient[12:].sum()
        shares.append((upper if first else lower) / (upper + lower))
    w = jnp.asarray(weights, jnp.float32)
    share = jax.jit(lambda batch: null_gradient_share(lambda images: images.reshape(len(images), -1) @ w, batch))
    np.testing.assert_allclose(share(batch), np.mean(shares), rtol=1e-4)
    # A classifier that reads the upper half only has all of its gradient there.
    upper_only = w.at[12:].set(0)
    of_upper = null_gradient_share(lambda images: images.reshape(len(images), -1) @ upper_only, batch)
    np.testing.assert_allclose(of_upper, 3 / 7, rtol=1e-6)
    assert null_gradient_share(lambda images: images.reshape(len(images), -1) @ (0 * w), batch) == 0


def test_number_of_parameters_and_bad_arguments():
    family = block_images(random_images((4, 4, 1)), (3,), num_classes=10)
    task = family.task({}, family.data)
    params = jax.jit(task.init)(jax.random.key(0))
    assert sum(p.size for p in jax.tree.leaves(params)) == 32 * 3 + 3 + 3 * 10 + 10
    assert set(jax.eval_shape(task.metrics, params, family.eval_batch(family.data, "test"))) == {
        "loss",
        "accuracy",
        "null_gradient_share",
    }
    with pytest.raises(ValueError, match="hidden_sizes"):
        block_images(random_images((4, 4, 1)), (0,))
