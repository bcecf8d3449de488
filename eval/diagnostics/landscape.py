"""Diagnostics of a trained network, computed on request on one fixed batch.

    sharpness                    largest eigenvalue of the Hessian of the loss, by power iteration
    fisher_trace                 mean over examples x of E_{y ~ p(.|x)} |grad l(x, y)|^2, l = -ln p(y|x), exact
    distance_from_initialisation |params - params_0|
    feature_spectrum_slope       -d ln lambda_i / d ln i over the eigenvalues of the features' covariance

Gradient descent with step eta stays below sharpness 2 / eta or hovers there (Cohen et al. 2021, arXiv 2103.00065).
An early rise of the Fisher trace goes with worse generalization (Jastrzebski et al. 2021, arXiv 2012.14193). Slopes of
the spectrum near 1 go with features that transfer (Agrawal et al. 2022, arXiv 2202.05808).
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from tasks.base import Batch, Task


def sharpness(task: Task, params: PyTree, batch: Batch, key: jax.Array, num_iterations: int = 50) -> Float[Array, ""]:
    """The Rayleigh quotient after power iteration: the eigenvalue of largest magnitude, a lower bound on it.

    Args:
      task: its loss is differentiated twice.
      params: where.
      batch: leaves [B, ...].
      key: of the start vector and of stochastic losses.
      num_iterations: Hessian-vector products; each costs about two gradients.
    """
    loss_key, start_key = jax.random.split(key)
    flat, unravel = ravel_pytree(params)

    def gradient(x):
        return jax.grad(lambda v: task.loss(unravel(v), loss_key, batch))(x)

    def hessian_times(v):
        return jax.jvp(gradient, (flat,), (v,))[1]

    def iterate(v, _):
        product = hessian_times(v)
        norm = jnp.linalg.norm(product)
        return jnp.where(norm > 0, product / jnp.where(norm > 0, norm, 1), v), None

    start = jax.random.normal(start_key, flat.shape, flat.dtype)
    v, _ = jax.lax.scan(iterate, start / jnp.linalg.norm(start), None, length=num_iterations)
    return jnp.vdot(v, hessian_times(v))


def fisher_trace(task: Task, params: PyTree, batch: Batch, num_classes: int, key: jax.Array) -> Float[Array, ""]:
    """Trace of the Fisher information of a classifier whose loss is the cross-entropy in nats.

    The model's own label distribution is read off the loss, once for every class, so no access to logits is needed.

    Args:
      task: its batches have an integer leaf `label`.
      params: where.
      batch: leaves [B, ...].
      num_classes: C; costs C gradients an example.
      key: of stochastic losses.

    Raises:
      ValueError: the batch has no labels.
    """
    if "label" not in batch:
        raise ValueError("batch has no leaf 'label': the Fisher trace is for classification")

    def example_trace(example):
        def loss(p, label):
            one = {name: leaf[None] for name, leaf in example.items()}
            return task.loss(p, key, {**one, "label": label[None]})

        def class_term(label):
            value, gradient = jax.value_and_grad(loss)(params, label)
            square = sum((jnp.sum(jnp.square(g)) for g in jax.tree.leaves(gradient)), jnp.zeros(()))
            return jnp.exp(-value) * square

        labels = jnp.arange(num_classes, dtype=batch["label"].dtype)
        return jnp.sum(jax.lax.map(class_term, labels))

    return jnp.mean(jax.lax.map(example_trace, dict(batch)))


def distance_from_initialisation(params: PyTree, initial_params: PyTree) -> float:
    """Euclidean distance over all parameters."""
    squares = jax.tree.map(lambda x, y: float(np.sum(np.square(np.float64(x) - np.float64(y)))), params, initial_params)
    return float(np.sqrt(sum(jax.tree.leaves(squares))))


def feature_spectrum_slope(features: Float[np.ndarray, "examples features"], ranks: tuple[int, int] | None = None):
    """Exponent of the power law that the eigenvalues of the features' covariance follow, by least squares in
    log-log.

    Args:
      features: e.g. the penultimate layer's.
      ranks: first and last rank of the fit, from 1; all with an eigenvalue above 1e-10 of the largest by default.

    Raises:
      ValueError: fewer than two usable eigenvalues.
    """
    centred = np.asarray(features, np.float64)
    centred = centred - centred.mean(axis=0)
    eigenvalues = np.linalg.svd(centred, compute_uv=False) ** 2 / len(centred)
    rank = np.arange(1, len(eigenvalues) + 1)
    usable = eigenvalues > 1e-10 * max(eigenvalues[0], np.finfo(np.float64).tiny)
    if ranks is not None:
        usable &= (rank >= ranks[0]) & (rank <= ranks[1])
    if usable.sum() < 2:
        raise ValueError(f"features of shape {np.shape(features)}: fewer than two eigenvalues to fit")
    slope, _ = np.polyfit(np.log(rank[usable]), np.log(eigenvalues[usable]), 1)
    return float(-slope)


def landscape(
    task: Task, params: PyTree, initial_params: PyTree, batch: Batch, key: jax.Array, num_classes: int | None = None
) -> Mapping[str, Any]:
    """The diagnostics that any task has, by name; the Fisher trace where `num_classes` is given."""
    found = {
        "sharpness": float(jax.jit(lambda p, b: sharpness(task, p, b, key))(params, batch)),
        "distance_from_initialisation": distance_from_initialisation(params, initial_params),
    }
    if num_classes is not None:
        trace = jax.jit(lambda p, b: fisher_trace(task, p, b, num_classes, key))
        found["fisher_trace"] = float(trace(params, batch))
    return found
