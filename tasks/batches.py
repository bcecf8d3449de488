"""Drawing minibatches on the device, inside a jitted scan.

Where the inner problem is small, drawing the data is a large part of a step, so both halves are
written for speed. Measured on two CPU cores for 4,096 images of 8x8: indices from one uniform draw
take a quarter of the time of `jax.random.randint`, which draws two words for each index and reduces
them with several integer divisions; and reading images as 32-bit words takes 0.6 of the time of
reading single bytes, because XLA's gather works element by element.

The price is a bias: a float32 uniform is a multiple of 2^-23, so the probability of an index
differs from 1/n by at most a factor 1 +- n / 2^22 (rounding of the product included), 1.2 % for
n = 48,000.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8

from tasks.base import Batch, Data

MAX_EXAMPLES = 2**21


def draw_indices(key: Key[Array, ""], shape: tuple[int, ...], n: int) -> Int[Array, "..."]:
    """Indices in [0, n), independent and nearly uniform (see the bound above).

    Raises:
      ValueError: if n is not in [1, 2^21], beyond which the bias exceeds a half.
    """
    if not 1 <= n <= MAX_EXAMPLES:
        raise ValueError(f"n={n} examples in the split: use between 1 and {MAX_EXAMPLES}")
    # The product may round up to n.
    uniform = jax.random.uniform(key, shape, jnp.float32)
    return jnp.minimum((uniform * n).astype(jnp.int32), n - 1)


def gather_images(images: UInt8[Array, "n *image"], index: Int[Array, "*batch"]) -> UInt8[Array, "..."]:
    """`images[index]`, read in words of four bytes where the size of an image allows it."""
    n, *image_shape = images.shape
    flat = images.reshape(n, -1)
    if flat.shape[1] % 4:
        rows = flat[index]
    else:
        # Inside a scan XLA hoists this reinterpretation out of the loop. The barrier keeps it from
        # fusing the gather into the conversion, which would read every word four times.
        words = jax.lax.bitcast_convert_type(flat.reshape(n, -1, 4), jnp.uint32)
        rows = jax.lax.bitcast_convert_type(jax.lax.optimization_barrier(words[index]), jnp.uint8)
    return rows.reshape(*index.shape, *image_shape)


def to_unit_interval(images: UInt8[Array, "..."]) -> Float[Array, "..."]:
    """uint8 -> float32 in [0, 1]."""
    return images.astype(jnp.float32) * (1 / 255)


def sample_images(key: Key[Array, ""], examples: Mapping[str, Any], batch_shape: tuple[int, ...]) -> Batch:
    """Draws with replacement from one split `{"image": uint8[N, ...], "label": int32[N]}`.

    Images become float32 right after the gather: keeping the batch as bytes until the loss needs
    them was slower.
    """
    return images_at(examples, draw_indices(key, batch_shape, examples["image"].shape[0]))


def images_at(examples: Mapping[str, Any], index: Int[Array, "*batch"]) -> Batch:
    """The rows `index` of one split; images as float32 in [0, 1], every other leaf as it is stored."""
    image = to_unit_interval(gather_images(jnp.asarray(examples["image"]), index))
    return {"image": image} | {name: jnp.asarray(leaf)[index] for name, leaf in examples.items() if name != "image"}


def sample_rows(key: Key[Array, ""], examples: Mapping[str, Any], batch_shape: tuple[int, ...]) -> Batch:
    """Draws rows with replacement from one split `{leaf: [N, ...]}`, leaves as they are stored."""
    index = draw_indices(key, batch_shape, len(next(iter(examples.values()))))
    return {name: jnp.asarray(leaf)[index] for name, leaf in examples.items()}


def whole_rows(data: Data, split: str) -> Batch:
    """The whole split as one batch, leaves as they are stored.

    Raises:
      ValueError: unknown split.
    """
    return {name: jnp.asarray(leaf) for name, leaf in split_of(data, split).items()}


def whole_split(data: Data, split: str) -> Batch:
    """The whole split as one batch, leaves [N, ...], in the order of the dataset.

    Raises:
      ValueError: unknown split.
    """
    rows = whole_rows(data, split)
    return rows | {"image": to_unit_interval(rows["image"])}


def split_of(data: Data, split: str) -> Mapping[str, Any]:
    """`data[split]`.

    Raises:
      ValueError: unknown split, naming those that exist.
    """
    if split not in data:
        raise ValueError(f"unknown split {split!r}: use one of {', '.join(sorted(data))}")
    return data[split]
