"""Small generated data for the tests of single families."""

import jax
import numpy as np

from tasks.base import SPLITS, TaskFamily


def random_images(image_shape, n=20, num_classes=10, seed=0):
    rng = np.random.default_rng(seed)
    return {
        split: {
            "image": rng.integers(0, 256, (n, *image_shape), np.uint8),
            "label": rng.integers(0, num_classes, n, np.int32),
        }
        for split in SPLITS
    }


def random_tokens(length, vocab_size, n=20):
    rng = np.random.default_rng(0)
    return {split: {"tokens": rng.integers(0, vocab_size, (n, length), np.uint8)} for split in SPLITS}


def num_params(family: TaskFamily) -> int:
    return sum(p.size for p in jax.tree.leaves(initial_shapes(family)))


def initial_shapes(family: TaskFamily):
    """Shapes and dtypes of the parameters of a task."""

    def init(data):
        key = jax.random.key(0)
        return family.task(family.sample(key), data).init(key)

    return jax.eval_shape(init, family.data)


def noisy(params, scale=0.1):
    """Parameters moved away from their start, so that no bias is zero and no scale one."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda p: (np.asarray(p) + scale * rng.normal(size=p.shape)).astype(p.dtype), params)
