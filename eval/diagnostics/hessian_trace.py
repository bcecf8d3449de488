"""Trace of the Hessian of the loss, by Hutchinson's estimator (1990, Commun. Stat. Simul. Comput. 19).

    tr H ~ mean over probes of v^T H v,   v with independent signs

The estimate is unbiased; a probe's variance is 2 (|H|_F^2 - sum_i H_ii^2), zero for a diagonal Hessian. Beside the
largest eigenvalue it tells whether curvature is spread or lies in a few directions; SGD whose noise has the shape of H
is stable below tr H ~ 2 / eta (Wu and Su 2023, "The Implicit Regularization of Dynamical Stability in SGD", arXiv
2305.17490).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eval.diagnostics.base import Diagnostic, Snapshot
from eval.diagnostics.hessian import hessian_product

NUM_PROBES = 16


def hessian_trace(snapshot: Snapshot, num_probes: int = NUM_PROBES) -> Float[Array, ""]:
    """Trace of the Hessian of the loss on a fixed batch, estimated (Hutchinson 1990).

    Costs about two gradients a probe.

    Args:
      snapshot: its task's loss is differentiated twice.
      num_probes: Hessian-vector products.
    """
    loss_key, probe_key = jax.random.split(snapshot.key)
    flat, hessian_times = hessian_product(snapshot, loss_key)

    def probed(key):
        v = jax.random.rademacher(key, flat.shape, flat.dtype)
        return jnp.vdot(v, hessian_times(v))

    return jnp.mean(jax.lax.map(probed, jax.random.split(probe_key, num_probes)))


HESSIAN_TRACE = Diagnostic("hessian_trace", "snapshot", hessian_trace)
