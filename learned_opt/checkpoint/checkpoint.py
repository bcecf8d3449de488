"""A meta-trained optimizer as one file: the meta-parameters and what is needed to use them, without running any code.

The file holds theta, the architecture's config, the local recipe (what the workers of a server optimizer run) and a
card. All but the card decide behaviour; the card only documents: where theta comes from, what it was trained for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt.architectures import ARCHITECTURES
from learned_opt.argument_checks import check_count
from learned_opt.atomic_file import write_atomic
from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.checkpoint import checkpoint_file
from learned_opt.checkpoint.local_recipe import check_recipe, recipe_of_former_card, recipe_transform
from learned_opt.checkpoint.rebuilding import Architectures, check_tensors, named_leaves, rebuild
from learned_opt.learned_step import Others, learned_step
from learned_opt.optimizers.learning_rate import LearningRate, check_learning_rate

_FORMER_FIELDS = ("local_optimizer", "local_learning_rate")
"""What the cards of format 1 said about the local steps."""


class Checkpoint(NamedTuple):
    """A loaded checkpoint.

    Attributes:
      lopt: the learned optimizer, rebuilt from the file's config.
      theta: its meta-parameters, float32 numpy arrays in the tree that `lopt.init` returns.
      local_opt: what its workers run, {"name": one of `LOCAL_OPTIMIZERS`, "learning_rate": a number, ...}; None for an
        optimizer that reads gradients, and where the file does not say it.
      card: provenance written by `save`; JSON values only.
    """

    lopt: LearnedOptimizer
    theta: Theta
    local_opt: dict[str, Any] | None
    card: dict[str, Any]

    def transform(
        self,
        num_steps: int | None = None,
        learning_rate: LearningRate = 1.0,
        weight_decay: float = 0.0,
        mask: Any = None,
        others: Others | None = None,
    ) -> optax.GradientTransformationExtraArgs:
        """The optax transform of the optimizer; arguments, promises and errors as in `learned_opt.load`."""
        if num_steps is not None:
            check_count(num_steps, "num_steps")
        theta = jax.tree.map(jnp.asarray, self.theta)
        return learned_step(
            self.lopt,
            self.lopt.transform(theta, num_steps=num_steps),
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            mask=mask,
            others=others,
        )

    def local_transform(self, learning_rate: LearningRate | None = None) -> optax.GradientTransformation:
        """The local optimizer of the recipe.

        Args:
          learning_rate: in place of the recipe's: a number, a traced scalar or an optax schedule over local steps.

        Raises:
          ValueError: the optimizer reads gradients, or the file does not say what its workers run.
        """
        architecture = self.lopt.config["architecture"]
        if self.lopt.reads == "gradient":
            raise ValueError(f"{architecture} reads gradients and has no local optimizer: use its transform alone")
        if self.local_opt is None:
            raise ValueError(
                f"this {architecture} does not say what its workers run: save it with local_opt={{'name': ..., "
                "'learning_rate': ...}, or give local_sgd a local optimizer of your own"
            )
        if learning_rate is not None:
            check_learning_rate(learning_rate, "local_learning_rate")
        return recipe_transform(self.local_opt, learning_rate)


def save(
    path: str | os.PathLike[str],
    lopt: LearnedOptimizer,
    theta: Theta,
    *,
    local_opt: Mapping[str, Any] | None = None,
    architectures: Architectures | None = None,
    **card: Any,
) -> None:
    """Writes a checkpoint; a crash on the way leaves the old file as it was.

    Args:
      path: file to write, by convention `NAME.safetensors`; its folder must exist.
      lopt: the optimizer theta belongs to.
      theta: meta-parameters, float32 and finite.
      local_opt: what its workers run: {"name": one of `LOCAL_OPTIMIZERS`, "learning_rate": a number above 0}, and
        further numbers that this optimizer takes. None for an optimizer that reads gradients, or where it is not known.
      architectures: by name, those of `lopt` that are not the library's; `load` must be given them too.
      **card: provenance to keep in the file, JSON values (num_workers=8, num_local_steps=4, task="...").

    Raises:
      ValueError: nothing could load the file: its architecture is unknown, or its config rebuilds something else; theta
        does not fit lopt or is not finite; a local recipe that cannot be built; a card entry that is not JSON.
      OSError: the file cannot be written.
    """
    name, folder = os.fspath(path), Path(path).parent
    if Path(path).is_dir():
        raise IsADirectoryError(f"{name}: is a folder: name a file in it, e.g. {Path(path) / 'mine.safetensors'}")
    if not folder.is_dir():
        raise FileNotFoundError(f"{name}: there is no folder {folder}: create it first")
    if not isinstance(lopt, LearnedOptimizer):
        raise ValueError(f"{name}: lopt={str(lopt)[:60]}: use the LearnedOptimizer that it returns")
    tensors = {key: np.array(leaf, order="C") for key, leaf in named_leaves(theta).items()}
    check_tensors(name, tensors, lopt)
    for field, value in {**{f"config entry {k}": v for k, v in lopt.config.items()}, **card}.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            what = field if field.startswith("config entry") else f"card entry {field}"
            raise ValueError(f"{name}: {what}={value!r} is not JSON: {error}") from None
    for field in _FORMER_FIELDS:
        if field in card:
            raise ValueError(
                f"{name}: {field}={card[field]!r} is no card entry: the local recipe decides what workers run; pass "
                "local_opt={'name': ..., 'learning_rate': ...}"
            )
    _check_loadable(name, lopt, tensors, architectures)
    recipe = None if local_opt is None else check_recipe(local_opt)
    if recipe is not None and lopt.reads == "gradient":
        raise ValueError(f"{name}: local_opt={recipe}: {lopt.config['architecture']} reads gradients; leave it out")
    write_atomic(path, checkpoint_file.encode(tensors, lopt.config, recipe, card))


def load_checkpoint(path_or_name: str | os.PathLike[str], architectures: Architectures | None = None) -> Checkpoint:
    """The optimizer, the meta-parameters, the local recipe and the card of a checkpoint.

    Args:
      path_or_name: a checkpoint file, a folder of `export_folder`, a run folder of meta-training, or the name of a
        pretrained optimizer (`learned_opt.pretrained_names()`).
      architectures: name -> function, for files whose architecture is not the library's.

    Raises:
      FileNotFoundError: none of these.
      ValueError: a damaged file, a newer format, an unknown architecture or local optimizer, or other tensors than the
        architecture has.
    """
    if not isinstance(path_or_name, str | os.PathLike):
        raise ValueError(f"{path_or_name!r}: use the name of a pretrained optimizer, or a path")
    name = os.fspath(path_or_name)
    contents = checkpoint_file.decode(name, checkpoint_file.read_bytes(name))
    lopt, theta = rebuild(name, contents.config, contents.tensors, architectures)
    if lopt.reads == "gradient":
        recipe = None
    elif contents.format_version == 1:
        recipe = recipe_of_former_card(contents.card)
    else:
        try:
            recipe = None if contents.local_opt is None else check_recipe(contents.local_opt)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return Checkpoint(lopt, theta, recipe, contents.card)


def _names(architectures):
    return architectures if isinstance(architectures, Mapping) else ()


def _check_loadable(name, lopt, tensors, architectures):
    """Refuses to write what `load` would not read."""
    config = json.loads(json.dumps(lopt.config))
    try:
        rebuilt, _ = rebuild(name, config, tensors, architectures)
    except ValueError as error:
        advice = ""
        architecture = config.get("architecture")
        if architecture not in ARCHITECTURES and architecture not in _names(architectures):
            advice = f": pass save(..., architectures={{{architecture!r}: its function}}), and the same to load"
        raise ValueError(f"{error}; nothing could load this file{advice}") from None
    found = json.loads(json.dumps(rebuilt.config))
    if found != config:
        raise ValueError(
            f"{name}: config {config} rebuilds an optimizer of config {found}: lopt.config must hold every argument of "
            "the function of its architecture"
        )
