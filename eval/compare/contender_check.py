"""Checks a contender of a user's where it enters, before anyone trains."""

from typing import Any

import jax

from eval.compare.contenders import Contender
from eval.compare.grids import GridAxis, settings
from eval.protocol import EvalProtocol
from learned_opt.algorithms.round import simulate
from learned_opt.base import LocalAlgorithm
from tasks.base import TaskFamily


def check_contender(value: Any) -> None:
    """Refuses what cannot take part; its algorithm is made once, at the first setting of its grid.

    Raises:
      ValueError: saying what of it to change.
    """
    if not isinstance(value, Contender):
        call = "call it with the protocol; " if callable(value) else ""
        raise ValueError(f"contenders: {str(value)[:60]}: {call}use an eval.compare.contenders.Contender")
    where = f"contender {value.name!r}"
    for field, axis in value.grid.items():
        if not isinstance(axis, GridAxis):
            raise ValueError(f"{where}: grid[{field!r}]={axis!r}: use eval.compare.grids.GridAxis((0.1, 0.2, 0.4))")
    setting = settings(value.grid)[0]
    try:
        made = value.make(setting)
    except KeyError as error:
        if error.args[:1] and error.args[0] in setting:
            raise
        raise ValueError(f"{where}: its make wants {error}, its grid has {', '.join(setting) or 'nothing'}") from error
    if not isinstance(made, LocalAlgorithm):
        raise ValueError(
            f"{where}: its make returns {type(made).__name__}: return a learned_opt.LocalAlgorithm, or use "
            "eval.compare.contenders.contender for an optax transform"
        )


def check_round(contender: Contender, family: TaskFamily, protocol: EvalProtocol) -> None:
    """Traces a round of it, so that what does not fit the task or the protocol (workers, local steps, tensors) is said
    by whoever finds it.

    Raises:
      ValueError: as the algorithm does.
    """
    shape = (protocol.num_workers, protocol.num_local_steps, protocol.batch_size)

    def one_round(key, data):
        task = family.task(family.sample(key), data)
        algorithm = simulate(contender.make(settings(contender.grid)[0]), protocol.num_workers)
        batches = task.sample_batch(key, "train", shape)
        return algorithm.round(task.loss, algorithm.init(task.init(key)), key, batches)

    jax.eval_shape(one_round, jax.random.key(0), {"train": family.data["train"]})
