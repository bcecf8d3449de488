"""Where the runs of a comparison start: initial parameters and the keys of every round, one set per seed.

They depend on the protocol's seed, the stage and the seed number only, so all contenders start from the same parameters
and see the same batches. Drawing them once, in a program of its own, also keeps the random-number code, which is what
takes longest to compile, out of every contender's program.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree, UInt32

from eval.protocol import EvalProtocol
from tasks.base import TaskFamily

TUNING, FINAL = 0, 1
"""Stages: they draw from different keys, so that the final seeds are not those the tuning chose its
winner on."""


class InitialStates(NamedTuple):
    """One start per seed, numpy arrays with a leading [seeds] axis.

    Attributes:
      task_config: of the family's task.
      params: initial parameters.
      batch_keys: [seeds, rounds, words] key data of the batches.
      round_keys: [seeds, rounds, words] key data for the algorithm.
    """

    task_config: PyTree
    params: PyTree
    batch_keys: UInt32[Array, "seeds rounds words"]
    round_keys: UInt32[Array, "seeds rounds words"]


def draw_initial_states(
    family: TaskFamily,
    protocol: EvalProtocol,
    data: Mapping[str, PyTree],
    stage: int,
    num_seeds: int,
) -> InitialStates:
    """Draws the starts of a stage.

    Args:
      family: the task family.
      protocol: its seed and its number of rounds.
      data: "train" at least.
      stage: TUNING or FINAL.
      num_seeds: seeds 0 to num_seeds - 1; more of them leave the first ones as they are.
    """

    @jax.jit
    def draw(seed_ids, data):
        stage_key = jax.random.fold_in(jax.random.key(protocol.seed), stage)

        def one(seed_id):
            seed_key = jax.random.fold_in(stage_key, seed_id)
            task_key, init_key, batch_key, round_key = jax.random.split(seed_key, 4)
            task_config = family.sample(task_key)
            return InitialStates(
                task_config,
                family.task(task_config, data).init(init_key),
                jax.random.key_data(jax.random.split(batch_key, protocol.num_rounds)),
                jax.random.key_data(jax.random.split(round_key, protocol.num_rounds)),
            )

        return jax.lax.map(one, seed_ids)

    return jax.device_get(draw(jnp.asarray(np.arange(num_seeds)), dict(data)))
