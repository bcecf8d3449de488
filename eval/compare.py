"""The whole comparison: tune the baselines, train everyone, read the test split once, report."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from eval.baselines import Contender, baselines, learned
from eval.figures import draw_curves
from eval.grids import Setting
from eval.inner_train import Runs, make_trainer
from eval.progress import Progress
from eval.protocol import EvalProtocol
from eval.provenance import provenance
from eval.results import ContenderResult, Results, load_results, save_results
from eval.scores import bytes_per_round
from eval.split_metrics import make_evaluator
from eval.starts import FINAL, TUNING, draw_starts
from eval.table import markdown_table
from eval.tuning import tune, tuning_record
from learned_opt.atomic_file import write_atomic
from tasks.base import TaskFamily
from tasks.suites import make_family

SPLITS = ("train", "inner_valid", "outer_valid", "test")
"""Read for every contender after all training is over; tuning reads "inner_valid" besides, and
nothing else."""

TUNING_FIELDS = ("task", "num_rounds", "num_workers", "num_local_steps", "batch_size")
"""Protocol fields that two comparisons must share for one to use the other's tuned baselines."""


class Chosen(NamedTuple):
    """A contender's tuned setting, and how it was found as JSON values."""

    hparams: Setting
    tuning: dict[str, Any]


def compare(
    protocol: EvalProtocol,
    checkpoints: Sequence[str | os.PathLike[str]],
    out_dir: str | os.PathLike[str],
    progress: Progress | None = None,
    *,
    baselines_from: str | os.PathLike[str] | None = None,
    contenders: Sequence[Contender] | None = None,
    family: TaskFamily | None = None,
) -> Results:
    """Compares meta-trained optimizers with the tuned baselines.

    Writes results.json, table.md and curves.png.

    Call `eval.devices.use_all_cores()` first, before any other use of JAX.

    Args:
      protocol: what everyone is given.
      checkpoints: files or names of pretrained optimizers.
      out_dir: folder for the three files, made if missing.
      progress: called with (stage, done, total).
      baselines_from: results file of the same protocol whose tuned baselines are used instead of
        tuning again.
      contenders: hand-made ones in place of the baselines.
      family: in place of the family that the protocol names.

    Raises:
      FileNotFoundError: no such checkpoint or results file.
      ValueError: an unknown task, an unsuitable checkpoint, or results of another protocol. Raised
        before any training.
    """
    progress = progress or (lambda stage, done, total: None)
    start = time.monotonic()
    everyone = list(baselines(protocol) if contenders is None else contenders)
    for checkpoint in checkpoints:
        everyone.append(learned(checkpoint, protocol, [c.name for c in everyone]))
    known = {} if baselines_from is None else _tuned(baselines_from, protocol, everyone)
    family = make_family(protocol.task) if family is None else family
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)

    train_data = {"train": family.data["train"]}
    valid_metrics = make_evaluator(family, family.data, "inner_valid")

    chosen: dict[str, Chosen] = {}
    starts = draw_starts(family, protocol, train_data, TUNING, protocol.tuning_seeds)
    for contender in everyone:
        if contender.name in known:
            chosen[contender.name] = known[contender.name]
            continue
        stage = _stage(progress, f"tuning {contender.name}")
        tuning = tune(contender, family, protocol, train_data, starts, valid_metrics, stage)
        chosen[contender.name] = Chosen(tuning.best, tuning_record(tuning))
    tuning_seconds = time.monotonic() - start

    trained = []
    starts = draw_starts(family, protocol, train_data, FINAL, protocol.num_seeds)
    for contender in everyone:
        train = make_trainer(family, contender.make, protocol, train_data, starts, with_curve=True)
        hparams = chosen[contender.name].hparams
        trained.append(train([hparams], _stage(progress, f"training {contender.name}")))

    evaluators = {split: make_evaluator(family, family.data, split) for split in SPLITS}
    finished = []
    for contender, runs in zip(everyone, trained, strict=True):
        final = {split: evaluators[split](runs.params, starts.task_config) for split in SPLITS}
        finished.append(_result(contender, chosen[contender.name], runs, final, protocol))
    record = {
        **provenance(),
        "baselines_from": None if baselines_from is None else os.fspath(baselines_from),
        "tuning_seconds": round(tuning_seconds, 1),
        "seconds": round(time.monotonic() - start, 1),
    }
    results = Results(protocol, record, tuple(finished))
    save_results(folder / "results.json", results)
    write_report(results, folder)
    return results


def write_report(results: Results, folder: Path) -> None:
    """Writes table.md and curves.png."""
    write_atomic(folder / "table.md", markdown_table(results).encode())
    draw_curves(results, folder / "curves.png")


def _stage(progress: Progress, name: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(name, done, total)


def _tuned(path: str | os.PathLike[str], protocol: EvalProtocol, everyone: Sequence[Contender]) -> dict[str, Chosen]:
    """Tuned settings and tuning records of an earlier comparison, by contender."""
    earlier = load_results(path)
    for field in TUNING_FIELDS:
        then, now = getattr(earlier.protocol, field), getattr(protocol, field)
        if then != now:
            raise ValueError(
                f"{os.fspath(path)}: tuned for {field}={then}, the protocol has {now}; leave it out to tune again"
            )
    grids = {contender.name: set(contender.grid) for contender in everyone}
    return {
        contender.name: Chosen(contender.hparams, contender.tuning)
        for contender in earlier.contenders
        if contender.hparams and set(contender.hparams) == grids.get(contender.name)
    }


def _result(
    contender: Contender,
    chosen: Chosen,
    runs: Runs,
    final: dict[str, dict[str, np.ndarray]],
    protocol: EvalProtocol,
) -> ContenderResult:
    one_run = jax.tree.map(lambda x: x[0], runs.params)
    return ContenderResult(
        name=contender.name,
        details=contender.details,
        hparams=chosen.hparams,
        tuning=chosen.tuning,
        bytes_per_round=bytes_per_round(one_run),
        rounds=np.arange(protocol.eval_every, protocol.num_rounds + 1, protocol.eval_every, dtype=np.int64),
        train_loss=runs.train_loss,
        minibatch_loss=runs.minibatch_loss,
        final=final,
    )
