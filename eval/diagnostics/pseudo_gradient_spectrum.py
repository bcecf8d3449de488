"""What averaging the workers does to the spectrum of the pseudo-gradients Delta_k, matrices alone.

    pseudo_gradient_rank  (sum_i s_i)^2 / sum_i s_i^2 of the mean Delta's singular values: r for r equal ones
    interference_gap      1 - |Delta|_* / ((1/K) sum_k |Delta_k|_*),   |.|_*: sum of the singular values

The gap lies between 0, for workers that pull at the same directions (then averaging loses nothing), and 1, where they
cancel; orthonormalised steps, as Muon's, keep it small as K grows (Therien et al. 2025, MuLoCo, arXiv 2505.23725, who
show the spectra themselves). Means over the matrices, weighted by their share: the ranks by sum of squares, the gap by
nuclear norm. Tensors of more than two axes count as matrices of their last axis, vectors are left out; nan without any.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from eval.diagnostics.base import Diagnostic


def pseudo_gradient_rank(worker_updates: PyTree) -> Float[Array, ""]:
    """Effective rank of the mean pseudo-gradient's matrices: 1 if one direction rules (Therien 2025, 2505.23725)."""
    ranks, weights = [], []
    for matrices in _matrices(worker_updates):
        values = singular_values(jnp.mean(matrices, axis=0))
        square = jnp.sum(values**2)
        ranks.append(jnp.sum(values) ** 2 / square)
        weights.append(square)
    return jnp.dot(jnp.stack(ranks), jnp.stack(weights)) / jnp.sum(jnp.stack(weights)) if ranks else _nan()


def interference_gap(worker_updates: PyTree) -> Float[Array, ""]:
    """Nuclear norm that averaging the workers loses: 0 if they agree, 1 if they cancel (Therien 2025, 2505.23725)."""
    mean, workers = [], []
    for matrices in _matrices(worker_updates):
        mean.append(jnp.sum(singular_values(jnp.mean(matrices, axis=0))))
        # One by one: a batched call of LAPACK waits for XLA's threads, and hangs where all devices of a CPU wait.
        workers.append(jnp.mean(jax.lax.map(lambda matrix: jnp.sum(singular_values(matrix)), matrices)))
    return 1 - jnp.sum(jnp.stack(mean)) / jnp.sum(jnp.stack(workers)) if mean else _nan()


def singular_values(matrix: Float[Array, "rows columns"]) -> Float[Array, "rank"]:
    """By the eigenvalues of the product with its own transpose, on the smaller side: several times as fast as a
    decomposition, and blind below the root of float32's resolution."""
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    return jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh(gram), 0))


def _matrices(worker_updates: PyTree) -> list[Float[Array, "workers rows columns"]]:
    leaves = [leaf for leaf in jax.tree.leaves(worker_updates) if leaf.ndim > 2]
    return [leaf.reshape(leaf.shape[0], -1, leaf.shape[-1]).astype(jnp.float32) for leaf in leaves]


def _nan() -> Float[Array, ""]:
    return jnp.full((), jnp.nan)


PSEUDO_GRADIENT_SPECTRUM = (
    Diagnostic("pseudo_gradient_rank", "round", pseudo_gradient_rank),
    Diagnostic("interference_gap", "round", interference_gap),
)
