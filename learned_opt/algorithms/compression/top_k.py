"""The k largest of every chunk of a tensor, their values in few bits (SparseLoCo: Sarfi et al. 2025, arXiv 2508.15706).

    a tensor is cut into chunks of 4,096 elements; of each, the k of largest magnitude are sent: index and value

An index within a chunk takes 12 bits, where one within a tensor would take 30. Values are quantized over the whole
tensor. Chunks are runs of the flattened tensor; the published code takes squares of 64 x 64 of a matrix. A tensor
smaller than a chunk is one chunk, and is sent whole if it has no more than k elements. Something that is not a number
counts as largest, and is sent.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from learned_opt.algorithms.compression.quantize import check_bits, packed_bytes, statistical
from learned_opt.algorithms.compression.upload import Upload, leaf_by_leaf
from learned_opt.argument_checks import check_count


def top_k(k: int = 64, chunk_size: int = 4096, bits: int = 2) -> Upload:
    """The k largest of every chunk.

    Args:
      k: elements sent of each chunk.
      chunk_size: elements of a chunk.
      bits: of a value, 2, 4, 8 or 32.

    Raises:
      ValueError: k below 1 or above the chunk, or bits that are not there.
    """
    k, chunk_size = check_count(k, "k"), check_count(chunk_size, "chunk_size")
    if not 1 <= k <= chunk_size:
        raise ValueError(f"k={k}: use 1 to chunk_size={chunk_size}")
    check_bits(bits)

    def compress(x):
        indices, is_there = largest_of_chunks(x, k, chunk_size)
        sent = jnp.where(is_there, x[indices], 0)
        if bits != 32:
            sent = statistical(sent, is_there, bits)
        # What fills up the last chunk is beyond the end, and dropped.
        return jnp.zeros_like(x).at[jnp.where(is_there, indices, x.shape[0])].set(sent, mode="drop")

    def bytes_of(size):
        chunk = min(chunk_size, size)
        num_sent = size // chunk * min(k, chunk) + min(k, size % chunk)
        codebook = 0 if bits == 32 else 4 * 2**bits
        return packed_bytes(num_sent, (chunk - 1).bit_length()) + packed_bytes(num_sent, bits) + codebook

    return leaf_by_leaf(compress, bytes_of)


def largest_of_chunks(x: jax.Array, k: int, chunk_size: int) -> tuple[jax.Array, jax.Array]:
    """The k elements of largest magnitude of every chunk, of equal ones the first.

    Args:
      x: [n], n above 0.
      k: at most `chunk_size`.
      chunk_size: elements of a chunk; the last may have fewer.

    Returns:
      (indices into x [chunks * k], whether there is such an element: the last chunk may have fewer than k).
    """
    size = x.shape[0]
    chunk = min(chunk_size, size)
    num_chunks = -(-size // chunk)
    # What fills the last chunk is smaller than any magnitude.
    magnitude = jnp.pad(jnp.abs(x), (0, num_chunks * chunk - size), constant_values=-1.0).reshape(num_chunks, chunk)
    _, places = jax.lax.top_k(magnitude, min(k, chunk))
    indices = (places + chunk * jnp.arange(num_chunks)[:, None]).reshape(-1)
    return jnp.minimum(indices, size - 1), indices < size
