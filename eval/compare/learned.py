"""A checkpoint as a contender: its own local steps, and nothing to tune unless asked."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from eval.compare.checkpoints import read_checkpoint, split_label, split_reference
from eval.compare.contenders import Contender, contender
from eval.compare.grids import Grid, GridAxis, budgeted, log_spaced
from eval.protocol import TUNING_BUDGETS, EvalProtocol
from learned_opt.checkpoint import Checkpoint
from learned_opt.checkpoint.local_recipe import recipe_in_words

MULTIPLIER = "multiplier"
"""Name of the factor on an update, the only thing of a learned optimizer, and of its anchor, that may be tuned."""


def learned(
    checkpoint: str | os.PathLike[str],
    protocol: EvalProtocol,
    tune_multiplier: bool = False,
    name: str | None = None,
) -> Contender:
    """A meta-trained optimizer with the local optimizer that it was trained with.

    One that reads gradients gets that of the whole batch, as data-parallel SGD does; the others are server optimizers
    on top of local SGD.

    The protocol's schedule multiplies the step of the first, and the local rate of the others. An anchored server step
    is in units of the pseudo-gradient, so it shrinks with the local rate and needs no factor of its own; the published,
    unanchored form takes steps of a size of its own and gets one.

    Args:
      checkpoint: a file, or the name of a pretrained optimizer, see `eval.compare.checkpoints`.
      protocol: K and H of the evaluation.
      tune_multiplier: tune a factor on its updates with the budget of a baseline.
      name: in tables; None: see `learned_name`.

    Raises:
      FileNotFoundError: no such checkpoint.
      ValueError: a damaged checkpoint, one for another number of workers, or a server optimizer without a local one.
    """
    path = os.fspath(checkpoint)
    loaded = read_checkpoint(path)
    needed = loaded.lopt.num_workers
    if needed not in (None, protocol.num_workers):
        raise ValueError(
            f"{path}: built for {needed} workers, the protocol has num_workers="
            f"{protocol.num_workers}; choose a protocol with {needed} or another checkpoint"
        )
    local = local_transform(path, loaded)
    theta = jax.tree.map(jnp.asarray, loaded.theta)
    grid = multipliers(protocol) if tune_multiplier else {}

    def transform(hparams: Mapping[str, Any]) -> optax.GradientTransformation:
        return multiplied(loaded.lopt.transform(theta, num_steps=protocol.num_rounds), hparams)

    details = checkpoint_details(path, loaded)
    name = name or learned_name(path, loaded, (), tune_multiplier)
    workers = None if local is None else lambda hparams: local
    own_units = loaded.lopt.config.get("nominal") == "none"
    return contender(name, protocol, transform, grid, workers, details, kind="learned", own_units=own_units)


def checkpoint_details(path: str, loaded: Checkpoint) -> dict[str, Any]:
    """What a results file says of a checkpoint, JSON values."""
    return {"checkpoint": path, "config": loaded.lopt.config, "local_opt": loaded.local_opt, "card": loaded.card}


def multipliers(protocol: EvalProtocol) -> Grid:
    """The factors that are tried on a step that has nothing else to tune, as many as a baseline has settings."""
    return budgeted({MULTIPLIER: GridAxis(log_spaced(0.1, 10.0, TUNING_BUDGETS["full"]))}, protocol.tuning)


def multiplied(transform: optax.GradientTransformation, hparams: Mapping[str, Any]) -> optax.GradientTransformation:
    """A transform with the factor of these hyper-parameters on its updates; as it is where they have none.

    An average of the parameters that the transform keeps itself, as `auto_diloco` does, looks ahead by its own step,
    without the factor.
    """
    return optax.chain(transform, optax.scale(hparams[MULTIPLIER])) if MULTIPLIER in hparams else transform


def local_transform(path: str, loaded: Checkpoint) -> optax.GradientTransformation | None:
    """What the workers run; None for an optimizer that reads gradients.

    Raises:
      ValueError: the checkpoint does not say.
    """
    if loaded.lopt.reads == "gradient":
        return None
    try:
        return loaded.local_transform()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def local_words(loaded: Checkpoint) -> str:
    """What the workers run, in text."""
    if loaded.lopt.reads == "gradient":
        return "gradients of the whole batch"
    return f"local {recipe_in_words(loaded.local_opt)}" if loaded.local_opt else "local optimizer unknown"


def named_checkpoints(
    checkpoints: Sequence[str | os.PathLike[str]], tune_multiplier: bool = False, taken: Sequence[str] = ()
) -> tuple[tuple[str, str], ...]:
    """(name in tables, file or pretrained name) of each; `NAME=FILE` chooses the name.

    Raises:
      ValueError: a damaged checkpoint.
      FileNotFoundError: no such checkpoint.
    """
    named: list[tuple[str, str]] = []
    for checkpoint in checkpoints:
        label, path = split_label(checkpoint)
        loaded = read_checkpoint(path)
        in_use = [*taken, *(name for name, _ in named)]
        named.append((label or learned_name(path, loaded, in_use, tune_multiplier), path))
    return tuple(named)


def learned_name(path: str, loaded: Checkpoint, taken: Sequence[str], tune_multiplier: bool) -> str:
    """A pretrained optimizer's own name, a file's architecture; numbered where taken."""
    path, _ = split_reference(path)
    is_file = os.sep in path or path.endswith(".safetensors") or os.path.exists(path)
    base = (loaded.lopt.config["architecture"] if is_file else path) + ("_tuned" if tune_multiplier else "")
    name, number = base, 2
    while name in taken:
        name, number = f"{base}_{number}", number + 1
    return name
