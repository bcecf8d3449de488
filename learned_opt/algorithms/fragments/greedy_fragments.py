"""The fragment that has moved most is sent: the Gauss-Southwell rule (Nutini et al. 2017, arXiv 1712.08859).

    p = argmax_p norm(x_p - y_p);   x_p <- server(x_p, mean_k (x_p - y_{k,p}))

The norm is the root mean square over the workers, who send one number for each fragment to agree on p. The rule's
division by the root of the fragment's Lipschitz constant is left out, as that is not known. The control for it is
Streaming DiLoCo, which takes the fragments in turn.
"""

from __future__ import annotations

import jax.numpy as jnp
import optax

from learned_opt.algorithms.fragments.streaming_diloco import by_fragments
from learned_opt.base import LocalAlgorithm


def greedy_fragments(
    local_opt: optax.GradientTransformation,
    num_fragments: int,
    server_opt: optax.GradientTransformation | None = None,
) -> LocalAlgorithm:
    """Averages the fragment of largest pseudo-gradient; arguments and errors as for `streaming_diloco`."""
    algorithm = by_fragments(local_opt, num_fragments, server_opt, lambda num_rounds, norms: jnp.argmax(norms))

    def with_norms(params):
        return algorithm.bytes_sent(params) + 4 * num_fragments

    return algorithm._replace(bytes_sent=with_norms, bytes_received=lambda params, num_workers: with_norms(params))
