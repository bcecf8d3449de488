"""How far a run has moved: |x_t - x_0|, which grows with ln t under SGD (Hoffer et al. 2017, arXiv 1705.08741)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eval.diagnostics.base import Diagnostic, Snapshot


def distance_from_initialisation(snapshot: Snapshot) -> Float[Array, ""]:
    """Distance from the initial parameters, which grows with ln t under SGD (Hoffer 2017, 1705.08741)."""
    pairs = zip(jax.tree.leaves(snapshot.params), jax.tree.leaves(snapshot.initial_params), strict=True)
    squares = [jnp.sum(jnp.square(x.astype(jnp.float32) - y.astype(jnp.float32))) for x, y in pairs]
    return jnp.sqrt(jnp.sum(jnp.stack(squares)))


DISTANCE = Diagnostic("distance_from_initialisation", "snapshot", distance_from_initialisation)
