"""What the workers of a learned server optimizer run, as data: {"name": "adam_b1_0", "learning_rate": 0.01, ...}.

It is part of what was meta-trained, so it stands in the checkpoint beside the architecture's config. The name is looked
up in `LOCAL_OPTIMIZERS` and nowhere else, and the arguments are numbers: a file runs no code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import optax

from learned_opt.names import check_arguments, hint
from learned_opt.optimizers import LOCAL_OPTIMIZERS
from learned_opt.optimizers.learning_rate import LearningRate

_FORMER_NAMES = {"rmsprop": "adam_b1_0"}
"""Names that earlier versions wrote."""


def check_recipe(recipe: Any) -> dict[str, Any]:
    """The recipe as a dict of its own, checked.

    Raises:
      ValueError: no dict, an unknown name or argument, no learning rate above 0, or a value that is no finite number.
    """
    if not isinstance(recipe, Mapping):
        raise ValueError(f"local_opt={_short(recipe)}: use a dict such as {{'name': 'sgd', 'learning_rate': 0.1}}")
    name = recipe.get("name")
    if name is None:
        raise ValueError(f"local_opt={_short(recipe)}: give it a name, such as {{'name': 'sgd', 'learning_rate': 0.1}}")
    if not isinstance(name, str) or name not in LOCAL_OPTIMIZERS:
        raise ValueError(
            f"local_opt: {_short(name)} is unknown; {hint(_short(name), LOCAL_OPTIMIZERS)}; with an optimizer of your "
            "own leave it out and use learned_opt.local_sgd"
        )
    arguments = {field: value for field, value in recipe.items() if field != "name"}
    check_arguments(LOCAL_OPTIMIZERS[name], map(str, arguments), f"local_opt: {name}")
    for field, value in arguments.items():
        if not isinstance(value, int | float) or not math.isfinite(_float(value)):
            raise ValueError(f"local_opt: {field}={_short(value)}: use a finite number")
    if not arguments.get("learning_rate", 0) > 0:
        raise ValueError(f"local_opt: learning_rate={arguments.get('learning_rate')}: use a number above 0")
    return {"name": name, **arguments}


def recipe_transform(
    recipe: Mapping[str, Any], learning_rate: LearningRate | None = None
) -> optax.GradientTransformation:
    """The local optimizer of a checked recipe; `learning_rate`, if given, in place of its own."""
    arguments = {field: value for field, value in recipe.items() if field != "name"}
    if learning_rate is not None:
        arguments["learning_rate"] = learning_rate
    return LOCAL_OPTIMIZERS[recipe["name"]](**arguments)


def recipe_in_words(recipe: Mapping[str, Any]) -> str:
    """E.g. "adam at 0.01", with further arguments behind."""
    rest = [f"{field} {value:g}" for field, value in recipe.items() if field not in ("name", "learning_rate")]
    return ", ".join([f"{recipe['name']} at {recipe['learning_rate']:g}", *rest])


def recipe_of_former_card(card: Mapping[str, Any]) -> dict[str, Any] | None:
    """The recipe of a file of format 1, whose card said it (SGD where it gave the rate alone); None: it did not."""
    name = card.get("local_optimizer", "sgd")
    former = {"name": _FORMER_NAMES.get(str(name), name), "learning_rate": card.get("local_learning_rate")}
    try:
        return check_recipe(former)
    except (ValueError, TypeError):
        return None


def _float(value):
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _short(value):
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
