"""One meta-training run, from the creation of its folder to its exported optimizer; resumable at any point.

A learned optimizer and task families of one's own, made in Python:

    run(MetaTrainConfig(task="mine", run_dir="runs/mine"), lopt=my_lopt, families={"mine": my_family})
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import jax

from learned_opt.argument_checks import check_callback
from learned_opt.base import LearnedOptimizer
from learned_opt.checkpoint import checkpoint_file
from meta_train.config import MetaTrainConfig, to_json
from meta_train.config_checks import validate
from meta_train.mixture import MetaTrainer
from meta_train.processes import distributed
from meta_train.processes.stop_signal import stop_on_signal
from meta_train.references import Given, check_given, reference_of, with_absolute_paths
from meta_train.runs import run_store
from meta_train.runs.loop import OPTIMIZER_FILE, Position, draw_figure, run_meta_steps
from meta_train.runs.metrics_log import Row
from meta_train.runs.provenance import record_start
from meta_train.runs.state_arrays import from_arrays
from meta_train.runs.stored_run import EXTENDABLE, check_same, check_unchanged, newest_checkpoint
from meta_train.runs.trackers import open_trackers, tracker_names
from meta_train.stored_config import config_from_values, from_json
from meta_train.trainer import build_trainer
from meta_train.validation import TOTAL, build_validation
from tasks.base import TaskFamily

Callback = Callable[[int, Row], None]
"""(meta-step, its row of metrics.jsonl), called for every meta-step in order, up to ten late where they are fast."""


class RunOutcome(NamedTuple):
    """How a run ended.

    Attributes:
      status: "finished"; "preempted": saved after a signal; "diverged": too many non-finite meta-gradients in a row.
      config: its settings, with the folder it is in.
      step: meta-steps done, all of them saved.
    """

    status: Literal["finished", "preempted", "diverged"]
    config: MetaTrainConfig
    step: int

    @property
    def run_dir(self) -> Path:
        """The run folder."""
        return Path(self.config.run_dir)

    @property
    def optimizer_path(self) -> Path:
        """The exported optimizer, for `learned_opt.load`."""
        return self.run_dir / OPTIMIZER_FILE


class _Session(NamedTuple):
    """What a start is given beside the settings."""

    trainer: MetaTrainer | None
    given: Given
    callback: Callback | None
    notify: Callable[[str], None]

    def built(self, config: MetaTrainConfig) -> MetaTrainer:
        """The trainer, in every process."""
        return self.trainer or distributed.on_all_processes(lambda: build_trainer(config, self.given))


def run(
    config: MetaTrainConfig,
    trainer: MetaTrainer | None = None,
    *,
    lopt: LearnedOptimizer | None = None,
    families: Mapping[str, TaskFamily] | None = None,
    callback: Callback | None = None,
    notify: Callable[[str], None] = print,
) -> RunOutcome:
    """Starts a run in a new folder; with `reuse_run_dir`, continues an equal one that is already there.

    Args:
      config: the settings; they are validated here.
      trainer: what to train with; built from the settings when None. One of your own says itself what an exported
        optimizer's card tells (`MetaTrainer.card`), and of the settings only `meta_steps`, `seed` and those of the run
        folder apply to it.
      lopt: a learned optimizer in place of the one that `config.optimizer` names; it is recorded there.
      families: task families by the names that `config.task` and components use for them.
      callback: is called with every meta-step.
      notify: receives one-line messages.

    Raises:
      ValueError: a wrong setting, or a folder that is taken.
      OSError: the folder cannot be written to; what was saved before stays good.
      RuntimeError: a meta-step failed.
    """
    session = _session(trainer, lopt, families, callback, notify)
    if lopt is not None:
        config = dataclasses.replace(config, optimizer=reference_of(lopt))
    config = with_absolute_paths(config)
    validate(config, session.given)
    run_dir = Path(config.run_dir)
    distributed.check_equal("settings", distributed.digest({}, to_json(config)))
    if config.reuse_run_dir and distributed.on_process_zero((run_dir / "config.json").exists):
        stored = distributed.on_all_processes(lambda: run_store.read_config(run_dir))
        check_same(config, config_from_values(stored))
        return _resume(run_dir, session)
    distributed.on_process_zero(lambda: run_store.create_run(run_dir))
    with _locked(run_dir):
        _log_group(run_dir)
        # A trainer that cannot be built leaves a folder that can be used again.
        built = session.built(config)
        distributed.on_process_zero(lambda: run_store.write_config(run_dir, to_json(config)))
        return _train(config, built, None, session)


def resume(
    run_dir: str | Path,
    trainer: MetaTrainer | None = None,
    *,
    meta_steps: int | None = None,
    lopt: LearnedOptimizer | None = None,
    families: Mapping[str, TaskFamily] | None = None,
    callback: Callback | None = None,
    notify: Callable[[str], None] = print,
) -> RunOutcome:
    """Continues the run in `run_dir` with the settings of its config.json.

    A resumed run gives the bits of an uninterrupted one. Damaged checkpoints are set aside and named.

    Args:
      run_dir: the run folder.
      trainer, lopt, families, callback, notify: as in `run`; what was made in Python is given again.
      meta_steps: in place of that of the settings, from now on: extends a run, also a finished one. From the resumed
        meta-step on the learning rate is that of a run of so many meta-steps, so where it had decayed it rises again.

    Raises:
      ValueError: no run there, no intact checkpoint, other settings than its own, or fewer meta-steps than are done.
      OSError, RuntimeError: as in `run`.
    """
    return _resume(Path(run_dir), _session(trainer, lopt, families, callback, notify), meta_steps)


def _session(
    trainer: MetaTrainer | None,
    lopt: LearnedOptimizer | None,
    families: Mapping[str, TaskFamily] | None,
    callback: Callback | None,
    notify: Callable[[str], None],
) -> _Session:
    if callback is not None:
        check_callback(callback, "callback", "step, row")
    return _Session(trainer, check_given(Given(lopt, {} if families is None else families)), callback, notify)


def _resume(run_dir: Path, session: _Session, meta_steps: int | None = None) -> RunOutcome:
    stored = distributed.on_all_processes(lambda: run_store.read_config(run_dir))
    if meta_steps is not None:
        stored = stored | {EXTENDABLE: meta_steps}
    config = from_json(stored, f"{run_dir}/config.json", session.given)
    config = dataclasses.replace(config, run_dir=str(run_dir))
    notify = session.notify
    with _locked(run_dir):
        _log_group(run_dir)
        checkpoint = newest_checkpoint(run_dir, notify)
        arrays, meta = (checkpoint.arrays, checkpoint.meta) if checkpoint else ({}, {})
        distributed.check_equal(f"{run_dir}: config.json or checkpoint", distributed.digest(arrays, meta, stored))
        if checkpoint is not None:
            check_unchanged(config, checkpoint.meta["config"])
            if checkpoint.step > config.meta_steps:
                raise ValueError(f"meta_steps={config.meta_steps}: use at least {checkpoint.step}, which are done")
        if meta_steps is not None:
            distributed.on_process_zero(lambda: run_store.write_config(run_dir, to_json(config)))
        if checkpoint is not None and checkpoint.step == config.meta_steps:
            if distributed.on_process_zero(lambda: _loads(run_dir / OPTIMIZER_FILE)):
                notify(f"{run_dir}: already finished at meta-step {checkpoint.step}")
                return RunOutcome("finished", config, checkpoint.step)
        notify(
            f"{run_dir}: resuming at meta-step {checkpoint.step} of {config.meta_steps}"
            if checkpoint
            else f"{run_dir}: no checkpoint yet, starting from meta-step 0"
        )
        return _train(config, session.built(config), checkpoint, session)


def _train(
    config: MetaTrainConfig,
    trainer: MetaTrainer,
    checkpoint: run_store.StoredCheckpoint | None,
    session: _Session,
) -> RunOutcome:
    run_dir, notify = Path(config.run_dir), session.notify
    validate = None
    if config.validate_every:
        validate = distributed.on_all_processes(lambda: build_validation(config, trainer.lopt, session.given))
    with stop_on_signal() as stop:
        step = checkpoint.step if checkpoint else 0
        for warning in distributed.on_process_zero(lambda: record_start(run_dir, step, config)):
            notify(f"{run_dir}: {warning}")
        rows, best = distributed.on_process_zero(lambda: _rewind(run_dir, step))
        if rows != step:
            notify(f"{run_dir}: metrics.jsonl was damaged, {step - rows} of {step} rows are lost")
        with _own_mistakes_only(run_dir):
            state = trainer.init(jax.random.key(config.seed))
        if checkpoint:
            state = from_arrays(checkpoint.arrays, state)
        position = Position(state, step, checkpoint.meta["elapsed"] if checkpoint else 0.0, best)
        with _own_mistakes_only(run_dir), _watched(config, step, session.callback) as watch:
            step, diverged = run_meta_steps(config, trainer, position, stop, watch, validate)
    if diverged:
        return RunOutcome("diverged", config, step)
    if step < config.meta_steps:
        return RunOutcome("preempted", config, step)
    distributed.on_process_zero(lambda: draw_figure(run_dir))
    return RunOutcome("finished", config, step)


def _rewind(run_dir: Path, step: int) -> tuple[int, float]:
    """Cuts the metrics back to `step`; returns the rows left, and the lowest validation loss among them."""
    rows = run_store.rewind_metrics(run_dir, step)
    found = [row[TOTAL] for row in rows if row.get(TOTAL) is not None]
    return len(rows), min(found, default=math.inf)


@contextlib.contextmanager
def _watched(config: MetaTrainConfig, step: int, callback: Callback | None) -> Iterator[Callable[[Row], None]]:
    """Yields what hands every row of the metrics on; only process zero has any."""
    names = tracker_names(config.log) if distributed.is_process_zero() else []
    tracker = open_trackers(names, Path(config.run_dir), step, config)

    def watch(row: Row) -> None:
        tracker.write(row)
        if callback is not None:
            callback(row["step"], row)

    try:
        yield watch
    finally:
        tracker.close()


@contextlib.contextmanager
def _own_mistakes_only(run_dir: Path) -> Iterator[None]:
    """Settings were checked before, so a ValueError is no mistake of theirs and deserves its traceback."""
    try:
        yield
    except ValueError as error:
        raise RuntimeError(f"{run_dir}: a meta-step failed") from error


@contextlib.contextmanager
def _locked(run_dir: Path) -> Iterator[None]:
    """Holds the run folder in process zero; errors as in `run_store.locked`, in every process."""
    with contextlib.ExitStack() as stack:
        distributed.on_process_zero(lambda: stack.enter_context(run_store.locked(run_dir)))
        yield


def _log_group(run_dir: Path) -> None:
    if jax.process_count() > 1:
        distributed.on_all_processes(lambda: distributed.log_to(run_dir / "logs" / f"rank_{jax.process_index()}.log"))


def _loads(path: Path) -> bool:
    try:
        # Its architecture may be the user's own, so the bytes are what is checked.
        checkpoint_file.decode(str(path), checkpoint_file.read_bytes(path))
    except (ValueError, OSError):
        return False
    return True
