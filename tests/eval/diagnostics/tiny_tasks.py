"""Snapshots of tasks whose derivatives are known in closed form."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eval.diagnostics.base import Snapshot
from tasks.base import Task
from tests.eval.toy import toy_family

KEY = jax.random.key(0)
EIGENVALUES = np.array([5.0, 2.0, 1.0, 0.5], np.float32)
ROTATION = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
HESSIAN = ROTATION @ np.diag(EIGENVALUES) @ ROTATION.T


def snapshot_of(loss, params, batch, num_classes=None, **fields):
    """A snapshot of the task with this loss, (params, batch) -> scalar, that has not moved."""
    task = Task(lambda key: params, lambda p, key, b: loss(p, b), lambda key, split, shape: {}, lambda p, b: {})
    start = Snapshot(task, params, params, params, params, batch, KEY, num_classes, jnp.float32(0.5))
    return start._replace(**fields)


def quadratic(hessian=HESSIAN):
    """A rotated quadratic with a constant that depends on the batch."""
    hessian = jnp.float32(hessian)

    def loss(params, batch):
        x = jnp.concatenate([params["a"], params["b"]])
        return 0.5 * x @ hessian @ x + jnp.sum(batch["x"])

    initial = {"a": jnp.zeros(2), "b": jnp.ones(2)}
    params = {"a": jnp.ones(2), "b": jnp.zeros(2)}
    return snapshot_of(loss, params, {"x": jnp.zeros(1)}, initial_params=initial)


def classifier():
    """Softmax regression on 2x2 images of three kinds."""
    family = toy_family()
    task = family.task({}, family.data)
    params = task.init(KEY)
    batch = jax.tree.map(lambda x: x[:7], family.eval_batch(family.data, "test"))
    return Snapshot(task, params, params, params, params, batch, KEY, 3, jnp.float32(0.5))


def inputs(snapshot):
    """[examples, pixels] in float64."""
    return np.asarray(snapshot.batch["image"], np.float64).reshape(7, 4)


def linear_logits(snapshot):
    layer = snapshot.params["Dense_0"]
    return inputs(snapshot) @ np.float64(layer["kernel"]) + np.float64(layer["bias"])


def probabilities(snapshot):
    exponentials = np.exp(linear_logits(snapshot))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def two_layers(features, labels, width=3, num_classes=4):
    """Cross-entropy of x A B with matrices named Dense_2 and Dense_10, out of order by letters."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(features.shape[1], width)), rng.normal(size=(width, num_classes))
    params = {"Dense_2": jnp.float32(a), "Dense_10": jnp.float32(b)}

    def loss(p, batch):
        logits = batch["x"] @ p["Dense_2"] @ p["Dense_10"]
        hot = jax.nn.one_hot(batch["label"], num_classes)
        return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - jnp.sum(hot * logits, axis=-1))

    batch = {"x": jnp.float32(features), "label": jnp.asarray(labels, jnp.int32)}
    return snapshot_of(loss, params, batch, num_classes)


def measured(snapshot, *measures) -> Any:
    """The numbers, by one compiled program."""
    held = ("params", "initial_params", "previous_params", "final_params", "batch", "learning_rate")
    program = jax.jit(lambda arrays: [measure(snapshot._replace(**arrays)) for measure in measures])
    found = [np.asarray(x) for x in program({name: getattr(snapshot, name) for name in held})]
    return found[0] if len(found) == 1 else found
