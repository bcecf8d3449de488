"""One meta-training run, from the creation of its folder to its exported optimizer; resumable at any point.

A learned optimizer and task families of one's own, made in Python:

    run(MetaTrainConfig(task="mine", run_dir="runs/mine"), lopt=my_lopt, families={"mine": my_family})
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax

from learned_opt import checkpoint_file
from learned_opt.base import LearnedOptimizer
from meta_train.config import FREE_FIELDS, MetaTrainConfig, to_json
from meta_train.config_checks import validate
from meta_train.mixture import MetaTrainer
from meta_train.processes import distributed
from meta_train.processes.stop_signal import stop_on_signal
from meta_train.references import Given, reference_of, with_absolute_paths
from meta_train.runs import run_store
from meta_train.runs.figures import draw_meta_loss
from meta_train.runs.loop import OPTIMIZER_FILE, Position, run_meta_steps
from meta_train.runs.metrics_log import Row
from meta_train.runs.provenance import record_start
from meta_train.runs.state_arrays import from_arrays
from meta_train.stored_config import config_from_values, from_json
from meta_train.trainer import build_trainer
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
    session = _Session(trainer, Given(lopt, families or {}), callback, notify)
    if lopt is not None:
        config = dataclasses.replace(config, optimizer=reference_of(lopt))
    config = with_absolute_paths(config)
    validate(config, session.given)
    run_dir = Path(config.run_dir)
    distributed.check_equal("settings", distributed.digest({}, to_json(config)))
    if config.reuse_run_dir and distributed.on_process_zero((run_dir / "config.json").exists):
        stored = distributed.on_all_processes(lambda: run_store.read_config(run_dir))
        _check_same(config, config_from_values(stored))
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
    lopt: LearnedOptimizer | None = None,
    families: Mapping[str, TaskFamily] | None = None,
    callback: Callback | None = None,
    notify: Callable[[str], None] = print,
) -> RunOutcome:
    """Continues the run in `run_dir` with the settings of its config.json; arguments and errors as in `run`.

    A resumed run gives the bits of an uninterrupted one. Damaged checkpoints are set aside and named.
    """
    return _resume(Path(run_dir), _Session(trainer, Given(lopt, families or {}), callback, notify))


def _resume(run_dir: Path, session: _Session) -> RunOutcome:
    stored = distributed.on_all_processes(lambda: run_store.read_config(run_dir))
    config = from_json(stored, f"{run_dir}/config.json", session.given)
    config = dataclasses.replace(config, run_dir=str(run_dir))
    notify = session.notify
    with _locked(run_dir):
        _log_group(run_dir)
        checkpoint = _newest_checkpoint(run_dir, notify)
        arrays, meta = (checkpoint.arrays, checkpoint.meta) if checkpoint else ({}, {})
        distributed.check_equal(f"{run_dir}: config.json or checkpoint", distributed.digest(arrays, meta, stored))
        if checkpoint is not None:
            _check_unchanged(config, checkpoint.meta["config"])
            finished = checkpoint.step >= config.meta_steps
            if finished and distributed.on_process_zero(lambda: _loads(run_dir / OPTIMIZER_FILE)):
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
    run_dir, notify, callback = Path(config.run_dir), session.notify, session.callback
    with stop_on_signal() as stop:
        step = checkpoint.step if checkpoint else 0
        for warning in distributed.on_process_zero(lambda: record_start(run_dir, step, config)):
            notify(f"{run_dir}: {warning}")
        rows = distributed.on_process_zero(lambda: len(run_store.rewind_metrics(run_dir, step)))
        if rows != step:
            notify(f"{run_dir}: metrics.jsonl was damaged, {step - rows} of {step} rows are lost")
        with _own_mistakes_only(run_dir):
            state = trainer.init(jax.random.key(config.seed))
        if checkpoint:
            state = from_arrays(checkpoint.arrays, state)
        elapsed = checkpoint.meta["elapsed"] if checkpoint else 0.0

        def watch(row: Row) -> None:
            if callback is not None:
                callback(row["step"], row)

        with _own_mistakes_only(run_dir):
            step, diverged = run_meta_steps(config, trainer, Position(state, step, elapsed), stop, watch)
    if diverged:
        return RunOutcome("diverged", config, step)
    if step < config.meta_steps:
        return RunOutcome("preempted", config, step)
    distributed.on_process_zero(lambda: _draw(run_dir))
    return RunOutcome("finished", config, step)


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


def _draw(run_dir: Path) -> None:
    rows = run_store.read_rows(run_dir / "metrics.jsonl")
    draw_meta_loss(rows, run_dir / "figures" / "meta_loss.png")


def _log_group(run_dir: Path) -> None:
    if jax.process_count() > 1:
        distributed.on_all_processes(lambda: distributed.log_to(run_dir / "logs" / f"rank_{jax.process_index()}.log"))


def _newest_checkpoint(run_dir: Path, notify: Callable[[str], None]) -> run_store.StoredCheckpoint | None:
    """The newest good checkpoint, read and verified by every process for itself."""
    found: list[run_store.StoredCheckpoint | None] = []

    def find() -> int:
        found.append(_newest_good(run_dir, notify))
        return found[0].step if found[0] else -1

    step = distributed.on_process_zero(find)
    if step < 0:
        return None
    return distributed.on_all_processes(lambda: found[0] if found else run_store.read_step(run_dir, step))


def _newest_good(run_dir: Path, notify: Callable[[str], None]) -> run_store.StoredCheckpoint | None:
    checkpoint, damages = run_store.newest_checkpoint(run_dir)
    if checkpoint is None and damages:
        reasons = "; ".join(f"{damage.folder.name}: {damage.reason}" for damage in damages)
        raise ValueError(f"{run_dir}: no checkpoint is intact ({reasons}); start again with another --run-dir")
    for damage in damages:
        notify(f"{damage.folder}: skipped and set aside, {damage.reason}")
    run_store.set_aside(damages)
    return checkpoint


def _differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    changed = [
        f"{name} {old.get(name)!r} -> {new.get(name)!r}"
        for name in sorted(old.keys() | new.keys())
        if name not in FREE_FIELDS and old.get(name) != new.get(name)
    ]
    return ", ".join(changed)


def _check_unchanged(config: MetaTrainConfig, at_checkpoint: dict[str, Any]) -> None:
    # Through the configuration, so that fields younger than the checkpoint have their defaults.
    if changed := _differences(to_json(config_from_values(at_checkpoint)), to_json(config)):
        raise ValueError(
            f"{config.run_dir}/config.json: changed since the last checkpoint ({changed}); "
            "put the values back or start another run"
        )


def _check_same(config: MetaTrainConfig, stored: MetaTrainConfig) -> None:
    if changed := _differences(to_json(stored), to_json(config)):
        raise ValueError(
            f"run_dir: {config.run_dir} holds a run with other settings ({changed}); "
            "choose another --run-dir or delete that folder"
        )


def _loads(path: Path) -> bool:
    try:
        # Its architecture may be the user's own, so the bytes are what is checked.
        checkpoint_file.decode(str(path), checkpoint_file.read_bytes(path))
    except (ValueError, OSError):
        return False
    return True
