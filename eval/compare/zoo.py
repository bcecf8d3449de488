"""Who takes part in the zoo: learned optimizers for one machine, shipped and published, and hand-made ones tuned alike.

    dp_adamw nadamw dp_muon schedule_free    tuned, under the protocol's schedule (Schedule-Free: under none, as meant)
    NAME                                     a learned optimizer as it is
    NAME_tuned                               with a factor on its steps, tuned with the budget of a baseline
    NAME_quarter, NAME_fourfold              told a quarter, or four times, of the updates that there are
    NAME_anchor                              the hand-made step that it corrects, nothing learned

Learned optimizers that are told how long a training lasts set their own schedule (VeLO, Celo) and get no other; the
rest (Celo2, AdafacMLP) get the protocol's, as their authors prescribe. Server optimizers for any number of workers take
part with one worker and one local step. NadamW: Dozat 2016; Muon: Jordan et al. 2024; Schedule-Free AdamW: Defazio et
al. 2024, arXiv 2405.15682, evaluated at its averaged parameters.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from eval.compare.anchors import anchors
from eval.compare.baselines import make_baselines
from eval.compare.checkpoints import read_checkpoint
from eval.compare.contenders import Contender, contender
from eval.compare.grids import Grid, GridAxis, budgeted
from eval.compare.learned import MULTIPLIER, checkpoint_details, local_transform, multiplied, multipliers
from eval.compare.rivals.rival import SOME_ADAM_LRS, WEIGHT_DECAY
from eval.protocol import EvalProtocol
from learned_opt.algorithms.data_parallel import data_parallel
from learned_opt.base import LearnedOptimizer
from learned_opt.published.import_weights import import_weights
from learned_opt.published.kinds import KINDS

HORIZON = "horizon"
"""Updates that an optimizer is told over those that there are."""
MISSTATED = {"quarter": 0.25, "fourfold": 4.0}
SHIPPED = ("adafac_generalist", "lopt_generalist", "lagg_any")
"""Pretrained optimizers that were made for any task and fit one machine."""
ADAMW = "dp_adamw"
"""Whom everyone is measured against."""


class Member(NamedTuple):
    """A learned optimizer of the zoo.

    Attributes:
      name: in tables.
      lopt: for one machine, or a server optimizer for any number of workers.
      theta: its weights.
      details: for the results file.
      local: the step of the one worker under a server optimizer; None for one that reads gradients.
    """

    name: str
    lopt: LearnedOptimizer
    theta: Any
    details: dict[str, Any]
    local: optax.GradientTransformation | None = None


def hand_made(protocol: EvalProtocol) -> list[Contender]:
    """The four tuned hand-made optimizers."""
    adamw, muon = make_baselines(protocol, (ADAMW, "dp_muon"))
    return [adamw, _nadamw(protocol), muon, _schedule_free(protocol)]


def shipped(checkpoint: str | os.PathLike[str], name: str | None = None) -> Member:
    """A checkpoint of this library.

    Raises:
      FileNotFoundError: no such checkpoint.
      ValueError: a damaged one, or a server optimizer that is tied to more than one worker or lacks a local optimizer.
    """
    path = os.fspath(checkpoint)
    loaded = read_checkpoint(path)
    if loaded.lopt.num_workers not in (None, 1):
        raise ValueError(f"{path}: built for {loaded.lopt.num_workers} workers; the zoo is of one machine")
    theta = jax.tree.map(jnp.asarray, loaded.theta)
    return Member(name or path, loaded.lopt, theta, checkpoint_details(path, loaded), local_transform(path, loaded))


def published(reference: str) -> Member:
    """Published weights, `[NAME=]KIND:FILE` with a kind of `learned_opt.import_weights`.

    Raises:
      FileNotFoundError: no such file.
      ValueError: no such kind, or a file that does not hold its weights.
    """
    label, equals, rest = reference.partition("=")
    label, rest = (label, rest) if equals and ":" not in label else ("", reference)
    kind, colon, path = rest.partition(":")
    if not colon or not path:
        raise ValueError(f"weights {reference!r}: use KIND:FILE, with a KIND of {', '.join(KINDS)}")
    lopt, theta = import_weights(kind, path)
    if lopt.reads != "gradient":
        raise ValueError(
            f"weights {reference!r}: {kind} is a server optimizer; the zoo is of optimizers for one machine"
        )
    details = {"checkpoint": path, "config": lopt.config, "local_opt": None, "card": {"published_kind": kind}}
    return Member(label or f"{kind}_published", lopt, theta, details)


def is_told_the_horizon(member: Member) -> bool:
    """Whether the optimizer needs `num_steps`."""
    try:
        member.lopt.transform(member.theta)
    except ValueError:
        return True
    return False


def rows_of(member: Member, protocol: EvalProtocol, everything: bool = True) -> list[Contender]:
    """Its rows, which share one program.

    Args:
      member: whose.
      protocol: of the comparison.
      everything: whether to tune it, and to misstate the horizon, too.
    """
    told = is_told_the_horizon(member)
    own_protocol = dataclasses.replace(protocol, schedule="constant") if told else protocol

    def transform(h: Mapping[str, Any]) -> optax.GradientTransformation:
        num_steps = jnp.maximum(1, jnp.round(h[HORIZON] * protocol.num_rounds)).astype(jnp.int32)
        return multiplied(member.lopt.transform(member.theta, num_steps=num_steps), h)

    worker = member.local
    local = None if worker is None else lambda h: worker
    own_units = member.lopt.config.get("nominal") == "none"
    plain = contender(
        member.name, own_protocol, transform, _settings(), local, member.details, kind="learned", own_units=own_units
    )
    if not everything:
        return [plain]
    rows = [plain, plain._replace(name=f"{member.name}_tuned", grid=_settings() | multipliers(protocol))]
    if told:
        rows += [
            plain._replace(name=f"{member.name}_{name}", grid=_settings(factor)) for name, factor in MISSTATED.items()
        ]
    return rows


def zoo_contenders(members: Sequence[Member], protocol: EvalProtocol, is_long: bool) -> list[Contender]:
    """Everyone in a cell; in a long one nobody but tuned AdamW and the learned optimizers as they are.

    Raises:
      ValueError: two of one name.
    """
    everyone = hand_made(protocol)[:1] if is_long else hand_made(protocol)
    for member in members:
        everyone += rows_of(member, protocol, everything=not is_long)
    if not is_long:
        ours = [m for m in members if "published_kind" not in m.details["card"]]
        everyone += anchors([(m.name, m.details["checkpoint"]) for m in ours], protocol)
    names = [each.name for each in everyone]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two of the zoo are called {name!r}: give one another name, as in NAME=KIND:FILE")
    return everyone


def _settings(horizon: float = 1.0) -> Grid:
    return {HORIZON: GridAxis((horizon,)), MULTIPLIER: GridAxis((1.0,))}


def _nadamw(protocol: EvalProtocol) -> Contender:
    grid = budgeted({"lr": SOME_ADAM_LRS, "weight_decay": WEIGHT_DECAY}, protocol.tuning)

    def transform(h: Mapping[str, Any]) -> optax.GradientTransformation:
        return optax.nadamw(h["lr"], weight_decay=h["weight_decay"])

    return contender("nadamw", protocol, transform, grid, kind="baseline")


def _schedule_free(protocol: EvalProtocol) -> Contender:
    grid = budgeted({"lr": SOME_ADAM_LRS, "weight_decay": WEIGHT_DECAY}, protocol.tuning)

    def make(h: Mapping[str, Any]):
        transform = optax.contrib.schedule_free_adamw(h["lr"], weight_decay=h["weight_decay"])
        return data_parallel(transform)._replace(params=averaged)

    def averaged(state: Any) -> Any:
        return optax.contrib.schedule_free_eval_params(state.shared.opt_state, state.shared.params)

    return Contender("schedule_free", make, grid, kind="baseline")
