"""Loss and accuracy over a whole data split, converted to float32 chunk by chunk.

Finished runs are evaluated by a program of its own, compiled once for all contenders and settings.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from tasks.base import Task, TaskFamily

CHUNK = 8192
"""Examples evaluated at a time at most."""
CHUNK_VALUES = 2**22
"""Numbers of them at most: on CPU the convolutions of 8,192 colour images of 32x32 did not fit in 19 GB, and those of a
small ResNet took 13 for 2,048."""
VALUES_OF_A_TOKEN = 64
"""What an integer of a sequence counts as, for its embedding: 8,192 sequences of 64 did not fit in 10 GB with a
transformer of width 128; 512 take 1.3."""

Metrics = dict[str, Float[Array, ""]]


class Evaluator(NamedTuple):
    """Evaluates finished runs on one split.

    Attributes:
      metrics: (parameters [runs, ...], task configurations [seeds, ...]) -> metric -> [runs], inf where it is not
        finite. Run i is of seed i % seeds.
      fingerprint: (the same arguments) -> SHA-256 of the program; see `Runner`.
    """

    metrics: Callable[[PyTree, PyTree], dict[str, np.ndarray]]
    fingerprint: Callable[[PyTree, PyTree], str]


def make_evaluator(family: TaskFamily, data: Mapping[str, PyTree], split: str) -> Evaluator:
    """Prepares the evaluation of finished runs on one split.

    Args:
      family: the task family.
      data: the split, and "train" (a task may look at its shapes); no other is needed.
      split: which one to read.
    """
    data = jax.device_put({name: data[name] for name in {"train", split}})

    @jax.jit
    def evaluate(params, task_config, data):
        return split_metrics(family, family.task(task_config, data), params, data, split)

    def evaluate_runs(params, task_configs):
        metrics = []
        for i in range(len(jax.tree.leaves(params)[0])):
            run_params = jax.tree.map(lambda x, i=i: x[i], params)
            config = jax.tree.map(lambda x, i=i: x[i % len(x)], task_configs)
            metrics.append(evaluate(run_params, config, data))
        metrics = jax.device_get(metrics)
        return jax.tree.map(lambda *values: diverged_is_inf(np.stack(values)), *metrics)

    def fingerprint(params, task_configs):
        first = jax.tree.map(lambda x: x[0], (params, task_configs))
        return hashlib.sha256(evaluate.lower(*first, data).as_text().encode()).hexdigest()

    return Evaluator(evaluate_runs, fingerprint)


def chunk_size(examples: Mapping[str, Any]) -> int:
    """Examples at a time, a power of two: `CHUNK`, or fewer where one holds many numbers."""
    one = 0
    for leaf in jax.tree.leaves(examples):
        is_sequence = leaf.ndim == 2 and jnp.issubdtype(leaf.dtype, jnp.integer)
        one += math.prod(leaf.shape[1:]) * (VALUES_OF_A_TOKEN if is_sequence else 1)
    return min(CHUNK, 2 ** int(math.log2(max(1, CHUNK_VALUES // max(1, one)))))


def diverged_is_inf(values: Any) -> np.ndarray:
    """float32 with every value that is not finite replaced by inf."""
    values = np.asarray(values, np.float32)
    return np.where(np.isfinite(values), values, np.float32(np.inf))


def split_metrics(family: TaskFamily, task: Task, params: PyTree, data: Mapping[str, Any], split: str) -> Metrics:
    """Means over all examples of `data[split]`.

    Args:
      family: turns the stored examples into a batch.
      task: from the same family.
      params: of one run.
      data: split name -> dict of arrays [examples, ...].
      split: which split to read.

    Returns:
      Name of the metric -> scalar, for example "loss" and "accuracy".
    """
    examples = data[split]
    number = jax.tree.leaves(examples)[0].shape[0]
    size = min(chunk_size(examples), number)
    whole = number - number % size

    def chunk_metrics(chunk):
        return task.metrics(params, family.eval_batch({split: chunk}, split))

    chunks = jax.tree.map(lambda x: x[:whole].reshape((whole // size, size, *x.shape[1:])), examples)
    means = jax.tree.map(lambda x: jnp.mean(x.astype(jnp.float32)), jax.lax.map(chunk_metrics, chunks))
    if whole == number:
        return means
    rest = chunk_metrics(jax.tree.map(lambda x: x[whole:], examples))
    weight = whole / number
    return jax.tree.map(lambda mean, last: weight * mean + (1 - weight) * last.astype(jnp.float32), means, rest)
