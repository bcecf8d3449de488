"""The results file: everything the table and the figures are made from, as JSON.

Numbers are float32 written with the fewest digits that give the same float32 back; inf (diverged)
is null. Keys keep a fixed order and nothing is added on writing, so the same results give the same
bytes.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from eval.protocol import EvalProtocol, protocol_from_record
from eval.versioned_json import JsonFormat

FORMAT = JsonFormat("results file", 4, "'python -m eval compare', 'suite' or 'axis'")
"""Version 1 had neither diagnostics nor cost; version 2 no kinds, no test curves and no description of the task; in
version 3 there were no counts, and of the cost nothing but time and memory."""

Kind = Literal["baseline", "learned", "anchor", "other"]
"""A baseline, a learned optimizer, the hand-made step that a learned one builds on, or somebody else's contender."""


class ContenderResult(NamedTuple):
    """One contender's final runs.

    Attributes:
      name: as in `Contender`.
      kind: as in `Contender`.
      details: as in `Contender`.
      hparams: the tuned setting, empty for a learned optimizer.
      tuning: budget and table, from `tuning_record`.
      bytes_per_round: bytes one worker sends per round; per communication where `counts` has those.
      rounds: rounds after which the curve was measured.
      train_loss: on the fixed training examples.
      minibatch_loss: mean over the workers' local steps, every round.
      final: split ("train", "inner_valid", "outer_valid", "test") -> metric -> [seeds].
      diagnostics: name -> [seeds, points], nan where undefined or not measured; empty where they were not recorded.
      cost: from `Runner.cost`, with the fields of `learned_opt.algorithms.round_cost.RoundCost` and `waits` (0 or 1);
        numbers or None.
      test_rounds: rounds after which the test split was measured; some of `rounds`.
      test_curves: metric -> [seeds, test points], on fixed examples of the test split.
      counts: name -> [seeds, points], how many so far, where an algorithm chooses their number: `communications` of a
        worker, `num_local_steps` of one.
    """

    name: str
    kind: Kind
    details: dict[str, Any]
    hparams: dict[str, float]
    tuning: dict[str, Any]
    bytes_per_round: int
    rounds: Int[np.ndarray, "points"]
    train_loss: Float[np.ndarray, "seeds points"]
    minibatch_loss: Float[np.ndarray, "seeds rounds"]
    final: dict[str, dict[str, np.ndarray]]
    diagnostics: Mapping[str, np.ndarray] = {}
    cost: Mapping[str, float | None] = {}
    test_rounds: Int[np.ndarray, "test_points"] = np.zeros(0, np.int64)
    test_curves: Mapping[str, np.ndarray] = {}
    counts: Mapping[str, np.ndarray] = {}


class Results(NamedTuple):
    """One comparison.

    Attributes:
      protocol: what every contender was given.
      provenance: from `eval.machine.provenance.provenance`, with the seconds spent and the file re-used
        baselines came from.
      contenders: in the order of the table.
      task: what was trained, from `eval.task_families.describe`; empty where it was not recorded.
    """

    protocol: EvalProtocol
    provenance: dict[str, Any]
    contenders: tuple[ContenderResult, ...]
    task: Mapping[str, Any] = {}


def named(results: Results, name: str) -> ContenderResult | None:
    """The contender of that name; None if it did not take part."""
    return next((c for c in results.contenders if c.name == name), None)


def everyone(cells: Sequence[Results]) -> dict[str, ContenderResult]:
    """Everyone who took part in a cell by name, in the order of first appearance."""
    found: dict[str, ContenderResult] = {}
    for results in cells:
        for contender in results.contenders:
            found.setdefault(contender.name, contender)
    return found


def save_results(path: str | os.PathLike[str], results: Results) -> None:
    """Writes the file atomically.

    Raises:
      OSError: the file cannot be written; an older one is then untouched.
    """
    document = {
        "protocol": dataclasses.asdict(results.protocol),
        "provenance": results.provenance,
        "task": dict(results.task),
        "contenders": [_jsonable(contender._asdict()) for contender in results.contenders],
    }
    FORMAT.write(path, document)


def load_results(path: str | os.PathLike[str]) -> Results:
    """Reads a file of `save_results`.

    Raises:
      FileNotFoundError: there is none.
      ValueError: not a results file, damaged, or of a newer format.
    """
    document = FORMAT.read(path)
    try:
        return Results(
            protocol=protocol_from_record(document["protocol"]),
            provenance=dict(document["provenance"]),
            contenders=tuple(_contender(fields) for fields in document["contenders"]),
            task=dict(document.get("task", {})),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        name = os.fspath(path)
        raise ValueError(f"{name}: damaged, its fields do not fit ({error}); run the comparison again") from None


def _contender(fields: dict[str, Any]) -> ContenderResult:
    arrays = {name: _array(fields[name]) for name in ("train_loss", "minibatch_loss")}
    final = {
        split: {metric: _array(values) for metric, values in metrics.items()}
        for split, metrics in fields["final"].items()
    }
    rounds = np.asarray(fields["rounds"], np.int64)
    read = {
        **arrays,
        "rounds": rounds,
        "final": final,
        "diagnostics": {name: np.asarray(values, np.float32) for name, values in fields.get("diagnostics", {}).items()},
        "test_rounds": np.asarray(fields.get("test_rounds", ()), np.int64),
        "test_curves": {metric: _array(values) for metric, values in fields.get("test_curves", {}).items()},
        "counts": {name: np.asarray(values, np.int64) for name, values in fields.get("counts", {}).items()},
    }
    return ContenderResult(**{"kind": _kind_before_version_3(fields["details"]), **fields, **read})


def _kind_before_version_3(details: dict[str, Any]) -> Kind:
    if "checkpoint" in details:
        return "learned"
    return "other" if "made_by" in details else "baseline"


def _array(nested: Any) -> np.ndarray:
    # None becomes nan in a float array.
    values = np.asarray(nested, np.float32)
    return np.where(np.isnan(values), np.float32(np.inf), values)


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, np.ndarray):
        if np.issubdtype(value.dtype, np.integer):
            return value.tolist()
        return _rounded(value.astype(np.float32))
    return value


def _rounded(values: Any) -> Any:
    if values.ndim:
        return [_rounded(item) for item in values]
    return float(str(np.float32(values))) if np.isfinite(values) else None
