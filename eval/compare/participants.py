"""Who takes part in a comparison: baselines, contenders named by reference, learned optimizers and their anchors."""

import os
import re
from collections.abc import Sequence

import optax

from eval.compare.anchors import anchors
from eval.compare.baselines import BASELINES, make_baselines
from eval.compare.contender_check import check_contender
from eval.compare.contenders import Contender, contender
from eval.compare.learned import learned, named_checkpoints
from eval.compare.one_setting import one_setting_contenders
from eval.protocol import EvalProtocol
from eval.references import made_by
from learned_opt.base import LocalAlgorithm
from learned_opt.names import parse


def participants(
    protocol: EvalProtocol,
    *,
    checkpoints: Sequence[str | os.PathLike[str]] = (),
    baselines: Sequence[str] = ("core",),
    contenders: Sequence[str | Contender] = (),
    tune_multiplier: bool = False,
    one_setting: str | None = None,
) -> list[Contender]:
    """Everyone, in the order of tables.

    Args:
      protocol: of the comparison.
      checkpoints: files or names of pretrained optimizers, or NAME=FILE to choose the name in tables.
      baselines: names and groups of `eval.compare.baselines`.
      contenders: hand-made ones, and references of others, see `named_contender`.
      tune_multiplier: tune a factor on the learned updates, and one on their anchors', with the budget of a baseline.
      one_setting: file of calibrated settings, or "shipped": adds a row with that setting for every tuned baseline
        that it has; None for no such rows.

    Raises:
      FileNotFoundError: no such checkpoint or file.
      ValueError: an unknown name, an unsuitable checkpoint, an unsuitable contender, or two contenders of one name.
    """
    for what, given in (("checkpoints", checkpoints), ("baselines", baselines), ("contenders", contenders)):
        if isinstance(given, str):
            raise ValueError(f"{what}={given!r}: use a list, [{given!r}]")
    everyone = [*make_baselines(protocol, baselines)]
    if one_setting is not None:
        everyone += one_setting_contenders(one_setting, protocol, everyone)
    others = [named_contender(c, protocol) if isinstance(c, str) else c for c in contenders]
    for one in others:
        check_contender(one)
    everyone += others
    taken = [c.name for c in everyone]
    named = named_checkpoints(checkpoints, tune_multiplier, taken)
    everyone += [learned(path, protocol, tune_multiplier=tune_multiplier, name=name) for name, path in named]
    everyone += anchors(named, protocol, tune_multiplier)
    names = [c.name for c in everyone]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two contenders are called {name!r}: give one another name, as in --checkpoint NAME=PATH")
    return everyone


def named_contender(reference: str, protocol: EvalProtocol) -> Contender:
    """The contender that a reference names: a baseline, `module:function` or `file.py:function`, each with arguments.

    The function is given the protocol if it has a parameter of that name. It returns a `Contender`, an optax transform
    of gradients (`optax:lion,learning_rate=0.01`: data-parallel and not tuned), or a `LocalAlgorithm` of one worker.

    Args:
      reference: see `learned_opt.names`; `NAME=REFERENCE` chooses the name in tables.
      protocol: of the comparison.

    Raises:
      ValueError: nothing of that name, or it returned something else.
    """
    label, equals, rest = reference.partition("=")
    label, reference = (label, rest) if equals and re.fullmatch(r"[\w.+-]+", label) else ("", reference)
    made = made_by(reference, BASELINES, "contender", protocol=protocol)
    name = label or parse(reference).target.rpartition(":")[2]
    if isinstance(made, LocalAlgorithm):
        made = Contender(name, lambda hparams, algorithm=made: algorithm, {})
    elif isinstance(made, optax.GradientTransformation):
        made = contender(name, protocol, lambda hparams, transform=made: transform, {})
    if not isinstance(made, Contender):
        raise ValueError(
            f"contender {reference!r} returned {type(made).__name__}: return an eval.compare.contenders.Contender, an "
            "optax transform or a learned_opt.LocalAlgorithm"
        )
    made = made._replace(name=label or made.name)
    return made if reference in BASELINES else made._replace(details={**made.details, "made_by": reference})
