"""The size of a tensor that steps relative to it are measured by: max(rms(p), floor).

The floor (Shazeer & Stern 2018, arXiv 1804.04235, section 8) lets a tensor that starts at zero move.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, Float


def root_mean_square(x: Float[Array, "..."]) -> Float[Array, ""]:
    """Of all entries, in float32; 0 for a tensor without any."""
    return jnp.sqrt(jnp.sum(jnp.square(x.astype(jnp.float32))) / max(x.size, 1))


def relative_size(param: Float[ArrayLike, "..."], floor: float | Array) -> Float[Array, ""]:
    """max(rms(p), floor)."""
    return jnp.maximum(root_mean_square(jnp.asarray(param)), floor)
