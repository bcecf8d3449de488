"""Trace of the Fisher information of a classifier whose loss is the cross-entropy in nats.

    mean over examples x of E_{y ~ p(.|x)} |grad l(x, y)|^2,   l = -ln p(y|x), exact

The model's own label distribution is read off the loss, once for every class, so no access to logits is needed. An
early rise of it goes with worse generalization (Jastrzebski et al. 2021, arXiv 2012.14193).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eval.diagnostics.base import Diagnostic, Snapshot
from eval.diagnostics.requirements import CLASSES


def fisher_trace(snapshot: Snapshot) -> Float[Array, ""]:
    """Trace of the Fisher information on a fixed batch; an early rise is a bad sign (Jastrzebski 2021, 2012.14193).

    Costs a gradient for every example and class.
    """
    task, params, batch, num_classes = snapshot.task, snapshot.params, snapshot.batch, snapshot.num_classes
    assert num_classes is not None

    def example_trace(example):
        def loss(p, label):
            one = {name: leaf[None] for name, leaf in example.items()}
            return task.loss(p, snapshot.key, {**one, "label": label[None]})

        def class_term(label):
            value, gradient = jax.value_and_grad(loss)(params, label)
            square = sum((jnp.sum(jnp.square(g)) for g in jax.tree.leaves(gradient)), jnp.zeros(()))
            return jnp.exp(-value) * square

        labels = jnp.arange(num_classes, dtype=batch["label"].dtype)
        return jnp.sum(jax.lax.map(class_term, labels))

    return jnp.mean(jax.lax.map(example_trace, dict(batch)))


FISHER_TRACE = Diagnostic("fisher_trace", "snapshot", fisher_trace, CLASSES)
