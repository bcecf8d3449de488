"""One meta-training run, from the creation of its folder to its exported optimizer; resumable at
any point."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax

from learned_opt.checkpoint import load_checkpoint
from meta_train.config import FREE_FIELDS, MetaTrainConfig, from_json, to_json, validate
from meta_train.processes import distributed
from meta_train.processes.stop_signal import stop_on_signal
from meta_train.runs import run_store
from meta_train.runs.figures import draw_meta_loss
from meta_train.runs.loop import OPTIMIZER_FILE, Position, run_meta_steps
from meta_train.runs.provenance import record_start
from meta_train.runs.state_arrays import from_arrays
from meta_train.trainer import Trainer, build_trainer


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
      status: "finished"; "preempted": saved after a signal; "diverged": too many non-finite
        meta-gradients in a row.
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


def run(
    config: MetaTrainConfig,
    trainer: Trainer | None = None,
    notify: Callable[[str], None] = print,
) -> Outcome:
    """Starts a run in a new folder; with `reuse_run_dir`, continues an equal one that is already
    there.

    Args:
      config: the settings; they are validated here.
      trainer: what to train with; built from the config when None.
      notify: receives one-line messages.

    Raises:
      ValueError: an odd setting, or a folder that is taken.
      OSError: the folder cannot be written to; what was saved before stays good.
    """
    validate(config)
    run_dir = Path(config.run_dir)
    distributed.check_equal("settings", distributed.digest({}, to_json(config)))
    if config.reuse_run_dir and distributed.in_first((run_dir / "config.json").exists):
        stored = distributed.together(lambda: run_store.read_config(run_dir))
        _check_same(config, from_json(stored, f"{run_dir}/config.json"))
        return resume(run_dir, trainer, notify)
    distributed.in_first(lambda: run_store.create_run(run_dir))
    with distributed.locked_by_first(run_dir):
        _log_group(run_dir)
        # A trainer that cannot be built leaves a folder that can be used again.
        trainer = trainer or distributed.together(lambda: build_trainer(config))
        distributed.in_first(lambda: run_store.write_config(run_dir, to_json(config)))
        return _train(config, trainer, None, notify)


def resume(
    run_dir: str | Path,
    trainer: Trainer | None = None,
    notify: Callable[[str], None] = print,
) -> Outcome:
    """Continues the run in `run_dir` with the settings of its config.json; arguments and errors as
    in `run`.

    A resumed run gives the bits of an uninterrupted one. Damaged checkpoints are set aside and
    named.
    """
    run_dir = Path(run_dir)
    stored = distributed.together(lambda: run_store.read_config(run_dir))
    config = dataclasses.replace(from_json(stored, f"{run_dir}/config.json"), run_dir=str(run_dir))
    with distributed.locked_by_first(run_dir):
        _log_group(run_dir)
        checkpoint = _newest_checkpoint(run_dir, notify)
        arrays, meta = (checkpoint.arrays, checkpoint.meta) if checkpoint else ({}, {})
        distributed.check_equal(f"{run_dir}: config.json or checkpoint", distributed.digest(arrays, meta, stored))
        if checkpoint is not None:
            _check_unchanged(config, checkpoint.meta["config"])
            finished = checkpoint.step >= config.meta_steps
            if finished and distributed.in_first(lambda: _loads(run_dir / OPTIMIZER_FILE)):
                notify(f"{run_dir}: already finished at meta-step {checkpoint.step}")
                return Outcome("finished", config, checkpoint.step)
        notify(
            f"{run_dir}: resuming at meta-step {checkpoint.step} of {config.meta_steps}"
            if checkpoint
            else f"{run_dir}: no checkpoint yet, starting from meta-step 0"
        )
        trainer = trainer or distributed.together(lambda: build_trainer(config))
        return _train(config, trainer, checkpoint, notify)


def _train(
    config: MetaTrainConfig,
    trainer: Trainer,
    checkpoint: run_store.StoredCheckpoint | None,
    notify: Callable[[str], None],
) -> Outcome:
    run_dir = Path(config.run_dir)
    with stop_on_signal() as stop:
        step = checkpoint.step if checkpoint else 0
        for warning in distributed.in_first(lambda: record_start(run_dir, step)):
            notify(f"{run_dir}: {warning}")
        rows = distributed.in_first(lambda: len(run_store.rewind_metrics(run_dir, step)))
        if rows != step:
            notify(f"{run_dir}: metrics.jsonl was damaged, {step - rows} of {step} rows are lost")
        state = trainer.init(jax.random.key(config.seed))
        if checkpoint:
            state = from_arrays(checkpoint.arrays, state)
        elapsed = checkpoint.meta["elapsed"] if checkpoint else 0.0
        try:
            step, diverged = run_meta_steps(config, trainer, Position(state, step, elapsed), stop)
        except ValueError as error:
            # Settings were checked before, so this is no usage error and deserves its traceback.
            raise RuntimeError(f"{run_dir}: a meta-step failed") from error
    if diverged:
        return Outcome("diverged", config, step)
    if step < config.meta_steps:
        return Outcome("preempted", config, step)
    distributed.in_first(lambda: _draw(run_dir))
    return Outcome("finished", config, step)


def _draw(run_dir: Path) -> None:
    rows = run_store.read_rows(run_dir / "metrics.jsonl")
    draw_meta_loss(rows, run_dir / "figures" / "meta_loss.png")


def _log_group(run_dir: Path) -> None:
    if jax.process_count() > 1:
        distributed.together(lambda: distributed.log_to(run_dir / "logs" / f"rank_{jax.process_index()}.log"))


def _newest_checkpoint(run_dir: Path, notify: Callable[[str], None]) -> run_store.StoredCheckpoint | None:
    """The newest good checkpoint, read and verified by every process for itself."""
    found: list[run_store.StoredCheckpoint | None] = []

    def find() -> int:
        found.append(_newest_good(run_dir, notify))
        return found[0].step if found[0] else -1

    step = distributed.in_first(find)
    if step < 0:
        return None
    return distributed.together(lambda: found[0] if found else run_store.read_step(run_dir, step))


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
    stored = from_json(at_checkpoint, f"{config.run_dir}: its checkpoint")
    if changed := _differences(to_json(stored), to_json(config)):
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
        load_checkpoint(path)
    except (ValueError, OSError):
        return False
    return True
