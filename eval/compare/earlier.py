"""Tuned baselines of an earlier comparison, used instead of tuning again.

Baselines alone: a learned optimizer, or a contender of a user's, may have changed under the same name.
"""

import json
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from eval.compare.contenders import Contender
from eval.compare.grids import Setting
from eval.protocol import EvalProtocol
from eval.results import ContenderResult, load_results

TUNING_FIELDS = ("task", "num_rounds", "num_workers", "num_local_steps", "batch_size", "tuning", "schedule", "ema")
"""Protocol fields that two comparisons must share for one to use the other's tuned settings."""


class Chosen(NamedTuple):
    """A contender's tuned setting, how it was found as JSON values, and its whole result where an earlier comparison
    under the same protocol holds it."""

    hparams: Setting
    tuning: dict[str, Any]
    result: ContenderResult | None = None


def chosen_before(
    path: str | os.PathLike[str], protocol: EvalProtocol, everyone: Sequence[Contender]
) -> dict[str, Chosen]:
    """Tuned settings and tuning records of the baselines of an earlier comparison, by name.

    Raises:
      FileNotFoundError: no such results file.
      ValueError: an unreadable one, or one of another protocol.
    """
    earlier = load_results(path)
    for field in TUNING_FIELDS:
        then, now = getattr(earlier.protocol, field), getattr(protocol, field)
        if then != now:
            raise ValueError(
                f"{os.fspath(path)}: tuned for {field}={then}, the protocol has {now}; leave it out to tune again"
            )
    now = {contender.name: contender for contender in everyone}
    equal = earlier.protocol == protocol
    return {
        before.name: Chosen(before.hparams, before.tuning, before if equal else None)
        for before in earlier.contenders
        if before.tuning["num_runs"] and before.name in now and _is_same_baseline(before, now[before.name])
    }


def _is_same_baseline(before: ContenderResult, now: Contender) -> bool:
    """Whether both are the same baseline, made by the same reference, with the same things to tune."""
    is_baseline = before.kind == now.kind == "baseline"
    return (
        is_baseline and set(before.hparams) == set(now.grid) and before.details == json.loads(json.dumps(now.details))
    )
