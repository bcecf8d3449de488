"""Anchors: the hand-made step that a learned optimizer corrects, alone, with the same workers.

What a learned optimizer is worth is its distance from this row; what the anchor itself gains over Local SGD is not its
merit. Where a factor on the learned updates is tuned, one on the anchor's is too. An optimizer in its published form
(`nominal` "none", or no such argument) has no anchor.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import optax

from eval.compare.checkpoints import read_checkpoint
from eval.compare.contenders import Contender, contender
from eval.compare.learned import local_transform, local_words, multiplied, multipliers
from eval.protocol import EvalProtocol
from learned_opt.algorithms.auto_diloco import auto_diloco
from learned_opt.algorithms.server import diloco, fedavg


class Anchor(NamedTuple):
    """A hand-made step: `make` takes the optimizer's config, `words` is formatted with it."""

    make: Callable[[Mapping[str, Any]], optax.GradientTransformation]
    words: str


AUTO_DILOCO = ("learning_rate", "momentum", "kappa", "tau", "average")
"""Arguments of the rule that `lagg_set` shares with it."""

ANCHORS: dict[str, Anchor] = {
    "average": Anchor(lambda config: fedavg(), "the workers' average"),
    "momentum": Anchor(
        lambda config: diloco(config["nominal_learning_rate"], config["nominal_momentum"]),
        "DiLoCo's step (server learning rate {nominal_learning_rate:g}, Nesterov momentum {nominal_momentum:g})",
    ),
    "adam": Anchor(
        lambda config: optax.adam(config["nominal_learning_rate"]),
        "Adam's step (learning rate {nominal_learning_rate:g})",
    ),
    "lagg_set": Anchor(
        lambda config: auto_diloco(**{field: config[field] for field in AUTO_DILOCO}),
        "auto_diloco (server learning rate {learning_rate:g}, momentum {momentum:g}, kappa {kappa:g}, tau {tau:g}, "
        "average {average:g})",
    ),
}
"""By the `nominal` of a config, or by its architecture where there is no choice of one."""


def anchor_of(config: Mapping[str, Any]) -> Anchor | None:
    """The anchor of an optimizer with this config; None for a published form."""
    return ANCHORS.get(config.get("nominal", config["architecture"]))


def anchors(
    checkpoints: Sequence[tuple[str, str]], protocol: EvalProtocol, tune_multiplier: bool = False
) -> list[Contender]:
    """A contender `NAME_anchor` for every learned optimizer that has one; equal ones take part once.

    Args:
      checkpoints: (name in tables, file or pretrained name) of each.
      protocol: of the comparison.
      tune_multiplier: tune a factor on its updates too, where one is tuned on those of the learned optimizers.

    Raises:
      as `eval.compare.learned.learned`.
    """
    named = [(name, path, read_checkpoint(path)) for name, path in checkpoints]
    groups: dict[str, list[tuple[str, str, Any]]] = {}
    for name, path, loaded in named:
        anchor = anchor_of(loaded.lopt.config)
        if anchor is not None:
            words = f"{anchor.words.format(**loaded.lopt.config)}, {local_words(loaded)}"
            groups.setdefault(words, []).append((name, path, loaded))
    return [_anchor(words, members, protocol, tune_multiplier) for words, members in groups.items()]


def _anchor(
    words: str, members: Sequence[tuple[str, str, Any]], protocol: EvalProtocol, tune_multiplier: bool
) -> Contender:
    name, path, loaded = members[0]
    anchor, local = anchor_of(loaded.lopt.config), local_transform(path, loaded)
    assert anchor is not None
    step = anchor.make(loaded.lopt.config)
    return contender(
        f"{name}_anchor",
        protocol,
        lambda hparams: multiplied(step, hparams),
        multipliers(protocol) if tune_multiplier else {},
        None if local is None else lambda hparams: local,
        {"anchor_of": [member for member, _, _ in members], "recipe": words},
        kind="anchor",
    )
