"""Which part of a run's movement only stretches the weights, and how far the rest turns them.

    radial fraction = |<w, u>| / (|w| |u|)        effective learning rate = |u - w <w, u> / |w|^2| / |w|

of every tensor w and its movement u since the last point of the curve, averaged over tensors. Where a normalisation
follows, stretching w changes nothing but the size of later steps, so the first is wasted and the second is the angle
that was turned (Heo et al. 2021, AdamP, arXiv 2006.08217; Prieto et al. 2025, perpGrad, arXiv 2501.04697). Tensors of
one entry and those that are zero have no direction and are left out.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eval.diagnostics.base import Diagnostic, Snapshot


def radial_fraction(snapshot: Snapshot) -> Float[Array, ""]:
    """Share of the movement along the weights, mean over tensors: 0 for a pure rotation (Heo 2021, 2006.08217)."""
    return _mean_over_tensors(snapshot, lambda ww, wu, uu: jnp.abs(wu) / jnp.sqrt(ww * uu))


def effective_learning_rate(snapshot: Snapshot) -> Float[Array, ""]:
    """Movement across the weights over their norm since the last point, mean over tensors (Heo 2021, 2006.08217)."""
    return _mean_over_tensors(snapshot, lambda ww, wu, uu: jnp.sqrt(jnp.maximum(uu - wu**2 / ww, 0) / ww))


def _mean_over_tensors(snapshot: Snapshot, value) -> Float[Array, ""]:
    """Mean of value(<w, w>, <w, u>, <u, u>) over the tensors where it is defined."""
    products = []
    pairs = zip(jax.tree.leaves(snapshot.previous_params), jax.tree.leaves(snapshot.params), strict=True)
    for before, after in pairs:
        if before.size > 1:
            w = before.astype(jnp.float32)
            u = after.astype(jnp.float32) - w
            products.append(jnp.stack([jnp.sum(w * w), jnp.sum(w * u), jnp.sum(u * u)]))
    if not products:
        return jnp.full((), jnp.nan)
    ww, wu, uu = jnp.stack(products).T
    defined = (ww != 0) & (uu != 0)
    values = value(jnp.where(defined, ww, 1), wu, jnp.where(defined, uu, 1))
    return jnp.sum(jnp.where(defined, values, 0)) / jnp.sum(defined.astype(jnp.float32))


RADIAL_FRACTION = (
    Diagnostic("radial_fraction", "snapshot", radial_fraction),
    Diagnostic("effective_learning_rate", "snapshot", effective_learning_rate),
)
