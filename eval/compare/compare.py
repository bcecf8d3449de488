"""The whole comparison: tune the baselines, train everyone, read the test split once, report."""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from eval.compare.baselines import baselines
from eval.compare.contenders import Contender
from eval.compare.curves import curve_examples, make_curve
from eval.compare.grids import Setting
from eval.compare.inner_train import make_trainer
from eval.compare.learned import learned
from eval.compare.split_metrics import make_evaluator
from eval.compare.starts import FINAL, TUNING, draw_starts
from eval.compare.tuning import tune, tuning_record
from eval.machine.devices import usable_cores
from eval.machine.progress import Progress
from eval.machine.provenance import provenance
from eval.protocol import EvalProtocol
from eval.report.curve_figure import draw_curves
from eval.report.table import markdown_table
from eval.results import ContenderResult, Results, load_results, save_results
from eval.scores.scores import bytes_per_round
from learned_opt.atomic_file import write_atomic
from tasks.base import TaskFamily
from tasks.suites import make_family

SPLITS = ("train", "inner_valid", "outer_valid", "test")
"""Read for every contender after all training is over; tuning reads "inner_valid" besides, and
nothing else."""

TUNING_FIELDS = ("task", "num_rounds", "num_workers", "num_local_steps", "batch_size", "tuning")
"""Protocol fields that two comparisons must share for one to use the other's tuned baselines."""


class Chosen(NamedTuple):
    """A contender's tuned setting, how it was found as JSON values, and its whole result where an earlier comparison
    under the same protocol holds it."""

    hparams: Setting
    tuning: dict[str, Any]
    result: ContenderResult | None = None


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

    Call `eval.machine.devices.use_all_cores()` first, before any other use of JAX.

    Args:
      protocol: what everyone is given.
      checkpoints: files or names of pretrained optimizers.
      out_dir: folder for the three files, made if missing.
      progress: called with (stage, done, total).
      baselines_from: results file whose tuned baselines are used instead of tuning again; where its protocol is the
        same in everything, seeds included, their results are taken over as they are.
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
    finished = {name: chosen.result for name, chosen in known.items() if chosen.result is not None}
    seconds = {"tuning": 0.0}
    if len(finished) < len(everyone):
        rest = [contender for contender in everyone if contender.name not in finished]
        finished |= _run(rest, known, family, protocol, progress, seconds)
    record = {
        **provenance(),
        "baselines_from": None if baselines_from is None else os.fspath(baselines_from),
        "tuning_seconds": round(seconds["tuning"], 1),
        "seconds": round(time.monotonic() - start, 1),
    }
    results = Results(protocol, record, tuple(finished[contender.name] for contender in everyone))
    save_results(folder / "results.json", results)
    write_report(results, folder)
    return results


def _run(
    everyone: Sequence[Contender],
    known: dict[str, Chosen],
    family: TaskFamily,
    protocol: EvalProtocol,
    progress: Progress,
    seconds: dict[str, float],
) -> dict[str, ContenderResult]:
    """Tunes, trains and evaluates; adds the seconds until the end of tuning to `seconds`."""
    start = time.monotonic()
    train_data = {"train": family.data["train"]}
    tuning_starts = draw_starts(family, protocol, train_data, TUNING, protocol.tuning_seeds)
    starts = draw_starts(family, protocol, train_data, FINAL, protocol.num_seeds)
    # Programs are traced here, one after the other, and compiled side by side.
    with ThreadPoolExecutor(usable_cores()) as pool:
        trainers = {c.name: make_trainer(family, c, protocol, train_data, starts, pool) for c in everyone}
        evaluators = {"inner_valid": make_evaluator(family, family.data, "inner_valid")}
        chosen: dict[str, Chosen] = {}
        for contender in everyone:
            if contender.name in known:
                chosen[contender.name] = known[contender.name]
                continue
            stage = _stage(progress, f"tuning {contender.name}")
            train = trainers[contender.name].train
            tuning = tune(contender, train, tuning_starts, evaluators["inner_valid"], protocol.max_extensions, stage)
            chosen[contender.name] = Chosen(tuning.best, tuning_record(tuning))
    seconds["tuning"] = time.monotonic() - start

    curve = make_curve(family, {"train": curve_examples(train_data["train"], protocol.num_curve_examples)})
    trained = {}
    for contender in everyone:
        stage = _stage(progress, f"training {contender.name}")
        runs = trainers[contender.name].train([chosen[contender.name].hparams], starts, stage, keep_snapshots=True)
        trained[contender.name] = (runs._replace(snapshots=None), curve(runs.snapshots, starts.task_config))

    evaluators |= {split: make_evaluator(family, family.data, split) for split in SPLITS if split not in evaluators}
    finished = {}
    for contender in everyone:
        runs, train_loss = trained[contender.name]
        setting = chosen[contender.name]
        finished[contender.name] = ContenderResult(
            name=contender.name,
            details=contender.details,
            hparams=setting.hparams,
            tuning=setting.tuning,
            bytes_per_round=bytes_per_round(jax.tree.map(lambda x: x[0], runs.params)),
            rounds=np.arange(protocol.eval_every, protocol.num_rounds + 1, protocol.eval_every, dtype=np.int64),
            train_loss=train_loss,
            minibatch_loss=runs.minibatch_loss,
            final={split: evaluators[split](runs.params, starts.task_config) for split in SPLITS},
            diagnostics=runs.diagnostics,
            cost=trainers[contender.name].cost(),
        )
    return finished


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
    equal = earlier.protocol == protocol
    return {
        contender.name: Chosen(contender.hparams, contender.tuning, contender if equal else None)
        for contender in earlier.contenders
        if contender.hparams and set(contender.hparams) == grids.get(contender.name)
    }
