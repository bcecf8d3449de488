"""Numbers in 2, 4 or 8 bits, tensor by tensor, two ways.

    linear        2^bits levels, evenly from the smallest to the largest element
    statistical   2^bits bins, evenly over 6 standard deviations around the mean; a bin stands for the mean of what is
                  in it (SparseLoCo: Sarfi et al. 2025, arXiv 2508.15706)

With a message go the two ends of the range, or the means of the bins. At 2 bits the first is spoilt by an outlier, the
second is not (MuLoCo: Therien et al. 2025, arXiv 2505.23725). Elements are divided by the largest first, so that
squares of tiny or huge ones stay within range. A tensor with an element that is not a number becomes all so.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from learned_opt.algorithms.compression.upload import Upload, leaf_by_leaf

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float

BITS = (2, 4, 8, 32)
"""Sizes of a number; 32 leaves it as it is."""
SCHEMES = ("linear", "statistical")
RANGE = 6.0
"""Standard deviations that the statistical bins cover."""


def quantize(bits: int, scheme: str = "linear") -> Upload:
    """Every element of every tensor in `bits` bits.

    Args:
      bits: 2, 4, 8, or 32 for none.
      scheme: "linear" or "statistical".

    Raises:
      ValueError: bits or scheme that are not there.
    """
    check_bits(bits)
    if scheme not in SCHEMES:
        raise ValueError(f"scheme={scheme!r}: use one of {', '.join(SCHEMES)}")
    if bits == 32:
        return leaf_by_leaf(lambda x: x, lambda size: 4 * size)
    if scheme == "linear":
        return leaf_by_leaf(lambda x: linear(x, bits), lambda size: packed_bytes(size, bits) + 2 * 4)
    return leaf_by_leaf(
        lambda x: statistical(x, jnp.ones(x.shape, bool), bits), lambda size: packed_bytes(size, bits) + 4 * 2**bits
    )


def linear(x: Float[Array, "n"], bits: int) -> Float[Array, "n"]:
    """The nearest of 2^bits even levels from min(x) to max(x)."""
    scale = _largest(x)
    x = x / scale
    low, high = jnp.min(x), jnp.max(x)
    step = (high - low) / (2**bits - 1)
    code = jnp.round((x - low) / jnp.where(step == 0, 1, step))
    return scale * (low + code * step)


def statistical(x: Float[Array, "n"], is_sent: Bool[Array, "n"], bits: int) -> Float[Array, "n"]:
    """The mean of the elements in the same one of 2^bits bins, counting those that are sent only; 0 for the others."""
    scale = _largest(x)
    x = jnp.where(is_sent, x / scale, 0)
    count = jnp.sum(is_sent.astype(jnp.float32))
    mean = jnp.sum(x) / jnp.maximum(count, 1)
    deviation = jnp.sqrt(jnp.sum(jnp.where(is_sent, jnp.square(x - mean), 0)) / jnp.maximum(count - 1, 1))
    width = RANGE * deviation / 2**bits
    if bits == 2:
        # Four bins one after the other take a third of the time of a scatter and a gather.
        edges = [-jnp.inf, *(mean + (number - 2.5) * width for number in range(1, 4)), jnp.inf]
        found = jnp.zeros_like(x)
        for low, high in itertools.pairwise(edges):
            is_in = is_sent & (x >= low) & (x < high)
            total = jnp.sum(jnp.where(is_in, x, 0))
            found = jnp.where(is_in, total / jnp.maximum(jnp.sum(is_in.astype(jnp.float32)), 1), found)
        return scale * found
    code = jnp.round((x - mean) / jnp.where(width == 0, 1, width) + 2 ** (bits - 1))
    code = jnp.clip(code, 0, 2**bits - 1).astype(jnp.int32)
    sums = jax.ops.segment_sum(x, code, 2**bits)
    counts = jax.ops.segment_sum(is_sent.astype(jnp.float32), code, 2**bits)
    return jnp.where(is_sent, scale * (sums / jnp.maximum(counts, 1))[code], 0)


def packed_bytes(count: int, bits: int) -> int:
    """Bytes of `count` numbers of `bits` bits, one after the other."""
    return -(-count * bits // 8)


def check_bits(bits: int) -> None:
    """ValueError for a size that is not in `BITS`."""
    if bits not in BITS:
        raise ValueError(f"bits={bits}: use one of {', '.join(map(str, BITS))}")


def _largest(x):
    peak = jnp.max(jnp.abs(x))
    return jnp.where(peak == 0, 1, peak)
