"""The zoo: every learned optimizer for one machine beside tuned AdamW, NadamW, Muon and Schedule-Free AdamW.

A run folder like that of a suite, with K = H = 1, one cell a family, and one long cell in which everyone trains for ten
times the longest episode of anyone's meta-training.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence

from eval.compare.checkpoints import split_label
from eval.compare.contenders import Contender
from eval.compare.zoo import SHIPPED, Member, published, shipped, zoo_contenders
from eval.protocol import EvalProtocol
from eval.sweep.plan import Cell, SweepPlan, reference_name
from eval.sweep.suite import suite_families

ZOO_PROTOCOL = EvalProtocol(
    task="zoo",
    num_rounds=500,
    num_workers=1,
    num_local_steps=1,
    batch_size=32,
    num_seeds=3,
    eval_every=5,
    num_curve_examples=2048,
    tuning="coarse",
    schedule="cosine",
)
"""What every cell is given unless told otherwise; a round is one update."""
ZOO_SUITE = (
    "score_matching",
    "random_features",
    "xor_clusters",
    "icl_regression",
    "matrix_sensing",
    "two_layer_linear",
    "separable_logistic",
)
"""Families that no shipped optimizer was meta-trained on."""
LONG = "_long"
"""End of the name of a long cell."""
LONGER = 10
"""A long cell over the longest episode."""
PUBLISHED_EPISODE = 2000
"""Updates of the longest episode of Celo and Celo2; VeLO's were longer than a cell here can be."""
_POINTS = 100


def zoo_plan(
    suite: Sequence[str] = ZOO_SUITE,
    protocol: EvalProtocol = ZOO_PROTOCOL,
    checkpoints: Sequence[str] = (),
    weights: Sequence[str] = (),
    long: str | None = "score_matching",
) -> SweepPlan:
    """The plan; run it with `run_sweep(plan, run_dir, suite_family, contenders=make_zoo(plan))`.

    Args:
      suite: references of families, as for `eval.sweep.suite.suite_families`.
      protocol: of the cells; one worker and one local step.
      checkpoints: `[NAME=]FILE` beside the pretrained ones.
      weights: published ones, `[NAME=]KIND:FILE`.
      long: family of the long cell; None for none.

    Raises:
      ValueError: an unknown family, more than one worker or local step, or unsuitable weights.
      FileNotFoundError: no such file.
    """
    for field in ("num_workers", "num_local_steps"):
        if getattr(protocol, field) != 1:
            raise ValueError(f"{field}={getattr(protocol, field)}: use 1, the zoo is of one machine")
    references = suite_families(suite)
    named = [(name, name) for name in SHIPPED] + [_named(checkpoint) for checkpoint in checkpoints]
    plan = SweepPlan(
        kind="suite",
        name="zoo",
        cells=tuple(Cell(reference_name(r), dataclasses.replace(protocol, task=r)) for r in references),
        checkpoints=tuple(named),
        contenders=tuple(weights),
        baselines=("none",),
    )
    members = _members(plan)
    if long is not None:
        (reference,) = suite_families(long)
        every = -(-LONGER * max(1, *map(_longest_episode, members)) // _POINTS)
        changed = dataclasses.replace(protocol, task=reference, num_rounds=every * _POINTS, eval_every=every)
        plan = dataclasses.replace(plan, cells=(*plan.cells, Cell(reference_name(reference) + LONG, changed)))
    return plan


def make_zoo(plan: SweepPlan) -> Callable[[SweepPlan, Cell], list[Contender]]:
    """Who takes part in the cells of a plan."""
    members = _members(plan)
    return lambda plan, cell: zoo_contenders(members, cell.protocol, cell.name.endswith(LONG))


def _named(checkpoint: str) -> tuple[str, str]:
    name, path = split_label(checkpoint)
    return (name or reference_name(os.path.basename(path)), path)


def _members(plan: SweepPlan) -> list[Member]:
    return [shipped(path, name) for name, path in plan.checkpoints] + [published(text) for text in plan.contenders]


def _longest_episode(member: Member) -> int:
    """Rounds of the longest episode of its meta-training; 0 where nothing states it."""
    card = member.details["card"]
    if "published_kind" in card:
        return PUBLISHED_EPISODE
    config = card.get("meta_train_config")
    if not isinstance(config, dict):
        return 0
    lengths = [config.get("max_unroll_length"), *(c.get("max_unroll_length") for c in config.get("components") or ())]
    return max((length for length in lengths if isinstance(length, int)), default=0)
