"""Contrastive features: two views of an image are close on the sphere, different images far apart.

    z = f(view) / |f(view)|,   loss = mean_i |z_i - z_i'|^2 + mean_{i != j} exp(-t |z_i - z_j|^2)

Alignment and uniformity (Wang & Isola 2020, arXiv 2005.10242), what the contrastive loss of SimCLR (Chen et al. 2020,
arXiv 2002.05709) comes to with many negatives. Deviations: uniformity without their logarithm, so that the loss is
positive and does not depend on the size of the batch; of the pairs of different images those at distances 1 to
`NUM_NEGATIVES` in the batch, so that its cost is linear. f is an MLP without normalisation. Constant features have a
loss of 1. Views, seeds and metrics are those of `self_supervised`.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tasks.base import Data, TaskFamily
from tasks.families.images.self_supervised import two_view_family
from tasks.networks.network import check_sizes

NUM_NEGATIVES = 8
_EPSILON = 1e-6


class ContrastiveEncoder(nn.Module):
    """Images -> features [B, size] of length 1."""

    hidden_sizes: tuple[int, ...]
    size: int

    @nn.compact
    def __call__(self, images: Float[Array, "batch *image"]) -> Float[Array, "batch size"]:
        h = images.reshape(images.shape[0], -1)
        for hidden in self.hidden_sizes:
            h = nn.relu(nn.Dense(hidden)(h))
        h = nn.Dense(self.size)(h)
        return h * jax.lax.rsqrt(jnp.sum(h**2, axis=-1, keepdims=True) + _EPSILON)


def alignment_and_uniformity(
    first: Float[Array, "batch size"], second: Float[Array, "batch size"], sharpness: float
) -> Float[Array, ""]:
    """The loss from features of length 1 of both views."""
    alignment = jnp.mean(jnp.sum((first - second) ** 2, axis=-1))
    shifts = range(1, min(NUM_NEGATIVES, len(first) - 1) + 1)
    crowding = [jnp.exp(-sharpness * jnp.sum((first - jnp.roll(first, s, 0)) ** 2, axis=-1)) for s in shifts]
    # An image alone has no other to be far from.
    return alignment + (jnp.mean(jnp.stack(crowding)) if crowding else 0)


def contrastive(
    data: Data, hidden_sizes: tuple[int, ...] = (48, 32), size: int = 16, sharpness: float = 2.0, name="contrastive"
) -> TaskFamily:
    """Learn features of the images of `data` without their labels, which only a metric reads.

    Args:
      data: `{split: {"image": uint8[N, height, width, channels], "label": int32[N]}}`.
      hidden_sizes: hidden layers of the encoder.
      size: number of features.
      sharpness: t, positive.
      name: the family's name.

    Raises:
      ValueError: a size below 1, or a sharpness that is not positive.
    """
    check_sizes(hidden_sizes=tuple(hidden_sizes), size=size)
    if sharpness <= 0:
        raise ValueError(f"sharpness={sharpness}: use a positive value")
    encoder = ContrastiveEncoder(tuple(hidden_sizes), size)
    return two_view_family(
        data, encoder, lambda first, second: alignment_and_uniformity(first, second, sharpness), name, 1.0
    )
