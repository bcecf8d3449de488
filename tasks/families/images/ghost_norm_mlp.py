"""Image classification with an MLP whose hidden layers are normalised over ghost batches.

    h_i = relu(scale_i N(h_{i-1} W_i) + bias_i),   logits = h_L W + b
    N: each column less its mean, divided by its standard deviation, over the rows of one ghost batch

The rows of a batch are dealt in turn to ghost batches of `ghost_size`, each normalised by itself, so that the noise of
the statistics does not fall with the batch size: Hoffer, Hubara & Soudry (2017, "Train longer, generalize better",
arXiv 1705.08741); batch normalisation itself (Ioffe & Szegedy 2015, arXiv 1502.03167) is one ghost batch.

Deviation: no running averages, which would be state that is not `params`. Evaluation too normalises by the rows it is
given, so loss and metrics are functions of the whole batch.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tasks.base import Data, TaskFamily
from tasks.networks.classification import classification_family
from tasks.networks.network import check_sizes
from tasks.networks.variants import PLAIN, Activation, Variants

EPSILON = 1e-5


def normalise_ghost_batches(h: Float[Array, "batch size"], ghost_size: int) -> Float[Array, "batch size"]:
    """Each column with mean 0 and variance 1 within each ghost batch.

    There are B // ghost_size of them, at least one, to which the rows are dealt in turn: a split may be sorted by
    label, and a ghost batch of one label would lose what the label has in common.
    """
    batch = len(h)
    num_ghosts = max(1, batch // ghost_size)
    # Averages as products with a matrix of memberships, since B need not be a multiple.
    member = jax.nn.one_hot(jnp.arange(batch) % num_ghosts, num_ghosts, dtype=h.dtype)
    average = member / jnp.sum(member, axis=0, keepdims=True)
    centred = h - member @ (average.T @ h)
    return centred * (member @ jax.lax.rsqrt(average.T @ centred**2 + EPSILON))


class GhostNormMLP(nn.Module):
    """[B, ...] -> logits [B, layer_sizes[-1]]."""

    layer_sizes: tuple[int, ...]
    ghost_size: int
    activation: Activation

    @nn.compact
    def __call__(self, images: Float[Array, "batch *image"]) -> Float[Array, "batch classes"]:
        *hidden_sizes, num_classes = self.layer_sizes
        h = images.reshape(images.shape[0], -1)
        for layer, size in enumerate(hidden_sizes):
            h = normalise_ghost_batches(nn.Dense(size, use_bias=False)(h), self.ghost_size)
            scale = self.param(f"scale_{layer}", nn.initializers.ones, (size,))
            bias = self.param(f"bias_{layer}", nn.initializers.zeros, (size,))
            h = self.activation(h * scale[None] + bias[None])
        return nn.Dense(num_classes)(h)


def ghost_norm_mlp(
    data: Data,
    hidden_sizes: Sequence[int] = (32, 32),
    ghost_size: int = 16,
    name: str = "ghost_norm_mlp",
    num_classes: int = 10,
    variants: Variants = PLAIN,
) -> TaskFamily:
    """Classify the images of `data` with a normalised MLP.

    Args:
      data: `{split: {"image": uint8[N, ...], "label": int32[N]}}`.
      hidden_sizes: widths of the hidden layers.
      ghost_size: rows of a ghost batch; larger than the batch for ordinary batch normalisation.
      name: the family's name.
      num_classes: labels lie in [0, num_classes).
      variants: what differs between tasks; by default nothing.

    Raises:
      ValueError: no hidden layer, a width below 1, a ghost batch of fewer than two rows, or fewer than two classes.
    """
    if not hidden_sizes:
        raise ValueError("hidden_sizes=(): use at least one layer, there is nothing to normalise")
    check_sizes(hidden_sizes=tuple(hidden_sizes))
    if ghost_size < 2:
        raise ValueError(f"ghost_size={ghost_size}: use at least 2, one row less its mean is 0")
    layer_sizes = (*hidden_sizes, num_classes)

    def make_network(activation: Activation) -> GhostNormMLP:
        return GhostNormMLP(layer_sizes, ghost_size, activation)

    return classification_family(name, data, make_network, num_classes, "relu", variants)
