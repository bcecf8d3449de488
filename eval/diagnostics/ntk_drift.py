"""How far the tangent kernel has turned since the start: lazy training leaves it, feature learning does not.

    Theta_ij = sum_c <d z_c(x_i) / d theta, d z_c(x_j) / d theta>,   z the centred logits
    drift = 1 - CKA(Theta_0, Theta_t),   CKA(K, L) = <HKH, HLH> / (|HKH| |HLH|),   H = I - 1 1^T / n

0 for a network that is linear in its parameters, whatever the step (Jacot, Gabriel and Hongler 2018, arXiv 1806.07572;
CKA: Kornblith et al. 2019, arXiv 1905.00414). A deviation: the kernel is summed over the classes, n x n instead of
nC x nC, which is what its blocks converge to in wide networks.
"""

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from eval.diagnostics.base import Diagnostic, Snapshot
from eval.diagnostics.class_outputs import centred_logits
from eval.diagnostics.requirements import CLASSES

NUM_EXAMPLES = 32
"""Gradients of one class by all of them are in memory together."""


def ntk_drift(snapshot: Snapshot) -> Float[Array, ""]:
    """Turn of the tangent kernel since the start, 0 for lazy training (Jacot 2018, 1806.07572).

    Costs two gradients for every class of 32 examples: the initial kernel is computed for every snapshot anew.
    """
    start, now = (centred(tangent_kernel(snapshot, p)) for p in (snapshot.initial_params, snapshot.params))
    return 1 - jnp.sum(start * now) / (jnp.linalg.norm(start) * jnp.linalg.norm(now))


def tangent_kernel(snapshot: Snapshot, params: PyTree) -> Float[Array, "examples examples"]:
    """Theta at these parameters."""
    examples = {name: leaf[:NUM_EXAMPLES] for name, leaf in snapshot.batch.items()}
    assert snapshot.num_classes is not None

    def of_class(kernel, label):
        def gradient(example):
            return ravel_pytree(jax.grad(lambda p: centred_logits(snapshot, p, example)[label])(params))[0]

        rows = jax.vmap(gradient)(examples).astype(jnp.float32)
        return kernel + rows @ rows.T, None

    number = len(jax.tree.leaves(examples)[0])
    kernel, _ = jax.lax.scan(of_class, jnp.zeros((number, number)), jnp.arange(snapshot.num_classes))
    return kernel


def centred(kernel: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """HKH of a symmetric kernel."""
    mean = jnp.mean(kernel, axis=0, keepdims=True)
    return kernel - mean - mean.T + jnp.mean(mean)


NTK_DRIFT = Diagnostic("ntk_drift", "snapshot", ntk_drift, CLASSES)
