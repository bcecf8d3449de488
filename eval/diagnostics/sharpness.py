"""Sharpness: the largest eigenvalue of the Hessian of the loss, by power iteration.

    v <- H v / |H v|;   sharpness = v^T H v

Gradient descent with step eta stays below sharpness 2 / eta or hovers there (Cohen et al. 2021, arXiv 2103.00065).
"""

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from eval.diagnostics.base import Diagnostic, Snapshot

NUM_ITERATIONS = 50


def sharpness(snapshot: Snapshot, num_iterations: int = NUM_ITERATIONS) -> Float[Array, ""]:
    """Largest eigenvalue of the Hessian of the loss on a fixed batch (Cohen 2021, 2103.00065).

    It is the eigenvalue of largest magnitude, or a lower bound on it; costs about two gradients an iteration.

    Args:
      snapshot: its task's loss is differentiated twice.
      num_iterations: Hessian-vector products.
    """
    loss_key, start_key = jax.random.split(snapshot.key)
    flat, unravel = ravel_pytree(snapshot.params)

    def gradient(x):
        return jax.grad(lambda v: snapshot.task.loss(unravel(v), loss_key, snapshot.batch))(x)

    def hessian_times(v):
        return jax.jvp(gradient, (flat,), (v,))[1]

    def iterate(v, _):
        product = hessian_times(v)
        norm = jnp.linalg.norm(product)
        return jnp.where(norm > 0, product / jnp.where(norm > 0, norm, 1), v), None

    start = jax.random.normal(start_key, flat.shape, flat.dtype)
    v, _ = jax.lax.scan(iterate, start / jnp.linalg.norm(start), None, length=num_iterations)
    return jnp.vdot(v, hessian_times(v))


SHARPNESS = Diagnostic("sharpness", "snapshot", sharpness)
