"""FedSpeed (Sun et al. 2023, arXiv 2302.10429): FedDyn whose gradients are taken a step uphill.

    g1 = grad(y_k);   g2 = grad(y_k + rho g1 / norm(g1));   g~ = (1 - alpha) g1 + alpha g2
    H times: y_k <- opt(y_k, g~ + mu (y_k - x) + mu h_k);   the rest as FedDyn, with mu = 1 / lambda

In the paper's letters the prox-correction term g^_k is -mu h_k. The step uphill has length rho over all parameters
together, as in the authors' code and in sharpness-aware minimization; the paper writes rho g1. With rho = 0 it is
FedDyn. Both gradients are of the same batch: a step costs two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import optax

from learned_opt.algorithms.corrections.feddyn import dynamic_regularization
from learned_opt.base import LocalAlgorithm

if TYPE_CHECKING:
    from jaxtyping import Array


def fedspeed(
    local_opt: optax.GradientTransformation,
    mu: float | Array = 0.1,
    rho: float | Array = 0.1,
    alpha: float | Array = 1.0,
    server_opt: optax.GradientTransformation | None = None,
) -> LocalAlgorithm:
    """FedSpeed.

    Args:
      local_opt: receives the corrected gradients.
      mu: weight of the regularizer, the paper's 1 / lambda.
      rho: length of the step uphill, in units of the parameters.
      alpha: share of the gradient that is taken there.
      server_opt: as for `local_sgd`; None: plain averaging.
    """

    def gradient_of(gradient, params, anchor, grad_fn):
        del anchor
        square = sum(jnp.sum(jnp.square(g.astype(jnp.float32))) for g in jax.tree.leaves(gradient))
        norm = jnp.sqrt(square)
        scale = rho / jnp.where(norm > 0, norm, 1)
        uphill = jax.tree.map(lambda y, g: (y + scale * g.astype(jnp.float32)).astype(y.dtype), params, gradient)
        return jax.tree.map(lambda g1, g2: ((1 - alpha) * g1 + alpha * g2).astype(g1.dtype), gradient, grad_fn(uphill))

    algorithm = dynamic_regularization(local_opt, mu, server_opt, gradient_of)
    return algorithm._replace(gradients=lambda num_steps: 2.0 * num_steps)
