"""The loop over meta-steps: dispatch, log, save every `checkpoint_every` meta-steps, on a signal, and at the end.

Metrics reach the disk before the checkpoint that follows them, so a resumed run can cut them back to its step and
leaves neither gaps nor duplicates. In a group of processes every one runs this loop, the first writes, and all stop
after the same meta-step, whichever of them was told to.
"""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from learned_opt.base import Theta
from learned_opt.checkpoint import save
from meta_train.config import MetaTrainConfig, to_json
from meta_train.meta_update import MetaTrainState
from meta_train.mixture import MetaTrainer
from meta_train.processes import distributed
from meta_train.processes.stop_signal import StopRequest
from meta_train.processes.watchdog import Heartbeat
from meta_train.references import own_architecture
from meta_train.runs import run_store
from meta_train.runs.figures import draw_meta_loss
from meta_train.runs.metrics_log import MetricsLog, Row
from meta_train.runs.progress import show_progress
from meta_train.runs.state_arrays import to_arrays
from meta_train.validation import TOTAL, Measure

OPTIMIZER_FILE = "optimizer.safetensors"
BEST_FILE = "best.safetensors"
EXPORTS = "exports"
_SECONDS_BETWEEN_FIGURES = 60.0


class Position(NamedTuple):
    """Where a run is.

    Attributes:
      state: of the trainer.
      step: meta-steps done.
      elapsed: seconds of meta-training so far, over all starts.
      best: lowest validation loss so far.
    """

    state: MetaTrainState
    step: int
    elapsed: float
    best: float = math.inf


def run_meta_steps(
    config: MetaTrainConfig,
    trainer: MetaTrainer,
    position: Position,
    stop: StopRequest,
    watch: Callable[[Row], None] = lambda row: None,
    validate: Measure | None = None,
) -> tuple[int, bool]:
    """Runs to the last meta-step, a signal, or divergence, and saves what it reached.

    Args:
      config: of the run.
      trainer: what takes the meta-steps.
      position: where it begins.
      stop: asks it to end.
      watch: is called in process zero with every row of the metrics.
      validate: is called with the averaged theta every `validate_every` meta-steps.

    Returns:
      the meta-steps done, and whether `max_consecutive_skips` meta-gradients in a row were not finite.
    """
    state, step, elapsed, best = position
    is_writer, run_dir = distributed.is_process_zero(), Path(config.run_dir)
    # Processes agree on whether to stop where they wait for a meta-step anyway, so in a group each one is read.
    log = MetricsLog(
        run_dir / "metrics.jsonl" if is_writer else None,
        step,
        elapsed,
        reads_each=jax.process_count() > 1,
        watch=watch if is_writer else lambda row: None,
    )
    heartbeat = Heartbeat()
    saved, diverged, drawn = None, False, time.monotonic()
    stopped = distributed.any_process(bool(stop.received))
    with show_progress(config.meta_steps, step) as report:
        while step < config.meta_steps and not stopped and not diverged:
            state, info = trainer.step(state)
            step += 1
            found: Mapping[str, float] = {}
            if validate is not None and step % config.validate_every == 0:
                average = jax.device_get(state.theta_average)
                found = validate(average)
                if found[TOTAL] < best:
                    best = found[TOTAL]
                    _keep_best(run_dir, trainer, trainer.unravel(average), step, log.elapsed)
            log.add(info, found)
            due = step % config.checkpoint_every == 0
            due |= config.export_every > 0 and step % config.export_every == 0
            if (log.full or due) and (last := distributed.on_all_processes(log.write)):
                heartbeat.beat(step)
                report(step, float(last.estimate.meta_loss))
                diverged = bool(last.num_skipped_in_row >= config.max_consecutive_skips)
            stopped = distributed.any_process(bool(stop.received) or heartbeat.orphaned)
            if due:
                _save(config, trainer, state, step, log)
                saved = step
                if is_writer and time.monotonic() - drawn > _SECONDS_BETWEEN_FIGURES:
                    draw_figure(run_dir)
                    drawn = time.monotonic()
    # Fast meta-steps are read ten at a time: the last of them may be unread.
    if last := distributed.on_all_processes(log.write):
        diverged = bool(last.num_skipped_in_row >= config.max_consecutive_skips)
    if saved != step:
        _save(config, trainer, state, step, log)
    heartbeat.done()
    return step, diverged


def _keep_best(run_dir: Path, trainer: MetaTrainer, theta: Theta, step: int, elapsed: float) -> None:
    distributed.on_process_zero(lambda: export(run_dir / BEST_FILE, trainer, theta, step, elapsed))


def draw_figure(run_dir: Path) -> None:
    """Draws the metrics so far."""
    draw_meta_loss(run_store.read_rows(run_dir / "metrics.jsonl"), run_dir / "figures" / "meta_loss.png")


def _save(config: MetaTrainConfig, trainer: MetaTrainer, state: MetaTrainState, step: int, log: MetricsLog) -> None:
    distributed.on_all_processes(lambda: log.write(sync=True))
    arrays, theta = to_arrays(state), trainer.unravel(jax.device_get(state.theta_average))
    distributed.on_process_zero(lambda: _write(config, trainer, arrays, theta, step, log))


def _write(
    config: MetaTrainConfig,
    trainer: MetaTrainer,
    arrays: dict[str, np.ndarray],
    theta: Theta,
    step: int,
    log: MetricsLog,
) -> None:
    run_dir = Path(config.run_dir)
    meta = {"config": to_json(config), "elapsed": log.elapsed}
    run_store.save_checkpoint(run_dir, run_store.StoredCheckpoint(step, arrays, meta), config.keep_checkpoints)
    export(run_dir / OPTIMIZER_FILE, trainer, theta, step, log.elapsed)
    if config.export_every and step % config.export_every == 0:
        (run_dir / EXPORTS).mkdir(exist_ok=True)
        export(run_dir / EXPORTS / f"step_{step:08d}.safetensors", trainer, theta, step, log.elapsed)


def export(path: Path, trainer: MetaTrainer, theta: Theta, step: int, elapsed: float) -> None:
    """Writes an optimizer with what the trainer says it was trained on.

    Args:
      path: file to write.
      trainer: of the optimizer.
      theta: its meta-parameters, in their tree.
      step: meta-steps that they took.
      elapsed: seconds that those took.
    """
    card: dict[str, Any] = {
        **trainer.card,
        "meta_steps": step,
        "meta_train_seconds": round(elapsed, 1),
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
    }
    own = own_architecture(trainer.lopt)
    save(path, trainer.lopt, theta, local_opt=trainer.local_opt, architectures=own, **card)
