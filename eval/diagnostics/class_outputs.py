"""What a classifier puts out and what its last layer reads, both recovered from nothing but its loss.

A task shows its loss and no network. For a loss that is the cross-entropy -ln p(y|x) in nats this is enough:

    ln p(c|x) = -loss(x, c)              for every class c
    z_c - mean z = ln p(c|x) - mean      the logits, centred over the classes: softmax knows no more of them
    h_i = C / (C - 1) d(z_0 - mean z) / dW_i0        the features, where z = W^T h + b with W [features, C]

All three are exact. Labels are the only thing that changes between the C losses of an example, so a compiled program
computes the network once.
"""

import re
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from eval.diagnostics.base import Snapshot
from tasks.base import Batch, Task


def log_probabilities(
    task: Task, params: PyTree, key: Any, example: Batch, num_classes: int
) -> Float[Array, "classes"]:
    """ln p(c|x) of one example, leaves without a batch axis."""
    one = {name: leaf[None] for name, leaf in example.items()}

    def log_probability(label):
        return -task.loss(params, key, {**one, "label": label[None]})

    return jax.vmap(log_probability)(jnp.arange(num_classes, dtype=example["label"].dtype))


def centred_logits(snapshot: Snapshot, params: PyTree, example: Batch) -> Float[Array, "classes"]:
    """Logits of one example at other parameters than the snapshot's, less their mean."""
    assert snapshot.num_classes is not None
    found = log_probabilities(snapshot.task, params, snapshot.key, example, snapshot.num_classes)
    return found - jnp.mean(found)


def input_leaves(batch: Batch) -> tuple[str, ...]:
    """Names of the real-valued inputs of a batch."""
    return tuple(name for name, leaf in batch.items() if name != "label" and jnp.issubdtype(leaf.dtype, jnp.floating))


def last_layer(params: PyTree, num_classes: int) -> tuple[Any, ...] | None:
    """Path of the matrix [features, num_classes] that comes last by name (Dense_10 after Dense_2); None without one."""
    paths = [
        path
        for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]
        if jnp.ndim(leaf) == 2 and jnp.shape(leaf)[1] == num_classes
    ]
    return max(paths, key=_natural_order, default=None)


def at_path(params: PyTree, path: tuple[Any, ...]) -> Float[Array, "features classes"]:
    """The leaf of a path."""
    return next(leaf for p, leaf in jax.tree_util.tree_flatten_with_path(params)[0] if p == path)


def with_leaf(params: PyTree, path: tuple[Any, ...], leaf: Array) -> PyTree:
    """The parameters with another leaf at a path."""
    return jax.tree_util.tree_map_with_path(lambda p, x: leaf if p == path else x, params)


def features(snapshot: Snapshot) -> Float[Array, "examples features"]:
    """What the last layer reads, for every example of the batch."""
    num_classes = snapshot.num_classes
    assert num_classes is not None
    path = last_layer(snapshot.params, num_classes)
    assert path is not None

    def of_example(example):
        def first_logit(kernel):
            return centred_logits(snapshot, with_leaf(snapshot.params, path, kernel), example)[0]

        return jax.grad(first_logit)(at_path(snapshot.params, path))[:, 0]

    return jax.vmap(of_example)(dict(snapshot.batch)) * (num_classes / (num_classes - 1))


def _natural_order(path: tuple[Any, ...]) -> list[tuple[int, int, str]]:
    """Numbers in names compare as numbers."""
    parts = re.findall(r"\d+|\D+", jax.tree_util.keystr(path))
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]
