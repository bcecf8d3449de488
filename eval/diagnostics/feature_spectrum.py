"""How fast the spectrum of the features falls: the exponent a of lambda_i ~ i^-a, by least squares in log-log.

lambda_i are the eigenvalues of the covariance of features over examples. Slopes near 1 go with features that transfer
(Agrawal et al. 2022, arXiv 2202.05808).

    activation_spectrum   theirs: of what the last layer of a classifier reads, see `class_outputs`
    feature_spectrum      for every task: the features of an example are its gradient of the loss, the tangent features
                          of the network weighted by the error
"""

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from eval.diagnostics.base import Diagnostic, Snapshot
from eval.diagnostics.class_outputs import features as last_features
from eval.diagnostics.requirements import LAST_LAYER

NUM_EXAMPLES = 64
"""At most so many rows of the batch: their gradients are in memory together."""

SMALLEST = 1e-6
"""Eigenvalues below this share of the largest are rounding errors of float32 and are left out."""


def spectrum_slope(features: Float[Array, "examples features"]) -> Float[Array, ""]:
    """The exponent of the power law; nan where fewer than two eigenvalues can be used."""
    centred = features.astype(jnp.float32)
    centred = centred - jnp.mean(centred, axis=0, keepdims=True)
    # The covariance has the non-zero eigenvalues of the inner products of the examples: whichever is smaller.
    gram = centred @ centred.T if features.shape[0] <= features.shape[1] else centred.T @ centred
    eigenvalues = jnp.linalg.eigvalsh(gram)[::-1] / len(features)
    usable = eigenvalues > SMALLEST * jnp.maximum(eigenvalues[0], jnp.finfo(jnp.float32).tiny)
    weight = usable.astype(jnp.float32)
    x = jnp.log(jnp.arange(1, len(eigenvalues) + 1, dtype=jnp.float32))
    y = jnp.log(jnp.where(usable, eigenvalues, 1))
    number = jnp.sum(weight)
    dx, dy = (v - jnp.sum(weight * v) / number for v in (x, y))
    slope = jnp.sum(weight * dx * dy) / jnp.sum(weight * dx * dx)
    return jnp.where(number >= 2, -slope, jnp.nan)


def feature_spectrum(snapshot: Snapshot) -> Float[Array, ""]:
    """Exponent at which the spectrum of 64 examples' gradients falls, after alpha-ReQ (Agrawal 2022, 2202.05808)."""
    examples = jax.tree.map(lambda x: x[:NUM_EXAMPLES], dict(snapshot.batch))

    def features(example):
        one = {name: leaf[None] for name, leaf in example.items()}
        gradient = jax.grad(snapshot.task.loss)(snapshot.params, snapshot.key, one)
        return ravel_pytree(gradient)[0]

    return spectrum_slope(jax.lax.map(features, examples))


def activation_spectrum(snapshot: Snapshot) -> Float[Array, ""]:
    """alpha-ReQ: exponent at which the last layer's inputs' spectrum falls; 1 is good (Agrawal 2022, 2202.05808)."""
    return spectrum_slope(last_features(snapshot))


FEATURE_SPECTRUM = (
    Diagnostic("feature_spectrum", "snapshot", feature_spectrum),
    Diagnostic("activation_spectrum", "snapshot", activation_spectrum, LAST_LAYER),
)
