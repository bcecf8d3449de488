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
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

DIAGNOSTICS = ("consensus_distance", "relative_consensus", "worker_cosine", "coherence", "noise_scale")


def worker_diagnostics(worker_updates: PyTree) -> dict[str, Float[Array, ""]]:
    """The diagnostics of one round.

    Args:
      worker_updates: pseudo-gradients of K >= 2 workers, leaves [K, ...].
    """
    # All of them follow from the inner products of the workers' updates.
    gram = sum(_gram(leaf) for leaf in jax.tree.leaves(worker_updates))
    gram = jnp.asarray(gram)
    num_workers = gram.shape[0]
    squares = jnp.diagonal(gram)
    mean_square, square_of_mean = jnp.mean(squares), jnp.mean(gram)
    consensus = mean_square - square_of_mean
    norms = jnp.sqrt(squares)
    cosines = gram / (norms[:, None] * norms[None, :])
    pairs = num_workers * (num_workers - 1)
    trace = consensus * (num_workers / (num_workers - 1))
    return {
        "consensus_distance": consensus,
        "relative_consensus": consensus / square_of_mean,
        "worker_cosine": (jnp.sum(cosines) - jnp.trace(cosines)) / pairs,
        "coherence": square_of_mean / mean_square,
        "noise_scale": trace / (square_of_mean - trace / num_workers),
    }


def _gram(leaf: Array) -> Float[Array, "workers workers"]:
    flat = leaf.reshape(leaf.shape[0], -1).astype(jnp.float32)
    return flat @ flat.T
