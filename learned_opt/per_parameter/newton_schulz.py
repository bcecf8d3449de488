"""Orthogonal steps: the matrix whose singular values are all about 1, in the place of a matrix (Jordan et al. 2024,
Muon).

    x <- a x + (b g + c g g) x,   g = x x^T,   five times, from x of Frobenius norm 1

Its cost per entry grows with the shorter side. In blocks of `BLOCK_ROWS` rows of the shorter side, each of them
orthogonal by itself (as between the full steps of MuonBP, Khaled et al. 2025), it does not; an MLP 576-128-10 and an
autoencoder did as well with blocks of 16 or 32 rows.
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
    alike: dict[tuple[int, int], list[int]] = {}
    for i, x in enumerate(tensors):
        if x.ndim > 1 and x.size:
            alike.setdefault((math.prod(x.shape[:-1]), x.shape[-1]), []).append(i)
    for shape, members in alike.items():
        stacked = jnp.stack([jnp.reshape(tensors[i], shape) for i in members])
        # In units of the largest entry, whose square is neither zero nor infinite.
        largest = jnp.maximum(jnp.max(jnp.abs(stacked), axis=(-2, -1), keepdims=True), _SMALLEST)
        unit = stacked / largest
        step = _blockwise(unit)
        steps = step * (largest * _norm(unit) / jnp.maximum(_norm(step), _SMALLEST))
        for i, step in zip(members, steps, strict=True):
            results[i] = jnp.reshape(step, tensors[i].shape)
    return results


def _blockwise(x):
    """`newton_schulz` of blocks of rows, or of columns where they are fewer, as even as zeros at the end allow."""
    is_tall = x.shape[-2] > x.shape[-1]
    if is_tall:
        x = jnp.swapaxes(x, -2, -1)
    batch, rows, columns = x.shape
    blocks = -(-rows // BLOCK_ROWS)
    each = -(-rows // blocks)
    padded = jnp.pad(x, ((0, 0), (0, blocks * each - rows), (0, 0)))
    found = newton_schulz(jnp.reshape(padded, (batch, blocks, each, columns)))
    found = jnp.reshape(found, padded.shape)[:, :rows]
    return jnp.swapaxes(found, -2, -1) if is_tall else found


def _norm(x):
    return jnp.sqrt(jnp.sum(jnp.square(x), axis=(-2, -1), keepdims=True))
