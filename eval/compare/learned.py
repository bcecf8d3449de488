"""A checkpoint as a contender: its own local steps, and nothing to tune unless asked."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from eval.compare.contenders import Contender, contender
from eval.compare.grids import Axis, Grid, coarse, log_spaced
from eval.protocol import TUNING_BUDGETS, EvalProtocol
from learned_opt.checkpoint import Checkpoint, load_checkpoint

MULTIPLIER = "multiplier"
"""Name of the factor on a learned update, the only thing of a learned optimizer that may be tuned."""


def learned(
    checkpoint: str | os.PathLike[str],
    protocol: EvalProtocol,
    taken: Sequence[str] = (),
    tune_multiplier: bool = False,
    name: str | None = None,
) -> Contender:
    """A meta-trained optimizer with the local optimizer and the local learning rate of its checkpoint.

    A server optimizer runs on top of local SGD; a single-machine one gets the
    gradient of the whole batch, as data-parallel SGD does.

    Args:
      checkpoint: a file, or the name of a pretrained optimizer.
      protocol: K and H of the evaluation.
      taken: names in use, see `learned_name`.
      tune_multiplier: tune a factor on its updates with the budget of a baseline.
      name: in place of one that is not taken.

    Raises:
      FileNotFoundError: no such checkpoint.
      ValueError: a damaged checkpoint, one for another number of workers, or a server optimizer that does not say
        what its workers run.
    """
    path = os.fspath(checkpoint)
    loaded = load_checkpoint(path)
    config = loaded.lopt.config
    needed = workers_needed(loaded)
    if needed not in (None, protocol.num_workers):
        raise ValueError(
            f"{path}: built for {needed} workers, the protocol has num_workers="
            f"{protocol.num_workers}; choose a protocol with {needed} or another checkpoint"
        )
    local = _local_optimizer(path, loaded)
    theta = jax.tree.map(jnp.asarray, loaded.theta)
    grid: Grid = {}
    if tune_multiplier:
        grid = {MULTIPLIER: Axis(log_spaced(0.1, 10.0, TUNING_BUDGETS["full"]))}
        grid = grid if protocol.tuning == "full" else coarse(grid)

    def transform(hparams: Mapping[str, Any]) -> optax.GradientTransformation:
        lopt = loaded.lopt.transform(theta)
        return optax.chain(lopt, optax.scale(hparams[MULTIPLIER])) if tune_multiplier else lopt

    details = {"checkpoint": path, "config": config, "local_opt": loaded.local_opt, "card": loaded.card}
    name = name or learned_name(path, config["architecture"], taken, tune_multiplier)
    return contender(name, protocol, transform, grid, None if local is None else lambda h: local, details)


def workers_needed(loaded: Checkpoint) -> int | None:
    """K of an optimizer that is tied to it, None for one that takes any."""
    return loaded.lopt.config.get("num_workers")


def learned_name(path: str, architecture: str, taken: Sequence[str], tune_multiplier: bool) -> str:
    """A pretrained optimizer's own name, a file's architecture; numbered where taken."""
    is_file = os.sep in path or path.endswith(".safetensors")
    base = (architecture if is_file else path) + ("_tuned" if tune_multiplier else "")
    name, number = base, 2
    while name in taken:
        name, number = f"{base}_{number}", number + 1
    return name


def _local_optimizer(path: str, loaded: Checkpoint) -> optax.GradientTransformation | None:
    """What the workers run; None for a single-machine optimizer."""
    if loaded.lopt.reads == "gradient":
        return None
    try:
        return loaded.local_transform()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
