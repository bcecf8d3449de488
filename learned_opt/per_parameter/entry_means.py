"""Means over a tensor of several expressions of its entries, in one pass that stores none of them.

XLA gives every result a loop of its own, which reads all its operands, and stores what two loops need. Its reduction of
several operands at once is the exception: one loop, several results. So an axis is split, [n, ...] -> [8, n/8, ...],
and the part of size 8 is reduced, which the compiler unrolls, so that the rest runs in vectors; what is left, an eighth
of the entries, is summed as usual.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float

_LARGEST_PART = 8
_TERMS_AT_ONCE = 8
"""Compilers unroll a loop while its body stays short: 8 entries of 8 terms are, of 16 they are not."""


def entry_means(
    terms: Callable[..., Sequence[Sequence[Array]]], arrays: Sequence[Array], shape: tuple[int, ...]
) -> Float[Array, "terms"]:
    """The mean of each term over the tensor, in the order of the terms.

    Args:
      terms: elementwise, of arrays like `arrays` with one axis more; in groups of up to 8 that have expressions in
        common: what two groups need is stored, if it is dear.
      arrays: of the rank of `shape`, each axis of its size or of size 1.
      shape: of the tensor, not empty.
    """
    axis, part = _largest_part(shape)
    full = (*shape[:axis], part, shape[axis] // part, *shape[axis + 1 :])

    def split(x):
        sizes = (1, 1) if x.shape[axis] == 1 else (part, shape[axis] // part)
        return jnp.reshape(x, (*x.shape[:axis], *sizes, *x.shape[axis + 1 :]))

    sums = []
    for group in terms(*map(split, arrays)):
        values = [jnp.broadcast_to(x, full) for x in group]
        for start in range(0, len(values), _TERMS_AT_ONCE):
            sums += _sums_along(axis, *values[start : start + _TERMS_AT_ONCE])
    return jnp.sum(jnp.stack(sums), axis=tuple(range(1, len(shape) + 1))) / math.prod(shape)


def _largest_part(shape):
    """The axis that splits into the largest equal parts of at most 8, the first of several, and how many they are."""
    divisors = [max(d for d in range(1, _LARGEST_PART + 1) if size % d == 0) for size in shape]
    axis = divisors.index(max(divisors))
    return axis, divisors[axis]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _sums_along(axis, *values):
    zeros = (jnp.zeros((), jnp.float32),) * len(values)
    return jax.lax.reduce(values, zeros, lambda x, y: tuple(a + b for a, b in zip(x, y, strict=True)), (axis,))


@_sums_along.defjvp
def _sums_along_jvp(axis, values, tangents):
    # The general rule for such a reduction costs far more than that of a sum.
    return _sums_along(axis, *values), tuple(jnp.sum(t, axis=axis) for t in tangents)
