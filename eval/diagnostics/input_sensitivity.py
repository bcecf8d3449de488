"""How strongly a classifier's output follows its input: the spectral norm of its Jacobian.

    mean over examples x of |J(x)|_2,   J = d (z - mean z) / d x

z are the logits, of which softmax knows the differences only. A flat network, which interpolates smoothly between
examples, has a small norm (Gamba et al. 2023, "On the Varied Faces of Overparameterization in Supervised and
Self-Supervised Learning"; for generalization: Novak et al. 2018, arXiv 1802.08760). A deviation: theirs are features as
well as outputs; a task shows its outputs by its loss alone. The largest eigenvalue of J J^T [C, C] is exact, where
power iteration would be a bound.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eval.diagnostics.base import Diagnostic, Snapshot
from eval.diagnostics.class_outputs import centred_logits, input_leaves
from eval.diagnostics.requirements import INPUTS

NUM_EXAMPLES = 32


def input_sensitivity(snapshot: Snapshot) -> Float[Array, ""]:
    """Mean spectral norm of the Jacobian of the centred logits by the inputs (Novak 2018, 1802.08760; Gamba 2023).

    Costs a gradient for every class of 32 examples.
    """
    inputs = input_leaves(snapshot.batch)

    def gram(example):
        rest = {name: leaf for name, leaf in example.items() if name not in inputs}

        def outputs(x):
            return centred_logits(snapshot, snapshot.params, {**rest, **x})

        jacobian = jax.jacrev(outputs)({name: example[name] for name in inputs})
        flat = [leaf.reshape(leaf.shape[0], -1).astype(jnp.float32) for leaf in jacobian.values()]
        rows = jnp.concatenate(flat, axis=1)
        return rows @ rows.T

    grams = jax.vmap(gram)({name: leaf[:NUM_EXAMPLES] for name, leaf in snapshot.batch.items()})
    # One by one: a batched call of LAPACK waits for XLA's threads, and hangs where all devices of a CPU wait.
    largest = jax.lax.map(lambda matrix: jnp.linalg.eigvalsh(matrix)[-1], grams)
    return jnp.mean(jnp.sqrt(jnp.maximum(largest, 0)))


INPUT_SENSITIVITY = Diagnostic("input_sensitivity", "snapshot", input_sensitivity, INPUTS)
