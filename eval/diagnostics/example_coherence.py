"""How far the gradients of single examples agree.

    alpha = |mean_i g_i|^2 / mean_i |g_i|^2        1 for equal gradients, 1/m for m orthogonal ones, 0 if they cancel

Examples that have something in common pull together, and what is learned from one holds for others; m alpha is how many
examples a step on one of them helps (Chatterjee and Zielinski 2022, "On the Generalization Mystery in Deep Learning",
arXiv 2203.10036). `coherence` is the same of the workers' pseudo-gradients.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eval.diagnostics.base import Diagnostic, Snapshot

NUM_EXAMPLES = 64


def example_coherence(snapshot: Snapshot) -> Float[Array, ""]:
    """Agreement of 64 examples' gradients: 1 for equal ones, 1/64 for orthogonal ones (Chatterjee 2022, 2203.10036)."""
    examples = jax.tree.map(lambda x: x[:NUM_EXAMPLES], dict(snapshot.batch))

    def add(sums, example):
        one = {name: leaf[None] for name, leaf in example.items()}
        gradient = jax.grad(snapshot.task.loss)(snapshot.params, snapshot.key, one)
        gradient = jax.tree.map(lambda g: g.astype(jnp.float32), gradient)
        return (jax.tree.map(jnp.add, sums[0], gradient), sums[1] + _square(gradient)), None

    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), snapshot.params)
    (total, squares), _ = jax.lax.scan(add, (zeros, jnp.float32(0)), examples)
    return _square(total) / (squares * len(jax.tree.leaves(examples)[0]))


def _square(tree) -> Float[Array, ""]:
    return jnp.sum(jnp.stack([jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)]))


EXAMPLE_COHERENCE = Diagnostic("example_coherence", "snapshot", example_coherence)
