"""What an inner problem is: four pure functions, drawn from a family of tasks.

The split into family, configuration and task follows learned_optimization (Metz et al. 2022, arXiv
2203.11860). Two deliberate deviations keep compilation cheap: a configuration holds arrays only, in
one tree structure per family, so that tasks can be vmapped and one compiled program serves all of
them; and the data are an argument of `task`, because a dataset that a jitted function closes over
becomes a constant of its program.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxtyping import Array, Float, Key, PyTree

Params = PyTree[Array]
TaskConfig = PyTree[Array]
Batch = dict[str, Any]
"""Leaves `[*batch_shape, ...]`. Image classification: `image` float32 in [0, 1], `label` int32. Text: `tokens` int32
`[..., length + 1]`."""

Data = Mapping[str, Mapping[str, Any]]
"""`{split: {leaf: [N, ...]}}` with the splits `train`, `inner_valid`, `outer_valid` and `test`; NumPy or JAX arrays,
all leaves of a split with the same N. Families that generate their data hold every split but may draw the training
batches afresh from the key."""

SPLITS = ("train", "inner_valid", "outer_valid", "test")
"""`train` trains the inner problem, `outer_valid` may enter a meta-objective, `inner_valid` tunes
hyper-parameters, `test` is only reported."""


class Task(NamedTuple):
    """One inner problem. Every function is pure, may be jitted, vmapped and differentiated.

    Attributes:
      init: key -> params.
      loss: (params, key, batch) -> loss [], the mean over the batch. The key is for stochastic
        losses.
      sample_batch: (key, split, batch_shape) -> batch drawn with replacement, leaves
        `[*batch_shape, ...]`. It depends on the key alone, so the members of an antithetic pair
        that share a key share one unbatched batch.
      metrics: (params, batch) -> scalars by name: `loss`, and what the field reports (`accuracy`, `relative_l2`,
        ...). Means over the leading axis, or a function of the whole batch where the field's metric is one.
    """

    init: Callable[[Key[Array, ""]], Params]
    loss: Callable[[Params, Key[Array, ""], Batch], Float[Array, ""]]
    sample_batch: Callable[[Key[Array, ""], str, tuple[int, ...]], Batch]
    metrics: Callable[[Params, Batch], dict[str, Float[Array, ""]]]


class TaskFamily(NamedTuple):
    """A distribution over tasks that share one tree structure.

    Attributes:
      name: as listed in `tasks.suites.FAMILIES`.
      data: what to pass to `task` and `eval_batch`. Put it on the device once and pass it through
        jit as an argument.
      sample: key -> task configuration, arrays only; an empty dict where the family has a single
        task.
      task: (task configuration, data) -> Task.
      uninformed_loss: loss of the best constant guess (ln C for C classes). Meta-losses are divided
        by it, which makes families commensurable.
      eval_batch: (data, split) -> the whole split as one batch, for final metrics.
    """

    name: str
    data: Data
    sample: Callable[[Key[Array, ""]], TaskConfig]
    task: Callable[[TaskConfig, Data], Task]
    uninformed_loss: float
    eval_batch: Callable[[Data, str], Batch]


def samples_nothing(key: Key[Array, ""]) -> TaskConfig:
    """The `sample` of a family with a single task."""
    del key
    return {}
