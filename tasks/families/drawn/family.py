"""What the families of which everything is drawn have in common: one problem a seed, parameters by name, a loss that
needs no key."""

from collections.abc import Callable, Mapping

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from tasks.base import Batch, Data, Params, Task, TaskConfig, TaskFamily, samples_nothing
from tasks.batches import sample_rows, split_of, whole_rows

SampleBatch = Callable[[Key[Array, ""], Data, str, tuple[int, ...]], Batch]


def check_seed(seed: int) -> None:
    """ValueError for a negative seed."""
    if seed < 0:
        raise ValueError(f"seed={seed}: use 0 or more")


def sample_split(key: Key[Array, ""], data: Data, split: str, batch_shape: tuple[int, ...]) -> Batch:
    """Rows of a split, drawn with replacement."""
    return sample_rows(key, split_of(data, split), batch_shape)


def entropy(shares: Float[np.ndarray, " classes"]) -> float:
    """Entropy in nats of the shares of classes: the cross-entropy of the best constant guess."""
    return float(-np.sum(shares * np.log(np.maximum(shares, 1e-12))))


def drawn_family(
    name: str,
    data: Data,
    shapes: Mapping[str, tuple[int, ...]],
    initial: Callable[[str, tuple[int, ...], Key[Array, ""]], Array],
    loss: Callable[[Params, Batch], Float[Array, ""]],
    uninformed_loss: float,
    metrics: Callable[[Params, Batch], dict[str, Float[Array, ""]]] | None = None,
    sample_batch: SampleBatch = sample_split,
) -> TaskFamily:
    """The family of one problem.

    Args:
      name: the family's.
      data: of every split, leaves [N, ...].
      shapes: of the parameters, by their names.
      initial: (name, shape, key) -> the initial parameter.
      loss: (params, batch) -> loss [].
      uninformed_loss: of the best constant guess.
      metrics: (params, batch) -> scalars by name; None: the loss alone.
      sample_batch: (key, data, split, batch shape) -> a batch, leaves [*batch_shape, ...].
    """

    def init(key: Key[Array, ""]) -> Params:
        keys = jax.random.split(key, len(shapes))
        return {n: initial(n, shape, k) for k, (n, shape) in zip(keys, shapes.items(), strict=True)}

    def task(task_config: TaskConfig, data: Data) -> Task:
        del task_config  # empty
        return Task(
            init,
            lambda params, key, batch: loss(params, batch),
            lambda key, split, batch_shape: sample_batch(key, data, split, batch_shape),
            metrics or (lambda params, batch: {"loss": loss(params, batch)}),
        )

    return TaskFamily(name, data, samples_nothing, task, uninformed_loss, whole_rows)
