"""Training-loss curves from snapshots of the parameters, with one program for all contenders of a comparison."""

from collections.abc import Callable, Mapping

import jax
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Float, PyTree

from eval.compare.runner import RUNS
from eval.compare.split_metrics import diverged_is_inf, split_metrics
from tasks.base import TaskFamily

CurveFn = Callable[[PyTree, PyTree], Float[np.ndarray, "seeds points"]]
"""(snapshots [seeds, points, ...], task configurations [seeds, ...]) -> losses, inf where they are not finite."""


def make_curve(family: TaskFamily, curve_data: Mapping[str, PyTree]) -> CurveFn:
    """Prepares the evaluation of snapshots; it compiles at the first call and for another number of seeds or points.

    Args:
      family: the task family.
      curve_data: "train" alone, the examples from `curve_examples`.
    """
    mesh = jax.make_mesh((len(jax.devices()),), (RUNS,), axis_types=(jax.sharding.AxisType.Auto,))

    def device_curves(snapshots, task_configs, curve_data):
        def one(inputs):
            params, task_config = inputs
            task = family.task(task_config, curve_data)
            return split_metrics(family, task, params, curve_data, "train")["loss"]

        return jax.lax.map(one, (snapshots, task_configs))

    split = PartitionSpec(RUNS)
    evaluate = jax.jit(
        jax.shard_map(
            device_curves, mesh=mesh, in_specs=(split, split, PartitionSpec()), out_specs=split, check_vma=False
        )
    )

    def curve(snapshots, task_configs):
        num_seeds, num_points = jax.tree.leaves(snapshots)[0].shape[:2]
        total = num_seeds * num_points
        # Every device gets as many snapshots; what fills up the last one is dropped again.
        index = np.minimum(np.arange(-(-total // mesh.size) * mesh.size), total - 1)
        flat = jax.tree.map(lambda x: x.reshape((total, *x.shape[2:]))[index], snapshots)
        configs = jax.tree.map(lambda x: x[index // num_points], task_configs)
        losses = evaluate(flat, configs, dict(curve_data))
        return diverged_is_inf(jax.device_get(losses)[:total].reshape(num_seeds, num_points))

    return curve


def curve_examples(split: PyTree, number: int) -> PyTree:
    """`number` evenly spaced examples of a split (all of a smaller one): the same for every
    contender and seed."""
    available = len(jax.tree.leaves(split)[0])
    index = np.linspace(0, available - 1, min(number, available)).round().astype(np.int64)
    return jax.tree.map(lambda x: np.asarray(x)[index], split)
