"""Orthogonal steps: the matrix whose singular values are all about 1, in the place of a matrix (Jordan et al. 2024,
Muon).

    x <- a x + (b g + c g g) x,   g = x x^T,   five times, from x of Frobenius norm 1

Its cost per entry grows with the shorter side. In blocks of `BLOCK_ROWS` rows of the shorter side, each of them
orthogonal by itself (as between the full steps of MuonBP, Khaled et al. 2025), it does not; an MLP 576-128-10 and an
autoencoder did as well with blocks of 16 or 32 rows.

The effective rank of a gradient says whether such steps are worth it: where its energy lies in few directions, as
behind the activations of networks, and not where it is spread over all. Davis & Drusvyatskiy (2025, arXiv 2512.04299)
compare the gradient's nuclear rank with the stable rank of the activations, which a round does not show.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_STEPS = 5
BLOCK_ROWS = 32
"""Most rows of a block."""
_SMALLEST = 1e-30


def newton_schulz(x: Float[Array, "*batch rows columns"]) -> Float[Array, "*batch rows columns"]:
    """Moves the singular values of matrices towards 1: a quintic polynomial, five times."""
    x = x / (jnp.sqrt(jnp.sum(jnp.square(x), axis=(-2, -1), keepdims=True)) + 1e-8)
    is_tall = x.shape[-2] > x.shape[-1]
    if is_tall:
        x = jnp.swapaxes(x, -2, -1)
    a, b, c = _COEFFICIENTS
    for _ in range(_STEPS):
        gram = x @ jnp.swapaxes(x, -2, -1)
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return jnp.swapaxes(x, -2, -1) if is_tall else x


def orthogonal_of_equal_norm(tensors: Sequence[Float[Array, "..."]]) -> list[Float[Array, "..."]]:
    """An orthogonal matrix, block by block, for each tensor, with its Frobenius norm; vectors and scalars as they are.

    Tensors of more than two axes count as matrices whose columns are their last axis (those of convolutions: output
    channels). Matrices of one shape are computed, and compiled, together; a tensor of zeros stays one.
    """
    results = list(tensors)
    for members, unit, largest in _matrices(tensors):
        blocks, restored = _blocks(unit)
        step = restored(newton_schulz(blocks))
        steps = step * (largest * _norm(unit) / jnp.maximum(_norm(step), _SMALLEST))
        for i, step in zip(members, steps, strict=True):
            results[i] = jnp.reshape(step, tensors[i].shape)
    return results


def effective_ranks(tensors: Sequence[Float[Array, "..."]]) -> Float[Array, "tensors"]:
    """Effective rank of each tensor over the largest possible, in the blocks of `orthogonal_of_equal_norm`.

    (sum_i s_i^2)^2 / sum_i s_i^4 over the singular values s_i of a block, which is the participation ratio of their
    squares, over its rows; blocks weighted by sum_i s_i^4. It is 1 for orthogonal rows of one length and 1 / rows where
    all rows are parallel; 1 for vectors, scalars and zeros, which have no directions to tell apart.
    """
    results = [jnp.float32(1)] * len(tensors)
    for members, unit, _ in _matrices(tensors):
        blocks, _ = _blocks(unit)
        gram = blocks @ jnp.swapaxes(blocks, -2, -1)
        traces = jnp.sum(jnp.square(blocks), axis=(-2, -1))
        fourth = jnp.sum(jnp.square(gram), axis=(-3, -2, -1))
        ranks = jnp.sum(jnp.square(traces), axis=-1) / (blocks.shape[-2] * jnp.maximum(fourth, _SMALLEST))
        ranks = jnp.where(fourth > 0, ranks, 1)
        for j, i in enumerate(members):
            results[i] = ranks[j]
    return jnp.stack(results)


def _matrices(tensors):
    """(indices, matrices [count, rows, columns] in units of their largest entry, the units) for each shape."""
    alike: dict[tuple[int, int], list[int]] = {}
    for i, x in enumerate(tensors):
        if x.ndim > 1 and x.size:
            alike.setdefault((math.prod(x.shape[:-1]), x.shape[-1]), []).append(i)
    for shape, members in alike.items():
        stacked = jnp.stack([jnp.reshape(tensors[i], shape) for i in members])
        # The square of the largest entry is then neither zero nor infinite.
        largest = jnp.maximum(jnp.max(jnp.abs(stacked), axis=(-2, -1), keepdims=True), _SMALLEST)
        yield members, stacked / largest, largest


def _blocks(x):
    """Blocks of rows, or of columns where they are fewer, as even as zeros at the end allow, and the way back."""
    is_tall = x.shape[-2] > x.shape[-1]
    if is_tall:
        x = jnp.swapaxes(x, -2, -1)
    batch, rows, columns = x.shape
    count = -(-rows // BLOCK_ROWS)
    each = -(-rows // count)
    padded = jnp.pad(x, ((0, 0), (0, count * each - rows), (0, 0)))

    def restored(blocks):
        found = jnp.reshape(blocks, padded.shape)[:, :rows]
        return jnp.swapaxes(found, -2, -1) if is_tall else found

    return jnp.reshape(padded, (batch, count, each, columns)), restored


def _norm(x):
    return jnp.sqrt(jnp.sum(jnp.square(x), axis=(-2, -1), keepdims=True))
