"""The real trainer for many meta-steps: theta stays finite however bad the settings, nothing grows, nothing compiles
twice."""

import contextlib
import dataclasses
import gc
import logging
import os
from pathlib import Path

import jax
import numpy as np
import pytest

from meta_train.runs.run import resume, run
from meta_train.runs.run_store import newest_checkpoint, read_rows
from meta_train.trainer import build_trainer
from tests.meta_train.device_hash import TINY

# The family that compiles fastest: what is tested is around it.
_RUN = dataclasses.replace(TINY, task="quadratics32", num_tasks=2)


@pytest.fixture(autouse=True)
def standard_promotion():
    # optax's AdamW raises a float to an integer power.
    with jax.numpy_dtype_promotion("standard"):
        yield


@contextlib.contextmanager
def compilations():
    """Yields the names of the programs that are compiled meanwhile."""
    names = []

    class Handler(logging.Handler):
        def emit(self, record):
            message = record.getMessage()
            if message.startswith("Compiling "):
                names.append(message.split()[1])

    logger, handler = logging.getLogger("jax._src.interpreters.pxla"), Handler()
    logger.addHandler(handler)
    with jax.log_compiles():
        try:
            yield names
        finally:
            logger.removeHandler(handler)


@pytest.mark.parametrize("meta_steps", [20, pytest.param(1000, marks=pytest.mark.slow)])
def test_theta_stays_finite_with_sigma_and_learning_rates_a_hundred_times_too_large(tmp_path, meta_steps):
    """R10: inner training diverges, losses are clamped and counted, and theta survives."""
    config = dataclasses.replace(
        _RUN,
        run_dir=str(tmp_path / "run"),
        meta_steps=meta_steps,
        local_optimizer="sgd,learning_rate=50.0",
        sigma=100 * 0.03,
        meta_learning_rate=100 * 3e-3,
        warmup_steps=5,
        checkpoint_every=10,
    )
    outcome = run(config)
    assert outcome.status == "finished"
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    assert len(rows) == meta_steps
    checkpoint, _ = newest_checkpoint(tmp_path / "run")
    assert checkpoint is not None
    theta = {name: array for name, array in checkpoint.arrays.items() if name.startswith("theta")}
    assert theta and all(np.isfinite(array).all() for array in theta.values())
    clamped, skipped = (sum(row[name] for row in rows) for name in ("num_clamped", "num_skipped"))
    print(f"{meta_steps} meta-steps: {clamped} losses clamped, {skipped} meta-gradients skipped")
    assert clamped > 0


def _resources() -> tuple[int, int]:
    """Resident bytes and open files of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd"))


@pytest.mark.optimized
@pytest.mark.parametrize("meta_steps", [40, pytest.param(2000, marks=pytest.mark.slow)])
def test_nothing_grows_and_nothing_compiles_twice(tmp_path, meta_steps):
    """R19 and R20: a run of so many meta-steps with its metrics and checkpoints; one compilation of the meta-step, none
    after the first save, none when it is resumed."""
    config = dataclasses.replace(_RUN, run_dir=str(tmp_path / "run"), meta_steps=meta_steps, checkpoint_every=10)
    trainer = build_trainer(config)
    seen, done = {}, 0

    def step(state):
        nonlocal done
        state, info = trainer.step(state)
        done += 1
        if done in (meta_steps // 2, meta_steps):
            seen[done] = _resources()
        if done == meta_steps // 4 + 1:
            raise KeyboardInterrupt
        return state, info

    watched = trainer._replace(step=step)
    with compilations() as names:
        with pytest.raises(KeyboardInterrupt):
            run(config, watched)
        assert resume(tmp_path / "run", watched).status == "finished"
    assert sum("meta_step" in name for name in names) == 1, names
    (warm_bytes, warm_files), (last_bytes, last_files) = seen.values()
    grown = (last_bytes - warm_bytes) / 1e6
    print(f"{meta_steps // 2} warm meta-steps: resident {grown:+.1f} MB, open files {warm_files} -> {last_files}")
    assert last_files <= warm_files
    assert grown < 10
