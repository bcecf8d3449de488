"""Tuned baselines of an earlier comparison, used instead of tuning again.

Baselines alone: a learned optimizer, or a contender of a user's, may have changed under the same name.
"""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from eval.compare.contenders import Contender
from eval.compare.grids import Setting
from eval.compare.tuned_settings import TUNING_FIELDS, holds_settings, settings_for
from eval.protocol import EvalProtocol
from eval.results import ContenderResult, load_results


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

    Args:
      path: its results file, a file of `tuned_settings.save_settings`, or "shipped" for the one that comes with the
        code.
      protocol: what everyone is given now.
      everyone: who takes part now.

    Raises:
      FileNotFoundError: no such file.
      ValueError: an unreadable one, or one that holds nothing for this protocol.
    """
    now = {contender.name: contender for contender in everyone}
    if holds_settings(path):
        known = settings_for(path, protocol)
        if not known:
            fields = ", ".join(f"{field}={getattr(protocol, field)}" for field in TUNING_FIELDS)
            raise ValueError(f"{os.fspath(path)}: no settings for {fields}; leave it out to tune")
        return {
            name: Chosen(entry["hparams"], entry["tuning"])
            for name, entry in known.items()
            if name in now and _is_same_baseline("baseline", entry["hparams"], entry["details"], now[name])
        }
    earlier = load_results(path)
    for field in TUNING_FIELDS:
        then, wanted = getattr(earlier.protocol, field), getattr(protocol, field)
        if then != wanted:
            raise ValueError(
                f"{os.fspath(path)}: tuned for {field}={then}, the protocol has {wanted}; leave it out to tune again"
            )
    equal = earlier.protocol == protocol
    return {
        before.name: Chosen(before.hparams, before.tuning, before if equal else None)
        for before in earlier.contenders
        if before.tuning["num_runs"]
        and before.name in now
        and _is_same_baseline(before.kind, before.hparams, before.details, now[before.name])
    }


def _is_same_baseline(kind: str, hparams: Setting, details: Mapping[str, Any], now: Contender) -> bool:
    """Whether both are the same baseline, made by the same reference, with the same things to tune."""
    is_baseline = kind == now.kind == "baseline"
    return is_baseline and set(hparams) == set(now.grid) and details == json.loads(json.dumps(now.details))
