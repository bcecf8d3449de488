"""Tuned settings of an earlier comparison, used instead of tuning again."""

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
    """Tuned settings and tuning records of an earlier comparison, by contender.

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
    grids = {contender.name: set(contender.grid) for contender in everyone}
    equal = earlier.protocol == protocol
    return {
        contender.name: Chosen(contender.hparams, contender.tuning, contender if equal else None)
        for contender in earlier.contenders
        if contender.tuning["num_runs"] and set(contender.hparams) == grids.get(contender.name)
    }
