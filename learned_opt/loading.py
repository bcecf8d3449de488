"""Learned optimizers ready for use: by name or by path, with what a user wants to change.

load                a transform for a loop that has what the optimizer reads (gradients, or pseudo-gradients)
load_local_updates  a transform for a loop that has gradients, whatever the optimizer reads
load_algorithm      all workers with their local steps, for no loop but that over rounds
"""

from __future__ import annotations

import os
from typing import Any

import jax
import optax

from learned_opt.algorithms.data_parallel import data_parallel
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.local_updates import local_updates
from learned_opt.algorithms.round import AxisName, simulate
from learned_opt.argument_checks import check_count
from learned_opt.base import LocalAlgorithm
from learned_opt.checkpoint import load_checkpoint
from learned_opt.checkpoint.rebuilding import Architectures
from learned_opt.learned_step import Others
from learned_opt.optimizers.learning_rate import LearningRate


def load(
    name_or_path: str | os.PathLike[str],
    *,
    learning_rate: LearningRate = 1.0,
    weight_decay: float = 0.0,
    mask: Any = None,
    num_steps: int | None = None,
    others: Others | None = None,
    architectures: Architectures | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The optax transform of a learned optimizer.

    An optimizer that reads gradients (`python -m learned_opt list` says which do) is used like `optax.adam`. One that
    reads pseudo-gradients is the server of local SGD: give it to `local_sgd` or `local_updates`, or let
    `load_algorithm` and `load_local_updates` do so with the local optimizer that it was trained with. Its `update`
    refuses to be called as an ordinary optimizer; a loop that has pseudo-gradients says so by `worker_updates=` or
    `pseudo_gradient=True`.

    Args:
      name_or_path: a pretrained optimizer (`learned_opt.pretrained_names()`), a checkpoint file, a run folder of
        meta-training, or a folder of `export_folder`.
      learning_rate: factor on the learned step, which has its size already: a number or an optax schedule over updates
        (rounds, for a server optimizer), e.g. `optax.cosine_decay_schedule(1.0, num_updates)`.
      weight_decay: share of a parameter that is taken off in an update at learning rate 1, p <- p - lr weight_decay p;
        AdamW's weight decay times AdamW's learning rate. A server optimizer decays once a round.
      mask: which tensors decay, as in `optax.adamw`: a tree of booleans, or a function params -> such a tree.
      num_steps: length of the training, in updates, for optimizers that read it.
      others: tensors that another optimizer trains: `Others(optax.adamw(1e-3), vectors_and("embed"))`; beside a server
        optimizer another one of those: `Others(fedavg(), reads="mean")`.
      architectures: name -> function, for a file whose architecture is not the library's; a file runs no code.

    Raises:
      FileNotFoundError: no such optimizer.
      ValueError: a damaged file, a newer format, an unknown architecture, other tensors than the architecture has, or
        an argument that makes no sense; by `update`, see `learned_step`.
    """
    checkpoint = load_checkpoint(name_or_path, architectures)
    return checkpoint.transform(num_steps, learning_rate, weight_decay, mask, others)


def load_local_updates(
    name_or_path: str | os.PathLike[str],
    num_local_steps: int,
    axis_name: AxisName | None = None,
    *,
    learning_rate: LearningRate = 1.0,
    local_learning_rate: LearningRate | None = None,
    weight_decay: float = 0.0,
    mask: Any = None,
    num_steps: int | None = None,
    others: Others | None = None,
    gather: bool = True,
    architectures: Architectures | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The whole of a learned optimizer for a loop that computes gradients: local steps, and a learned step every H.

    `update(gradient, state, params, value=loss)` is called on every worker at every step, see `local_updates`, whose
    state has the parameters to evaluate in `global_params`. An optimizer that reads gradients gets their mean over the
    workers (H = 1).

    Args:
      name_or_path, learning_rate, weight_decay, mask, num_steps, others, architectures: as in `load`.
      num_local_steps: H, steps between two communications.
      axis_name: named axis, or axes, whose members are the workers; None for a single worker.
      local_learning_rate: in place of that of the checkpoint: a number or an optax schedule over local steps.
      gather: as in `local_updates`.

    Raises:
      FileNotFoundError, ValueError: as `load`, and for a number of local steps or a layout that the optimizer cannot
        have, or where the checkpoint does not say what workers run.
    """
    num_local_steps = check_count(num_local_steps, "num_local_steps")
    checkpoint = load_checkpoint(name_or_path, architectures)
    lopt, name = checkpoint.lopt, os.fspath(name_or_path)
    if lopt.reads == "gradient":
        _refuse_local_rate(name, local_learning_rate)
        if num_local_steps != 1:
            raise ValueError(f"num_local_steps={num_local_steps}: {name} reads gradients and takes none: use 1")
        # Minus the update of SGD at rate 1 is the gradient, to the last bit.
        local = optax.sgd(1.0)
    else:
        local = checkpoint.local_transform(local_learning_rate)
    if lopt.reads == "workers" and not gather:
        raise ValueError(f"gather=False: {name} reads every worker's pseudo-gradient: use gather=True")
    if lopt.num_workers not in (None, 1) and axis_name is None:
        raise ValueError(f"axis_name=None: {name} is built for {lopt.num_workers} workers: name the axis they are in")
    server = checkpoint.transform(num_steps, learning_rate, weight_decay, mask, others)
    return local_updates(local, server, num_local_steps, axis_name, gather=gather)


def load_algorithm(
    name_or_path: str | os.PathLike[str],
    num_workers: int,
    num_local_steps: int,
    *,
    learning_rate: LearningRate = 1.0,
    local_learning_rate: LearningRate | None = None,
    weight_decay: float = 0.0,
    mask: Any = None,
    num_steps: int | None = None,
    others: Others | None = None,
    architectures: Architectures | None = None,
) -> LocalAlgorithm:
    """A learned optimizer with its workers: local SGD with its local optimizer, or data-parallel training.

    All workers are simulated on one device, see `learned_opt.simulate`; to spread them over several, build the
    algorithm from `load` and `load_checkpoint(...).local_transform()` with `learned_opt.spread`.

    Args:
      name_or_path, learning_rate, weight_decay, mask, num_steps, others, architectures: as in `load`.
      num_workers: K.
      num_local_steps: H. An optimizer that reads gradients takes one step a round on the K H batches together.
      local_learning_rate: in place of that of the checkpoint: a number or an optax schedule over local steps.

    Returns:
      The algorithm: `init(params)`, then `round(loss_fn, state, key, batches)` with loss_fn(params, key, batch) and
      leaves of batches [K, H, batch, ...]; `params(state)` to evaluate.

    Raises:
      FileNotFoundError, ValueError: as `load`, and for K or H below 1, a K that the optimizer is not built for, or
        where the checkpoint does not say what workers run; by `round`, batches of another K or H.
    """
    num_workers = check_count(num_workers, "num_workers")
    num_local_steps = check_count(num_local_steps, "num_local_steps")
    checkpoint = load_checkpoint(name_or_path, architectures)
    lopt, name = checkpoint.lopt, os.fspath(name_or_path)
    if lopt.num_workers not in (None, num_workers):
        raise ValueError(f"num_workers={num_workers}: {name} is built for {lopt.num_workers} workers")
    transform = checkpoint.transform(num_steps, learning_rate, weight_decay, mask, others)
    if lopt.reads == "gradient":
        _refuse_local_rate(name, local_learning_rate)
        algorithm = data_parallel(transform)
    else:
        algorithm = local_sgd(checkpoint.local_transform(local_learning_rate), transform)
    return _with_local_steps(simulate(algorithm, num_workers), num_local_steps)


def _refuse_local_rate(name: str, local_learning_rate: Any) -> None:
    if local_learning_rate is not None:
        raise ValueError(f"local_learning_rate: {name} reads gradients and takes no local steps; use learning_rate")


def _with_local_steps(algorithm: LocalAlgorithm, num_local_steps: int) -> LocalAlgorithm:
    """The algorithm, refusing batches of another H."""

    def round_fn(loss_fn, state, key, batches):
        for leaf in jax.tree.leaves(batches):
            if leaf.ndim > 1 and leaf.shape[1] != num_local_steps:
                raise ValueError(
                    f"batches has a leaf of shape {leaf.shape}, expected [workers, local steps, batch, ...] with "
                    f"{num_local_steps} local steps"
                )
        return algorithm.round(loss_fn, state, key, batches)

    return algorithm._replace(round=round_fn)
