"""Fragments of the parameters: runs of whole tensors of nearly equal size."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def partition(params: Any, num_fragments: int) -> tuple[int, ...]:
    """The fragment of every tensor, in the order of `jax.tree.leaves`: 0 to P - 1, none of them without a tensor.

    A tensor belongs where its middle lies when the elements of all are laid out in a row and cut into P equal parts.

    Raises:
      ValueError: no fragments, or more than tensors.
    """
    sizes = [int(jnp.size(leaf)) for leaf in jax.tree.leaves(params)]
    if not 1 <= num_fragments <= len(sizes):
        raise ValueError(f"num_fragments={num_fragments}: use 1 to {len(sizes)}, the parameters have as many tensors")
    total, passed, fragments = max(sum(sizes), 1), 0, [-1]
    for index, size in enumerate(sizes):
        middle = num_fragments * (2 * passed + size) // (2 * total)
        # At most one further than the last, and as many tensors left as fragments.
        least = max(fragments[-1], num_fragments - len(sizes) + index, 0)
        fragments.append(min(max(middle, least), fragments[-1] + 1, num_fragments - 1))
        passed += size
    return tuple(fragments[1:])
