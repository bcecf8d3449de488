"""Products of the Hessian of the loss with vectors, forward over reverse; what sharpness and trace are made of."""

from collections.abc import Callable
from typing import Any

import jax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from eval.diagnostics.base import Snapshot


def hessian_product(
    snapshot: Snapshot, loss_key: Any
) -> tuple[Float[Array, "n"], Callable[[Float[Array, "n"]], Float[Array, "n"]]]:
    """(parameters as one vector, v -> H v of the loss on the snapshot's batch), about two gradients a product.

    Args:
      snapshot: its task's loss is differentiated twice.
      loss_key: of a stochastic loss.
    """
    flat, unravel = ravel_pytree(snapshot.params)

    def gradient(x):
        return jax.grad(lambda v: snapshot.task.loss(unravel(v), loss_key, snapshot.batch))(x)

    return flat, lambda v: jax.jvp(gradient, (flat,), (v,))[1]
