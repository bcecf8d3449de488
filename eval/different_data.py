"""Workers whose training data differ, as the harness needs them.

`tasks.augmentation.with_dirichlet_workers` gives worker k its own mix of classes, and draws no batch that is not one of
all workers. Here a single batch, such as checks take, comes from the whole training split; and the mixes may be
balanced, so that all workers together have the classes as often as the data: the mean of the workers' losses is then
the loss that is measured.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tasks.augmentation import with_dirichlet_workers
from tasks.base import TaskFamily

SWEEPS = 200
"""Of Sinkhorn's iteration; the last digits of small probabilities do not matter."""


def dirichlet_workers(family: TaskFamily, alpha: float, num_workers: int, balanced: bool = False) -> TaskFamily:
    """The family with a Dirichlet split of its labels.

    Args:
      family: of classification.
      alpha: concentration; 0.1 gives each worker about one or two classes.
      num_workers: K.
      balanced: scale the workers' class probabilities until their mean is that of the data and those of each sum to
        one (Sinkhorn & Knopp 1967).

    Raises:
      ValueError: as `with_dirichlet_workers`.
    """
    split = with_dirichlet_workers(family, alpha, num_workers)
    counts = np.bincount(np.asarray(family.data["train"]["label"]))
    frequencies = jnp.asarray(counts / counts.sum(), jnp.float32)

    def sample(key: jax.Array) -> Any:
        config = split.sample(key)
        if not balanced:
            return config
        return {**config, "class_probabilities": _balanced(config["class_probabilities"], frequencies)}

    def task(config: Any, data: Any) -> Any:
        of_workers, whole = split.task(config, data), family.task(config["inner"], data)

        def sample_batch(key: jax.Array, name: str, batch_shape: tuple[int, ...]) -> Any:
            source = of_workers if batch_shape[:1] == (num_workers,) else whole
            return source.sample_batch(key, name, batch_shape)

        return of_workers._replace(sample_batch=sample_batch)

    return split._replace(sample=sample, task=task)


def _balanced(probabilities: jax.Array, frequencies: jax.Array) -> jax.Array:
    def sweep(_: Any, p: jax.Array) -> jax.Array:
        p = p * (frequencies / jnp.sum(p, axis=0))[None]
        return p / jnp.sum(p, axis=1, keepdims=True)

    # A class that no worker has would stay so.
    return jax.lax.fori_loop(0, SWEEPS, sweep, probabilities + 1e-6)
