"""What AdamP and SGDP share (Heo et al. 2021, arXiv 2006.08217): a step without its radial part, where that is no use.

    d <- d - (d . w) w / |w|^2    where  max |cos(g, w)| < delta / sqrt(dim)

The weights before a normalisation layer have gradients at right angles to them, and a step along them only makes them
longer, which shrinks the effective learning rate. Such weights are told by their gradients: the cosines of all output
channels are small (then each channel is projected), or that of the whole tensor is (then the tensor is). A channel is
what shares the last index. Vectors and scalars are left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float

TINY = 1e-30


def without_radial_part(
    direction: Float[Array, "*shape"],
    gradient: Float[Array, "*shape"],
    param: Float[Array, "*shape"],
    delta: float | Array,
    weight_decay_ratio: float | Array,
) -> tuple[Float[Array, "*shape"], Float[Array, ""]]:
    """(the direction, projected where the rule says so; the factor on weight decay: 1, or the ratio where it was).

    Args:
      direction: the step that is about to be taken, float32.
      gradient: of this step.
      param: w.
      delta: largest cosine, times the root of the dimension, of what counts as a right angle.
      weight_decay_ratio: the factor where the direction is projected.
    """
    one = jnp.ones((), jnp.float32)
    if direction.ndim < 2 or direction.size == 0:
        return direction, one
    gradient, param = gradient.astype(jnp.float32), param.astype(jnp.float32)
    by_channel, is_channel = _projected(direction, gradient, param, delta, tuple(range(direction.ndim - 1)))
    by_tensor, is_tensor = _projected(direction, gradient, param, delta, tuple(range(direction.ndim)))
    projected = jnp.where(is_channel, by_channel, jnp.where(is_tensor, by_tensor, direction))
    return projected, jnp.where(is_channel | is_tensor, weight_decay_ratio, one)


def _projected(direction, gradient, param, delta, axes):
    """Along these axes: the direction at right angles to `param`, and whether the gradient is so already."""

    def dot(x, y):
        return jnp.sum(x * y, axis=axes, keepdims=True)

    squared = dot(param, param)
    cosine = jnp.abs(dot(gradient, param)) / jnp.maximum(jnp.sqrt(dot(gradient, gradient) * squared), TINY)
    size = direction.size // squared.size
    is_perpendicular = jnp.max(cosine) < delta / jnp.sqrt(jnp.float32(size))
    return direction - param * dot(direction, param) / jnp.maximum(squared, TINY), is_perpendicular
