"""How far the K workers agree, read off the pseudo-gradients Delta_k that every round sends anyway.

    consensus_distance  (1/K) sum_k |Delta_k - Delta|^2                  Delta: the mean; distance of the workers'
                                                                        parameters before they are averaged
    relative_consensus  consensus_distance / |Delta|^2
    worker_cosine       mean over k < l of cos(Delta_k, Delta_l)
    coherence           |Delta|^2 / ((1/K) sum_k |Delta_k|^2)           1 for equal workers, 1/K for orthogonal ones
    noise_scale         tr S / |G|^2 with the unbiased tr S = K/(K-1) consensus_distance and
                        |G|^2 = |Delta|^2 - tr S / K

The noise scale is the one of McCandlish et al. (2018, arXiv 1812.06162, appendix A) with a worker's H local steps in
the place of one example, so it is in units of workers: with about that many, averaging stops paying. It is negative or
infinite where the signal is below the noise of its estimate. Coherence: Chatterjee (2020, arXiv 2002.10657).

All of them follow from the inner products of the workers' updates, which a compiled round computes once.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from eval.diagnostics.base import Diagnostic


def consensus_distance(worker_updates: PyTree) -> Float[Array, ""]:
    """Mean squared distance of the workers from their average, before it is taken (Kong 2021, 2102.04828)."""
    gram = _gram(worker_updates)
    return jnp.mean(jnp.diagonal(gram)) - jnp.mean(gram)


def relative_consensus(worker_updates: PyTree) -> Float[Array, ""]:
    """The consensus distance over the squared norm of the average (Kong 2021, 2102.04828)."""
    return consensus_distance(worker_updates) / jnp.mean(_gram(worker_updates))


def worker_cosine(worker_updates: PyTree) -> Float[Array, ""]:
    """Mean cosine of two workers' pseudo-gradients (Therien 2025, 2505.23725)."""
    gram = _gram(worker_updates)
    num_workers = gram.shape[0]
    norms = jnp.sqrt(jnp.diagonal(gram))
    cosines = gram / (norms[:, None] * norms[None, :])
    return (jnp.sum(cosines) - jnp.trace(cosines)) / (num_workers * (num_workers - 1))


def coherence(worker_updates: PyTree) -> Float[Array, ""]:
    """Agreement of workers: 1 for equal pseudo-gradients, 1/K for orthogonal ones (Chatterjee 2020, 2002.10657)."""
    gram = _gram(worker_updates)
    return jnp.mean(gram) / jnp.mean(jnp.diagonal(gram))


def noise_scale(worker_updates: PyTree) -> Float[Array, ""]:
    """Gradient noise scale in workers: beyond that many, averaging stops paying (McCandlish 2018, 1812.06162)."""
    gram = _gram(worker_updates)
    num_workers = gram.shape[0]
    trace = consensus_distance(worker_updates) * (num_workers / (num_workers - 1))
    return trace / (jnp.mean(gram) - trace / num_workers)


def _gram(worker_updates: PyTree) -> Float[Array, "workers workers"]:
    """Inner products of the workers' updates, in float32."""
    total = jnp.zeros((), jnp.float32)
    for leaf in jax.tree.leaves(worker_updates):
        flat = leaf.reshape(leaf.shape[0], -1).astype(jnp.float32)
        product = flat @ flat.T
        total = product if total.ndim == 0 else total + product
    return total


WORKER_AGREEMENT = tuple(
    Diagnostic(measure.__name__, "round", measure)
    for measure in (consensus_distance, relative_consensus, worker_cosine, coherence, noise_scale)
)
