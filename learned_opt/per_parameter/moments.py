"""First and second moment of one tensor's gradients, as in Adam (Kingma & Ba 2015, arXiv 1412.6980).

mean <- b1 mean + (1 - b1) g,    square <- b2 square + (1 - b2) g^2
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


class Moments(NamedTuple):
    """Running moments of a tensor of shape S, float32."""

    mean: Float[Array, "*S"]
    square: Float[Array, "*S"]


def init_moments(shape: tuple[int, ...]) -> Moments:
    """Zeros."""
    return Moments(jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.float32))


def update_moments(moments: Moments, gradient: Float[Array, "*S"], beta1: Any, beta2: Any) -> Moments:
    """One step of both averages; 1 - beta is computed in float32, as in the published optimizers."""
    beta1, beta2 = jnp.asarray(beta1, jnp.float32), jnp.asarray(beta2, jnp.float32)
    return Moments(
        mean=beta1 * moments.mean + (1 - beta1) * gradient,
        square=beta2 * moments.square + (1 - beta2) * jnp.square(gradient),
    )


def corrected_moments(moments: Moments, count: Int[Array, ""], beta1: Any, beta2: Any) -> Moments:
    """Both divided by 1 - beta^count; `count` includes the last update."""
    steps = count.astype(jnp.float32)
    return Moments(
        mean=moments.mean / (1 - jnp.asarray(beta1, jnp.float32) ** steps),
        square=moments.square / (1 - jnp.asarray(beta2, jnp.float32) ** steps),
    )
