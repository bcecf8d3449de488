"""Sharpness: the largest eigenvalue of the Hessian of the loss, by power iteration.

    v <- H v / |H v|;   sharpness = v^T H v

Gradient descent with step eta stays below sharpness 2 / eta or hovers there (Cohen et al. 2021, arXiv 2103.00065).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eval.diagnostics.base import Diagnostic, Snapshot
from eval.diagnostics.hessian import hessian_product

NUM_ITERATIONS = 50


def sharpness(snapshot: Snapshot) -> Float[Array, ""]:
    """Largest eigenvalue of the Hessian of the loss on a fixed batch (Cohen 2021, 2103.00065).

    It is the eigenvalue of largest magnitude, or a lower bound on it; costs about two gradients an iteration.

    """
    loss_key, start_key = jax.random.split(snapshot.key)
    flat, hessian_times = hessian_product(snapshot, loss_key)

    def iterate(v, _):
        product = hessian_times(v)
        norm = jnp.linalg.norm(product)
        return jnp.where(norm > 0, product / jnp.where(norm > 0, norm, 1), v), None

    start = jax.random.normal(start_key, flat.shape, flat.dtype)
    v, _ = jax.lax.scan(iterate, start / jnp.linalg.norm(start), None, length=NUM_ITERATIONS)
    return jnp.vdot(v, hessian_times(v))


SHARPNESS = Diagnostic("sharpness", "snapshot", sharpness)
