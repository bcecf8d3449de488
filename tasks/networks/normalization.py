"""Layer and group normalisation, x -> scale (x - mean) / sqrt(variance + 1e-6) + bias.

Statistics are those of one example: over the channels of a position (layer; Ba et al. 2016, arXiv 1607.06450), or over
all positions and the channels of a group (Wu and He 2018, arXiv 1803.08494). They are computed in float32 or wider, and
the variance from the centred values. flax's own modules do not run in float64 under strict dtype promotion.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

EPSILON = 1e-6


class LayerNorm(nn.Module):
    """[..., D] -> [..., D]."""

    @nn.compact
    def __call__(self, x: Float[Array, "*positions channels"]) -> Float[Array, "*positions channels"]:
        return _scale_and_shift(self, standardised(x, (x.ndim - 1,)))


class GroupNorm(nn.Module):
    """[B, ..., C] -> [B, ..., C]; a group is C / num_groups consecutive channels."""

    num_groups: int

    @nn.compact
    def __call__(self, x: Float[Array, "batch *positions channels"]) -> Float[Array, "batch *positions channels"]:
        grouped = x.reshape(x.shape[0], -1, self.num_groups, x.shape[-1] // self.num_groups)
        return _scale_and_shift(self, standardised(grouped, (1, 3)).reshape(x.shape))


def standardised(x: jax.Array, axes: tuple[int, ...], epsilon: float = EPSILON) -> jax.Array:
    """x centred and divided by its standard deviation, over the axes; epsilon is added to the variance."""
    wide = x.astype(jnp.float32) if x.dtype.itemsize < 4 else x
    centred = wide - jnp.mean(wide, axes, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axes, keepdims=True)
    return (centred * jax.lax.rsqrt(variance + epsilon)).astype(x.dtype)


def _scale_and_shift(module: nn.Module, x: jax.Array) -> jax.Array:
    shape = (x.shape[-1],)
    scale = module.param("scale", nn.initializers.ones, shape)
    bias = module.param("bias", nn.initializers.zeros, shape)
    broadcast = (1,) * (x.ndim - 1) + shape
    return x * scale.reshape(broadcast) + bias.reshape(broadcast)
