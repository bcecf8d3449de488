"""Curves from snapshots of the parameters, with one program for all contenders of a comparison: losses and other
metrics on fixed examples, and the diagnostics that need a snapshot."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int, PyTree

from eval.compare.initial_states import InitialStates
from eval.compare.runner import RUNS
from eval.compare.split_metrics import split_metrics
from eval.diagnostics.base import Diagnostic, Snapshot
from tasks.base import Task, TaskFamily
from tasks.check import num_classes

NUM_DIAGNOSED = 10
"""Snapshots of a run that are diagnosed, at most: some diagnostics cost many gradients."""

NUM_DIAGNOSTIC_EXAMPLES = 128
"""Training examples that snapshots are diagnosed on, at most."""

Measure = Callable[[Task, PyTree, Mapping[str, Any]], dict[str, Float[Array, ""]]]
"""(task, what belongs to the point, data) -> scalars by name."""

CurvesFn = Callable[[PyTree, InitialStates], dict[str, Float[np.ndarray, "seeds points"]]]
"""(snapshots [seeds, points, ...], starts of the seeds) -> curves by name."""

DiagnosticCurvesFn = Callable[
    [PyTree, InitialStates, Float[np.ndarray, "points"]], dict[str, Float[np.ndarray, "seeds points"]]
]
"""The same with the learning rate of gradient steps at every point, nan for steps of another kind."""


def make_curves(family: TaskFamily, data: Mapping[str, PyTree], split: str) -> CurvesFn:
    """Prepares the curves of all metrics of a family.

    Args:
      family: the task family.
      data: "train" and `split`, the examples from `evenly_spaced`.
      split: where the metrics are measured.
    """
    return _over_snapshots(family, data, lambda task, params, data: split_metrics(family, task, params, data, split))


def make_diagnostic_curves(
    family: TaskFamily, diagnostics: Sequence[Diagnostic], train_split: PyTree
) -> DiagnosticCurvesFn | None:
    """Prepares the curves of the diagnostics that need a snapshot; None if there are none.

    They are measured at a few points of a curve and nan at the others.
    """
    measured = [diagnostic for diagnostic in diagnostics if diagnostic.needs == "snapshot"]
    if not measured:
        return None
    classes, key = num_classes(family), jax.random.key(0)

    def measure(task, at, data):
        batch = family.eval_batch(data, "train")
        snapshot = Snapshot(task=task, batch=batch, key=key, num_classes=classes, **at)
        return {diagnostic.name: diagnostic.measure(snapshot) for diagnostic in measured}

    curves = _over_snapshots(family, {"train": evenly_spaced(train_split, NUM_DIAGNOSTIC_EXAMPLES)}, measure)

    def diagnosed(snapshots, starts, learning_rates):
        num_seeds, num_points = jax.tree.leaves(snapshots)[0].shape[:2]
        points = some_points(num_points, NUM_DIAGNOSED)

        def of_seed(x):
            return np.broadcast_to(x[:, None], (num_seeds, len(points), *x.shape[1:]))

        def previous(start, later):
            before = later[:, np.maximum(points - 1, 0)]
            before[:, points == 0] = start[:, None]
            return before

        at = {
            "params": jax.tree.map(lambda x: x[:, points], snapshots),
            "initial_params": jax.tree.map(of_seed, starts.params),
            "previous_params": jax.tree.map(previous, starts.params, snapshots),
            "final_params": jax.tree.map(lambda x: of_seed(x[:, -1]), snapshots),
            "learning_rate": np.tile(np.asarray(learning_rates, np.float32)[points], (num_seeds, 1)),
        }
        found = curves(at, starts)
        whole = {name: np.full((num_seeds, num_points), np.nan, np.float32) for name in found}
        for name, values in found.items():
            whole[name][:, points] = values
        return whole

    return diagnosed


def some_points(number: int, limit: int) -> Int[np.ndarray, "points"]:
    """Indices of at most `limit` points out of `number`, evenly spaced, the last one among them."""
    return np.unique(np.linspace(number - 1, 0, min(number, limit)).round().astype(np.int64))


def evenly_spaced(split: PyTree, number: int) -> PyTree:
    """`number` evenly spaced examples of a split (all of a smaller one): the same for every contender and seed."""
    available = len(jax.tree.leaves(split)[0])
    index = np.linspace(0, available - 1, min(number, available)).round().astype(np.int64)
    return jax.tree.map(lambda x: np.asarray(x)[index], split)


def _over_snapshots(family: TaskFamily, data: Mapping[str, PyTree], measure: Measure) -> CurvesFn:
    """Compiles at the first call, and again for another number of seeds or points."""
    mesh = jax.make_mesh((len(jax.devices()),), (RUNS,), axis_types=(jax.sharding.AxisType.Auto,))

    def device_curves(snapshots, task_configs, data):
        def one(inputs):
            at, task_config = inputs
            return measure(family.task(task_config, data), at, data)

        return jax.lax.map(one, (snapshots, task_configs))

    split, replicated = PartitionSpec(RUNS), PartitionSpec()
    evaluate = jax.jit(
        jax.shard_map(device_curves, mesh=mesh, in_specs=(split, split, replicated), out_specs=split, check_vma=False)
    )

    def curves(snapshots, starts):
        num_seeds, num_points = jax.tree.leaves(snapshots)[0].shape[:2]
        total = num_seeds * num_points
        # Every device gets as many snapshots; what fills up the last one is dropped again.
        index = np.minimum(np.arange(-(-total // mesh.size) * mesh.size), total - 1)
        flat = jax.tree.map(lambda x: x.reshape((total, *x.shape[2:]))[index], snapshots)
        configs = jax.tree.map(lambda x: x[index // num_points], starts.task_config)
        found = jax.device_get(evaluate(flat, configs, dict(data)))
        return {name: values[:total].reshape(num_seeds, num_points) for name, values in found.items()}

    return curves
