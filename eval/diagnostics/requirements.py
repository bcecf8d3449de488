"""What diagnostics ask of a task, found out before any training by a look at the family and a few losses.

CLASSES      integer labels and a loss that is the cross-entropy: sum over c of exp(-loss(x, c)) = 1
INPUTS       the same, and real-valued inputs
LAST_LAYER   the same, and logits that are linear in features: dz_c / dW_ij = h_i 1(c = j)
LINEAR_NET   U and V of U V^T, as `two_layer_linear` has them
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eval.diagnostics.base import Requirement
from eval.diagnostics.class_outputs import at_path, input_leaves, last_layer, log_probabilities, with_leaf
from tasks.base import Task, TaskFamily
from tasks.check import num_classes

NUM_EXAMPLES = 3
TOLERANCE = 1e-3
"""Of float32 losses and their derivatives; what is no cross-entropy is wrong in the first digit."""

CLASSIFIERS = (
    "image classifiers (fmnist8_mlp32 and others by image_mlp, image_cnn, image_resnet, image_vit, image_mixer)"
)

QUICK = {"xla_backend_optimization_level": "0", "xla_llvm_disable_expensive_passes": True}
"""Compiler options of what runs once."""


def lacking_classes(family: TaskFamily) -> str | None:
    """No classes, or a loss that is not -ln p(label)."""
    classes = num_classes(family)
    label = family.data["train"].get("label")
    if classes is None or label is None:
        return "has no classes"
    if np.asarray(label[:1]).dtype.kind not in "iu" or np.ndim(label) != 1 or np.min(label) < 0:
        return "has no labels 0, 1, ..."

    def totals(task: Task, params, key, batch):
        def total(example):
            return jnp.sum(jnp.exp(log_probabilities(task, params, key, example, classes)))

        return jax.vmap(total)(dict(batch))

    if not np.allclose(_tried(family, totals), 1, atol=TOLERANCE):
        return "has a loss that is not the cross-entropy of its labels"
    return None


def lacking_inputs(family: TaskFamily) -> str | None:
    """Nothing to differentiate by."""
    batch = jax.eval_shape(lambda rows: family.eval_batch({"train": rows}, "train"), _first_rows(family))
    return None if input_leaves(batch) else "has no real-valued inputs"


def lacking_last_layer(family: TaskFamily) -> str | None:
    """No matrix that the logits are linear in; the family has classes."""
    classes = num_classes(family)
    assert classes is not None

    def deviations(task: Task, params, key, batch):
        path = last_layer(params, classes)
        if path is None:
            return jnp.ones((1, 2))

        def of_example(example):
            def logits(kernel):
                found = log_probabilities(task, with_leaf(params, path, kernel), key, example, classes)
                return found - jnp.mean(found)

            derivative = jax.jacrev(logits)(at_path(params, path))
            h = derivative[0, :, 0] * (classes / (classes - 1))
            centring = jnp.eye(classes, dtype=h.dtype) - 1 / classes
            expected = h[None, :, None] * centring[:, None, :]
            return jnp.stack([jnp.max(jnp.abs(derivative - expected)), jnp.max(jnp.abs(h))])

        return jax.vmap(of_example)(dict(batch))

    largest, features = np.max(_tried(family, deviations), axis=0)
    return None if largest < TOLERANCE * features else "has no last layer of a matrix [features, classes]"


def lacking_linear_net(family: TaskFamily) -> str | None:
    """No two matrices U [., r] and V [., r]."""
    params = jax.eval_shape(lambda key: family.task(family.sample(key), family.data).init(key), jax.random.key(0))
    leaves = jax.tree.leaves(params)
    if not isinstance(params, dict) or set(params) != {"u", "v"} or [leaf.ndim for leaf in leaves] != [2, 2]:
        return "is no two-layer linear net"
    return None if leaves[0].shape[1] == leaves[1].shape[1] else "is no two-layer linear net"


def _first_rows(family: TaskFamily) -> dict[str, Any]:
    return {name: leaf[:NUM_EXAMPLES] for name, leaf in family.data["train"].items()}


def _tried(family: TaskFamily, measure: Callable[..., jax.Array]) -> np.ndarray:
    """(task, parameters, key, a few examples) -> a number for each of these.

    What is checked holds for any parameters, and drawing them is what takes longest to compile: they are a sine.
    """
    config = jax.jit(family.sample)(jax.random.key(0))
    shapes = jax.eval_shape(
        lambda rows: family.task(config, {"train": rows}).init(jax.random.key(0)), _first_rows(family)
    )
    params = jax.tree.map(_sine, shapes)

    def measured(params, rows):
        batch = family.eval_batch({"train": rows}, "train")
        return measure(family.task(config, {"train": rows}), params, jax.random.key(0), batch)

    arguments = params, _first_rows(family)
    return np.asarray(jax.jit(measured).lower(*arguments).compile(QUICK)(*arguments), np.float64)


def _sine(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    """A few times as large as a network's initial parameters: among equal outputs every loss looks like a logarithm."""
    numbers = 4 * np.sin(np.arange(1, 1 + leaf.size)) * (leaf.shape[0] if leaf.ndim else 1) ** -0.5
    return numbers.reshape(leaf.shape).astype(leaf.dtype)


CLASSES = Requirement("classes", (lacking_classes,), f"{CLASSIFIERS} and modular_arithmetic")
INPUTS = Requirement("classes and real inputs", (lacking_classes, lacking_inputs), CLASSIFIERS)
LAST_LAYER = Requirement(
    "classes and a last layer", (lacking_classes, lacking_last_layer), f"{CLASSIFIERS} and modular_arithmetic"
)
LINEAR_NET = Requirement("a two-layer linear net", (lacking_linear_net,), "two_layer_linear")
