"""The noisy toy as a task family, and a record of the keys that its tasks and an algorithm are given.

Whatever trains on it has to hand a key of its own to every batch that is drawn, every round and every loss; the record
shows a key that came twice, and what a batch's size was.
"""

from typing import Any

import jax
import numpy as np

from learned_opt.base import LocalAlgorithm
from tasks.base import Task, TaskFamily
from tasks.batches import sample_rows, split_of, whole_rows
from tests import noisy_toy

SIZES = {"train": 32, "inner_valid": 16, "outer_valid": 16, "test": 8}
UNINFORMED_LOSS = 1.0

Seen = list[tuple[str, tuple[int, ...]]]
"""(what for, words of the key) of every use, in no order."""


def noisy_data() -> dict[str, dict[str, np.ndarray]]:
    """Splits of different sizes: `x` [N, 3], `y` [N]."""
    rng = np.random.default_rng(0)
    return {
        split: {
            "x": rng.normal(size=(number, noisy_toy.NUM_INPUTS)).astype(np.float32),
            "y": rng.normal(size=number).astype(np.float32),
        }
        for split, number in SIZES.items()
    }


def noisy_family(seen: Seen | None = None, name: str = "noisy") -> TaskFamily:
    """Tasks that differ by a shift of their targets.

    Args:
      seen: is appended to whenever a batch is drawn or a loss evaluated; read it after `jax.effects_barrier()`.
      name: of the family.
    """

    def task(config, data):
        def sample_batch(key, split, shape):
            record(seen, f"batch of {np.prod(shape, dtype=int)} from {split}", key)
            batch = noisy_toy.labelled(sample_rows(key, split_of(data, split), shape), key, shape)
            return batch | {"y": batch["y"] + config["shift"]}

        def loss(params, key, batch):
            record(seen, "loss", key)
            return noisy_toy.loss_fn(params, key, batch)

        def metrics(params, batch):
            return {"loss": noisy_toy.quiet_loss_fn(params, jax.random.key(0), batch)}

        return Task(noisy_toy.init, loss, sample_batch, metrics)

    def sample(key):
        return {"shift": jax.random.normal(key)}

    return TaskFamily(name, noisy_data(), sample, task, UNINFORMED_LOSS, whole_rows)


def watched(algorithm: LocalAlgorithm, seen: Seen) -> LocalAlgorithm:
    """The algorithm, whose rounds record their key."""

    def round_fn(loss_fn, state, key, batches):
        record(seen, "round", key)
        return algorithm.round(loss_fn, state, key, batches)

    return algorithm._replace(round=round_fn)


def record(seen: Seen | None, what: str, key: Any) -> None:
    """Appends the key's words at run time, once for each member of a vmapped axis that the key varies over."""
    if seen is not None:
        jax.debug.callback(lambda words: seen.append((what, tuple(words.tolist()))), jax.random.key_data(key))


def uses(seen: Seen, what: str) -> list[tuple[int, ...]]:
    """The keys of one kind of use."""
    jax.effects_barrier()
    return [words for use, words in seen if use.startswith(what)]
