"""The loop over meta-steps: dispatch, log, save every `checkpoint_every` meta-steps, on a signal,
and at the end.

Metrics reach the disk before the checkpoint that follows them, so a resumed run can cut them back to its step and
leaves neither gaps nor duplicates. In a group of processes every one runs this loop, the first writes, and all stop
after the same meta-step, whichever of them was told to.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from learned_opt.base import Theta
from learned_opt.checkpoint import save
from meta_train.config import FREE_FIELDS, SINGLE_MACHINE, MetaTrainConfig, single_runs, to_json
from meta_train.processes import distributed
from meta_train.processes.stop_signal import StopRequest
from meta_train.processes.watchdog import Heartbeat
from meta_train.runs import run_store
from meta_train.runs.metrics_log import MetricsLog
from meta_train.runs.progress import show_progress
from meta_train.runs.state_arrays import to_arrays
from meta_train.trainer import Trainer, TrainerState

OPTIMIZER_FILE = "optimizer.safetensors"
EXPORTS = "exports"


class Position(NamedTuple):
    """Where a run is.

    Attributes:
      state: of the trainer.
      step: meta-steps done.
      elapsed: seconds of meta-training so far, over all starts.
    """

    state: TrainerState
    step: int
    elapsed: float


def run_meta_steps(
    config: MetaTrainConfig, trainer: Trainer, position: Position, stop: StopRequest
) -> tuple[int, bool]:
    """Runs to the last meta-step, a signal, or divergence, and saves what it reached.

    Returns:
      the meta-steps done, and whether `max_consecutive_skips` meta-gradients in a row were not
      finite.
    """
    state, step, elapsed = position
    metrics = Path(config.run_dir) / "metrics.jsonl" if distributed.is_first() else None
    # Processes agree on whether to stop where they wait for a meta-step anyway, so in a group each one is read.
    log = MetricsLog(metrics, step, elapsed, one_by_one=jax.process_count() > 1)
    heartbeat = Heartbeat()
    saved, diverged = None, False
    stopped = distributed.any_process(bool(stop.received))
    with show_progress(config.meta_steps, step) as report:
        while step < config.meta_steps and not stopped and not diverged:
            state, info = trainer.step(state)
            step += 1
            log.add(info)
            due = step % config.checkpoint_every == 0
            due |= config.export_every > 0 and step % config.export_every == 0
            if (log.full or due) and (last := distributed.together(log.write)):
                heartbeat.beat(step)
                report(step, float(last.meta_loss))
                diverged = bool(last.num_skipped_in_row >= config.max_consecutive_skips)
            stopped = distributed.any_process(bool(stop.received) or heartbeat.orphaned)
            if due:
                _save(config, trainer, state, step, log)
                saved = step
    if saved != step:
        _save(config, trainer, state, step, log)
    heartbeat.done()
    return step, diverged


def _save(config: MetaTrainConfig, trainer: Trainer, state: TrainerState, step: int, log: MetricsLog) -> None:
    distributed.together(lambda: log.write(sync=True))
    arrays, theta = to_arrays(state), jax.device_get(state.theta_average)
    distributed.in_first(lambda: _write(config, trainer, arrays, theta, step, log))


def _write(
    config: MetaTrainConfig, trainer: Trainer, arrays: dict[str, np.ndarray], theta: Theta, step: int, log: MetricsLog
) -> None:
    run_dir = Path(config.run_dir)
    meta = {"config": to_json(config), "elapsed": log.elapsed}
    run_store.save_checkpoint(run_dir, run_store.StoredCheckpoint(step, arrays, meta), config.keep_checkpoints)
    card, local_opt = _card(config, step, log.elapsed), _local_opt(config)
    save(run_dir / OPTIMIZER_FILE, trainer.lopt, theta, local_opt=local_opt, **card)
    if config.export_every and step % config.export_every == 0:
        (run_dir / EXPORTS).mkdir(exist_ok=True)
        save(run_dir / EXPORTS / f"step_{step:08d}.safetensors", trainer.lopt, theta, local_opt=local_opt, **card)


def _local_opt(config: MetaTrainConfig) -> dict[str, Any] | None:
    """What the workers ran: that of all components where they agree, else the run's own."""
    if config.optimizer in SINGLE_MACHINE:
        return None
    recipes = [
        {"name": c.local_optimizer, "learning_rate": c.local_learning_rate} for c in single_runs(config).values()
    ]
    own = {"name": config.local_optimizer, "learning_rate": config.local_learning_rate}
    return recipes[0] if all(recipe == recipes[0] for recipe in recipes) else own


def _card(config: MetaTrainConfig, step: int, elapsed: float) -> dict[str, Any]:
    """Provenance of the exported optimizer: what it was trained for, with, and how long."""
    settings = to_json(config)
    for field in FREE_FIELDS:
        del settings[field]
    card: dict[str, Any] = {
        "task": " + ".join(single_runs(config)),
        "num_workers": config.num_workers,
        "num_local_steps": config.num_local_steps,
        "batch_size": config.batch_size,
    }
    return card | {
        "meta_steps": step,
        "meta_train_seconds": round(elapsed, 1),
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "meta_train_config": settings,
    }
