"""Several datasets of one shape as one, so that a task may be drawn on any of them within one compiled program.

Row i of a stacked split is row i // D of dataset i mod D, and a leaf `dataset` says which one that is. A task on
dataset d draws its batches from the rows d, D + d, 2 D + d, ... and counts no others in its means.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tasks.base import Batch, Data, TaskConfig


def stack_datasets(datasets: Sequence[Data]) -> Data:
    """Interleaves the rows of datasets with equal leaves; every split is cut to its shortest.

    Args:
      datasets: `{split: {leaf: [N_d, ...]}}`, N_d may differ.

    Returns:
      `{split: {leaf: [D * min N_d, ...], "dataset": int32[D * min N_d]}}`, NumPy arrays.

    Raises:
      ValueError: no dataset, or splits, leaves, shapes or dtypes that differ.
    """
    if not datasets:
        raise ValueError("datasets=(): stack at least one")
    described = [_description(data) for data in datasets]
    if any(description != described[0] for description in described):
        raise ValueError(f"datasets to stack differ in splits, leaves, shapes or dtypes: {described}")
    stacked = {}
    for split, leaves in datasets[0].items():
        shortest = min(len(leaf) for data in datasets for leaf in data[split].values())
        stacked[split] = {
            name: np.stack([np.asarray(data[split][name][:shortest]) for data in datasets], 1).reshape(
                -1, *leaf.shape[1:]
            )
            for name, leaf in leaves.items()
        }
        stacked[split]["dataset"] = np.tile(np.arange(len(datasets), dtype=np.int32), shortest)
    return stacked


def num_stacked(data: Data) -> int:
    """How many datasets are stacked; 1 for data that did not come from `stack_datasets`."""
    if "dataset" not in data["train"]:
        return 1
    return int(np.max(data["train"]["dataset"])) + 1


def mean_over_rows(values: Float[Array, "batch"], config: TaskConfig, batch: Batch) -> Float[Array, ""]:
    """Mean over the rows of the task's dataset: over all of them where nothing is stacked.

    The mean over a split in chunks equals that over the whole split if every chunk holds as many rows of the dataset,
    which holds up to one row.
    """
    if "dataset" not in config:
        return jnp.mean(values)
    counts = (batch["dataset"] == config["dataset"]).astype(values.dtype)
    return jnp.sum(values * counts) / jnp.maximum(jnp.sum(counts), 1)


def _description(data: Data) -> dict[str, dict[str, tuple]]:
    return {
        split: {name: (leaf.shape[1:], str(leaf.dtype)) for name, leaf in leaves.items()}
        for split, leaves in data.items()
    }
