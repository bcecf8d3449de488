"""Barlow Twins: features that agree between two views of an image and do not repeat each other.

    z_a, z_b = features of both views, each column less its mean and divided by its standard deviation over the batch
    C = z_a^T z_b / B,   loss = sum_i (1 - C_ii)^2 + redundancy sum_{i != j} C_ij^2

Zbontar, Jing, Misra, LeCun & Deny (2021, "Barlow Twins", arXiv 2103.03230). No predictor, no target and no
stop-gradient: constant features have C = 0 and cost the number of features D. Encoder, views and metrics are those of
`self_supervised`. Deviations: no projector behind the encoder, and `redundancy` is 1 / D by default where they use
0.005 with D = 8192, so that both sums have the same weight against features that are all equal. Loss and metrics are
functions of the whole batch.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from tasks.base import Data, TaskFamily
from tasks.families.images.self_supervised import Encoder, normalise_over_batch, two_view_family


def redundancy_reduction(
    first: Float[Array, "batch size"], second: Float[Array, "batch size"], redundancy: float
) -> Float[Array, ""]:
    """The loss from the features of both views, not yet normalised."""
    correlation = normalise_over_batch(first).T @ normalise_over_batch(second) / len(first)
    diagonal = jnp.diagonal(correlation)
    off_diagonal = jnp.sum(correlation**2) - jnp.sum(diagonal**2)
    return jnp.sum((1 - diagonal) ** 2) + redundancy * off_diagonal


def barlow_twins(
    data: Data, redundancy: float | None = None, hidden: int = 64, size: int = 32, name: str = "barlow_twins"
) -> TaskFamily:
    """Learn features of the images of `data` without their labels, which only a metric reads.

    Args:
      data: `{split: {"image": uint8[N, height, width, channels], "label": int32[N]}}`.
      redundancy: weight of the off-diagonal correlations, 0 or more; None for 1 / size.
      hidden: hidden units of the encoder.
      size: number of features D.
      name: the family's name.

    Raises:
      ValueError: a negative redundancy, or too few units.
    """
    if redundancy is not None and redundancy < 0:
        raise ValueError(f"redundancy={redundancy}: use 0 or more")
    if hidden < 1 or size < 2:
        raise ValueError(f"hidden={hidden}, size={size}: use hidden of at least 1 and size of at least 2")
    encoder, weight = Encoder(hidden, size), 1 / size if redundancy is None else redundancy
    # Constant features have no correlation at all.
    return two_view_family(
        data, encoder, lambda first, second: redundancy_reduction(first, second, weight), name, float(size)
    )
