"""Anchors: the hand-made step that a learned optimizer corrects, alone, with the same workers.

What a learned optimizer is worth is its distance from this row; what the anchor itself gains over Local SGD is not its
merit. An optimizer in its published form (`nominal` "none", or none in its config) has no anchor.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optax

from eval.compare.contenders import Contender, contender
from eval.compare.learned import local_transform, local_words
from eval.protocol import EvalProtocol
from learned_opt.algorithms.server import diloco, fedavg
from learned_opt.checkpoint import load_checkpoint

ANCHORS: dict[str, Callable[[Mapping[str, Any]], optax.GradientTransformation]] = {
    "average": lambda config: fedavg(),
    "momentum": lambda config: diloco(config["nominal_learning_rate"], config["nominal_momentum"]),
    "adam": lambda config: optax.adam(config["nominal_learning_rate"]),
}
"""`nominal` of a config -> the step itself."""

WORDS = {
    "average": "the workers' average",
    "momentum": (
        "DiLoCo's step (server learning rate {nominal_learning_rate:g}, Nesterov momentum {nominal_momentum:g})"
    ),
    "adam": "Adam's step (learning rate {nominal_learning_rate:g})",
}
"""The same in text."""


def anchors(checkpoints: Sequence[tuple[str, str]], protocol: EvalProtocol) -> list[Contender]:
    """A contender `NAME_anchor` for every learned optimizer that has one; equal ones take part once.

    Args:
      checkpoints: (name in tables, file or pretrained name) of each.
      protocol: of the comparison.

    Raises:
      as `eval.compare.learned.learned`.
    """
    named = [(name, path, load_checkpoint(path)) for name, path in checkpoints]
    groups: dict[str, list[tuple[str, str, Any]]] = {}
    for name, path, loaded in named:
        config = loaded.lopt.config
        if config.get("nominal") in ANCHORS:
            words = ", ".join((WORDS[config["nominal"]].format(**config), local_words(loaded)))
            groups.setdefault(words, []).append((name, path, loaded))
    return [_anchor(words, members, protocol) for words, members in groups.items()]


def _anchor(words: str, members: Sequence[tuple[str, str, Any]], protocol: EvalProtocol) -> Contender:
    name, path, loaded = members[0]
    config = loaded.lopt.config
    step, local = ANCHORS[config["nominal"]](config), local_transform(path, loaded)
    return contender(
        f"{name}_anchor",
        protocol,
        lambda hparams: step,
        {},
        None if local is None else lambda hparams: local,
        {"anchor_of": [member for member, _, _ in members], "recipe": words},
        kind="anchor",
    )
