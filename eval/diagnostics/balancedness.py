"""How far an optimizer has pushed a two-layer linear net off the manifold on which gradient flow would have kept it.

    |Q - Q_0|_F,   Q = U^T U - V^T V

The loss depends on U V^T alone, so gradient flow conserves Q (Tarmoun et al. 2021, ICML). Finite steps of size eta let
it drift by eta^2 (G_U^T G_U - G_V^T G_V) each, coordinate-wise ones by more.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from eval.diagnostics.base import Diagnostic, Snapshot
from eval.diagnostics.requirements import LINEAR_NET


def balancedness_drift(snapshot: Snapshot) -> Float[Array, ""]:
    """Drift of U^T U - V^T V since the start, which gradient flow conserves (Tarmoun 2021, ICML)."""
    return jnp.linalg.norm(_conserved(snapshot.params) - _conserved(snapshot.initial_params))


def _conserved(params: PyTree) -> Float[Array, "hidden hidden"]:
    u, v = params["u"].astype(jnp.float32), params["v"].astype(jnp.float32)
    return u.T @ u - v.T @ v


BALANCEDNESS = Diagnostic("balancedness_drift", "snapshot", balancedness_drift, LINEAR_NET)
