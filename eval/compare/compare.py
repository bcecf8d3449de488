"""The whole comparison: tune the baselines, train everyone, read the test split once.

    prepare   everything that a user may have got wrong, before any training
    run       the comparison itself; results.json is written, and the results returned for tables and figures
    compare   both

While it runs, the trials of its tuning lie in `OUT_DIR/tuning/`; a comparison that is started again takes them up.
"""

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from eval.compare.contender_check import check_round
from eval.compare.contenders import Contender
from eval.compare.earlier import Chosen, chosen_before
from eval.compare.final_runs import train_and_evaluate
from eval.compare.initial_states import FINAL, TUNING, InitialStates, draw_initial_states
from eval.compare.participants import participants
from eval.compare.runner import Runner, make_runner
from eval.compare.split_metrics import Evaluator, make_evaluator
from eval.compare.trial_store import trial_store
from eval.compare.tuning import tune, tuning_record
from eval.diagnostics.base import Diagnostic
from eval.diagnostics.table import measurable
from eval.machine.devices import usable_cores
from eval.machine.progress import Progress
from eval.machine.provenance import provenance
from eval.protocol import EvalProtocol
from eval.results import Results, save_results
from eval.task_families import describe, make_family
from tasks.base import TaskFamily
from tasks.check import check_family


class Comparison(NamedTuple):
    """A comparison that may begin.

    Attributes:
      protocol: what everyone is given.
      contenders: who takes part, in the order of tables.
      family: checked.
      folder: for the results.
      known: settings, or whole results, of an earlier comparison, by contender.
      baselines_from: its results file.
      diagnostics: those that the family can be measured by.
    """

    protocol: EvalProtocol
    contenders: tuple[Contender, ...]
    family: TaskFamily
    folder: Path
    known: Mapping[str, Chosen]
    baselines_from: str | None
    diagnostics: tuple[Diagnostic, ...]


def compare(
    protocol: EvalProtocol,
    checkpoints: Sequence[str | os.PathLike[str]],
    out_dir: str | os.PathLike[str],
    progress: Progress | None = None,
    *,
    baselines: Sequence[str] = ("core",),
    contenders: Sequence[str | Contender] = (),
    tune_multiplier: bool = False,
    one_setting: str | None = None,
    baselines_from: str | os.PathLike[str] | None = None,
    family: TaskFamily | None = None,
) -> Results:
    """Compares learned optimizers with tuned baselines: `prepare`, then `run`; arguments and errors are theirs.

    Call `eval.machine.devices.use_all_cores()` first, before any other use of JAX.
    """
    comparison = prepare(
        protocol,
        checkpoints,
        out_dir,
        baselines=baselines,
        contenders=contenders,
        tune_multiplier=tune_multiplier,
        one_setting=one_setting,
        baselines_from=baselines_from,
        family=family,
    )
    return run(comparison, progress)


def prepare(
    protocol: EvalProtocol,
    checkpoints: Sequence[str | os.PathLike[str]],
    out_dir: str | os.PathLike[str],
    *,
    baselines: Sequence[str] = ("core",),
    contenders: Sequence[str | Contender] = (),
    tune_multiplier: bool = False,
    one_setting: str | None = None,
    baselines_from: str | os.PathLike[str] | None = None,
    family: TaskFamily | None = None,
) -> Comparison:
    """Everything but the training.

    Args:
      protocol: what everyone is given.
      checkpoints: files or names of pretrained optimizers, or NAME=FILE to choose the name in tables.
      out_dir: folder for the results, made if missing.
      baselines: names and groups of `eval.compare.baselines`.
      contenders: hand-made ones, and references of others, see `eval.compare.participants.named_contender`.
      tune_multiplier: tune a factor on the learned updates, and one on their anchors', with the budget of a baseline.
      one_setting: file of calibrated settings, or "shipped": adds a row with that setting for every baseline in it.
      baselines_from: results file, file of settings, or "shipped" for the settings that come with the code: what it has
        is used instead of tuning again. Results whose protocol is the same in everything, seeds included, are taken
        over as they are.
      family: in place of the family that the protocol names.

    Raises:
      FileNotFoundError: no such checkpoint, results file or dataset.
      ValueError: an unknown name, an unsuitable checkpoint, an unsuitable family, one that lacks what a diagnostic
        needs, or results of another protocol.
    """
    everyone = participants(
        protocol,
        checkpoints=checkpoints,
        baselines=baselines,
        contenders=contenders,
        tune_multiplier=tune_multiplier,
        one_setting=one_setting,
    )
    known = {} if baselines_from is None else chosen_before(baselines_from, protocol, everyone)
    family = make_family(protocol.task) if family is None else family
    check_family(family)
    for contender in everyone:
        if contender.kind == "other" or "made_by" in contender.details:
            check_round(contender, family, protocol)
    diagnostics = measurable(protocol.diagnostics, family)
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    source = None if baselines_from is None else os.fspath(baselines_from)
    return Comparison(protocol, tuple(everyone), family, folder, known, source, diagnostics)


def run(comparison: Comparison, progress: Progress | None = None) -> Results:
    """Tunes, trains and evaluates; writes results.json. `progress` is called with (stage, done, total)."""
    protocol, everyone, family, folder, known, source, diagnostics = comparison
    progress = progress or (lambda stage, done, total: None)
    start = time.monotonic()
    finished = {name: chosen.result for name, chosen in known.items() if chosen.result is not None}
    rest = [contender for contender in everyone if contender.name not in finished]
    tuning_seconds = 0.0
    if rest:
        train_data = {"train": family.data["train"]}
        starts = draw_initial_states(family, protocol, train_data, FINAL, protocol.num_seeds)
        # Programs are traced one after the other, and compiled side by side.
        with ThreadPoolExecutor(usable_cores()) as pool:
            runners = _make_runners(rest, family, protocol, train_data, starts, pool)
            valid = make_evaluator(family, family.data, "inner_valid")
            chosen = _tune(rest, known, runners, valid, family, protocol, folder / "tuning", progress)
        tuning_seconds = time.monotonic() - start
        finished |= train_and_evaluate(rest, chosen, runners, valid, starts, family, protocol, diagnostics, progress)
    record = {
        **provenance(),
        "baselines_from": source,
        "tuning_seconds": round(tuning_seconds, 1),
        "seconds": round(time.monotonic() - start, 1),
    }
    in_order = tuple(finished[contender.name] for contender in everyone)
    results = Results(protocol, record, in_order, describe(family, protocol.task))
    save_results(folder / "results.json", results)
    shutil.rmtree(folder / "tuning", ignore_errors=True)
    return results


def _make_runners(
    everyone: Sequence[Contender],
    family: TaskFamily,
    protocol: EvalProtocol,
    train_data: Mapping[str, Any],
    starts: InitialStates,
    pool: ThreadPoolExecutor,
) -> dict[str, Runner]:
    """A runner for each; contenders that share `make` share their program."""
    shared: dict[Callable[..., Any], Runner] = {}
    for contender in everyone:
        if contender.make not in shared:
            shared[contender.make] = make_runner(family, contender, protocol, train_data, starts, pool)
    return {contender.name: shared[contender.make] for contender in everyone}


def _tune(
    everyone: Sequence[Contender],
    known: Mapping[str, Chosen],
    runners: Mapping[str, Runner],
    valid: Evaluator,
    family: TaskFamily,
    protocol: EvalProtocol,
    folder: Path,
    progress: Progress,
) -> dict[str, Chosen]:
    data = {split: family.data[split] for split in ("train", "inner_valid")}
    starts = draw_initial_states(family, protocol, {"train": data["train"]}, TUNING, protocol.tuning_seeds)
    scoring = valid.fingerprint(starts.params, starts.task_config)
    chosen = dict(known)
    for contender in everyone:
        if contender.name in known:
            continue
        runner = runners[contender.name]
        store = trial_store(folder, runner.fingerprint() + scoring, (starts, data))
        stage = _stage(progress, contender.name)
        tuning = tune(contender, runner, starts, valid, protocol.max_extensions, stage, store)
        chosen[contender.name] = Chosen(tuning.best, tuning_record(tuning))
    return chosen


def _stage(progress: Progress, name: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(f"tuning {name}", done, total)
