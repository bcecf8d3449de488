"""A surrogate of a function from its values: ridge regression on random Fourier features (Rahimi & Recht 2007).

    phi(x) = sqrt(2 / M) cos(V x + b),   f(x) ~ phi(x) . w,   gradient ~ -sqrt(2 / M) V^T (w sin(V x + b))

Rows of V are normal with deviation 1 / lengthscale, so that phi(x) . phi(y) approaches exp(-norm(x - y)^2 / (2
lengthscale^2)). All workers have the same V and b, drawn anew from a seed whenever they are needed, so that weights of
different workers can be averaged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float


class Features(NamedTuple):
    """V [M, d] and b [M]."""

    frequencies: Float[Array, "features dimension"]
    phases: Float[Array, "features"]


def draw_features(seed: int, num_features: int, dimension: int, lengthscale: float | Array) -> Features:
    """The features of a seed."""
    frequency_key, phase_key = jax.random.split(jax.random.key(seed))
    frequencies = jax.random.normal(frequency_key, (num_features, dimension)) / lengthscale
    return Features(frequencies, jax.random.uniform(phase_key, (num_features,), maxval=2 * jnp.pi))


def feature_values(features: Features, points: Float[Array, "points dimension"]) -> Float[Array, "points features"]:
    """phi of every point."""
    angles = points @ features.frequencies.T + features.phases[None]
    return jnp.sqrt(2 / features.phases.shape[0]) * jnp.cos(angles)


def surrogate_gradient(
    features: Features, weights: Float[Array, "features"], point: Float[Array, "dimension"]
) -> Float[Array, "dimension"]:
    """Gradient of phi(x) . w at a point."""
    angles = features.frequencies @ point + features.phases
    return -jnp.sqrt(2 / features.phases.shape[0]) * (weights * jnp.sin(angles)) @ features.frequencies


def fit(
    features: Features,
    points: Float[Array, "points dimension"],
    values: Float[Array, "points"],
    is_known: Bool[Array, "points"],
    ridge: float | Array,
) -> Float[Array, "features"]:
    """w of least squares on the known points, less their mean value and over their spread, with a ridge; times it.

    The solution is sought in as many unknowns as there are points, not features.
    """
    count = jnp.maximum(jnp.sum(is_known.astype(jnp.float32)), 1)
    centred = jnp.where(is_known, values - jnp.sum(jnp.where(is_known, values, 0)) / count, 0)
    spread = jnp.max(jnp.abs(centred))
    scaled = centred / jnp.where(spread > 0, spread, 1)
    phi = jnp.where(is_known[:, None], feature_values(features, points), 0)
    dual = jnp.linalg.solve(phi @ phi.T + ridge * jnp.eye(phi.shape[0]), scaled)
    return spread * (dual @ phi)
