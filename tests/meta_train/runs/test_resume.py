"""A run that is killed, stopped or damaged and then resumed gives the bits of one that never
was."""

import dataclasses
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from learned_opt.checkpoint import load_checkpoint
from meta_train.mixture import MetaTrainer
from meta_train.presets import PRESETS
from meta_train.runs.metrics_log import MetricsLog
from meta_train.runs.run import resume, run
from meta_train.runs.run_store import locked
from meta_train.trainer import build_trainer
from tests.meta_train.spawned import PRESET, rows_of, spawn, wait_for_rows
from tests.meta_train.toy_trainer import result_of, toy_config, toy_trainer

pytestmark = pytest.mark.optimized

_START = [PRESET, "--meta-steps", "240", "--checkpoint-every", "4", "--run-dir"]


class _Killed(Exception):
    pass


def _dies_after(trainer: MetaTrainer, steps: int) -> MetaTrainer:
    """The trainer of a process that dies inside its (steps + 1)-th meta-step."""
    left = iter(range(steps))

    def step(state):
        if next(left, None) is None:
            raise _Killed
        return trainer.step(state)

    return trainer._replace(step=step)


@pytest.fixture(scope="module")
def trainer():
    return toy_trainer()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, trainer):
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    outcome = run(toy_config(run_dir), trainer)
    assert outcome.status == "finished" and outcome.step == 30
    return run_dir


def test_run_folder(uninterrupted):
    step, _, rows = result_of(uninterrupted)
    assert step == 30 and [row["step"] for row in rows] == list(range(1, 31))
    assert {"meta_loss", "gradient_norm", "num_clamped", "num_skipped"} <= rows[0].keys()
    assert (uninterrupted / "figures" / "meta_loss.png").read_bytes()[:4] == b"\x89PNG"
    names = sorted(entry.name for entry in (uninterrupted / "checkpoints").iterdir())
    assert names == ["step_00000021", "step_00000028", "step_00000030"]
    provenance = (uninterrupted / "provenance.jsonl").read_text().splitlines()
    assert len(provenance) == 1 and json.loads(provenance[0])["versions"]["jax"] == jax.__version__
    assert json.loads((uninterrupted / "config.json").read_text())["meta_steps"] == 30


def test_exported_optimizer_is_the_average(uninterrupted):
    checkpoint = load_checkpoint(uninterrupted / "optimizer.safetensors")
    _, bits, _ = result_of(uninterrupted)
    theta = b"".join(leaf.tobytes() for leaf in jax.tree.leaves(checkpoint.theta))
    assert theta == bits["theta_average"][2] != bits["theta"][2]
    # Of the trainer that was used, not of the settings' task and optimizer.
    assert checkpoint.card["task"] == "toy" and checkpoint.card["num_workers"] == 2
    assert checkpoint.card["meta_steps"] == 30 and "meta_train_config" not in checkpoint.card


@pytest.mark.parametrize("deaths", [[0], [3], [7], [8], [13, 1, 9], [29], [2, 2, 2, 2, 30]])
def test_resumed_equals_uninterrupted(tmp_path, trainer, uninterrupted, deaths):
    run_dir = tmp_path / "run"
    for number, death in enumerate(deaths):
        mortal = _dies_after(trainer, death)
        try:
            resume(run_dir, mortal) if number else run(toy_config(run_dir), mortal)
        except _Killed:
            pass
    assert resume(run_dir, trainer).status == "finished"
    assert result_of(run_dir) == result_of(uninterrupted)
    new, old = (load_checkpoint(d / "optimizer.safetensors") for d in (run_dir, uninterrupted))
    jax.tree.map(np.testing.assert_array_equal, new.theta, old.theta)


@pytest.mark.slow  # test_mixture does it with two components
def test_real_trainer_resumes_bit_for_bit(tmp_path):
    tiny = {
        "num_workers": 2,
        "num_local_steps": 2,
        "batch_size": 4,
        "optimizer": "lagg_a,hidden_size=4,nominal=momentum",
        "num_tasks": 2,
        "truncation_length": 2,
        "min_unroll_length": 2,
        "max_unroll_length": 6,
        "meta_steps": 6,
        "checkpoint_every": 2,
    }
    whole, resumed = (toy_config(tmp_path / name, **tiny) for name in ("whole", "resumed"))
    # optax's AdamW raises a float to an integer power, which strict promotion refuses.
    with jax.numpy_dtype_promotion("standard"):
        trainer = build_trainer(whole)
        run(whole, trainer)
        with pytest.raises(_Killed):
            run(resumed, _dies_after(trainer, 3))
        # Built again, as a new process would.
        resume(resumed.run_dir, build_trainer(resumed))
    assert result_of(Path(resumed.run_dir)) == result_of(Path(whole.run_dir))


def test_another_version_is_reported(tmp_path, trainer):
    with pytest.raises(_Killed):
        run(toy_config(tmp_path / "run"), _dies_after(trainer, 10))
    path = tmp_path / "run" / "provenance.jsonl"
    path.write_text(path.read_text().replace(f'"jax": "{jax.__version__}"', '"jax": "0.1"') + "{")
    messages = []
    resume(tmp_path / "run", trainer, notify=messages.append)
    assert any("jax was 0.1, is" in message for message in messages)


def test_a_moved_run_resumes(tmp_path, trainer, uninterrupted):
    with pytest.raises(_Killed):
        run(toy_config(tmp_path / "here"), _dies_after(trainer, 15))
    shutil.move(tmp_path / "here", tmp_path / "there")
    resume(tmp_path / "there", trainer)
    assert result_of(tmp_path / "there") == result_of(uninterrupted)


def test_damaged_checkpoint_is_reported_and_stepped_over(tmp_path, trainer, uninterrupted):
    with pytest.raises(_Killed):
        run(toy_config(tmp_path / "run"), _dies_after(trainer, 20))
    arrays = tmp_path / "run" / "checkpoints" / "step_00000014" / "arrays.safetensors"
    data = bytearray(arrays.read_bytes())
    data[-1] ^= 1
    arrays.write_bytes(data)
    messages = []
    resume(tmp_path / "run", trainer, notify=messages.append)
    assert any("step_00000014" in m and "SHA-256" in m for m in messages)
    assert any("resuming at meta-step 7 of 30" in m for m in messages)
    assert result_of(tmp_path / "run") == result_of(uninterrupted)


def test_no_intact_checkpoint(tmp_path, trainer):
    with pytest.raises(_Killed):
        run(toy_config(tmp_path / "run"), _dies_after(trainer, 10))
    (tmp_path / "run" / "checkpoints" / "step_00000007" / "meta.json").unlink()
    with pytest.raises(ValueError, match="no checkpoint is intact .*step_00000007.*meta.json"):
        resume(tmp_path / "run", trainer)


def test_changed_config_is_refused(tmp_path, trainer):
    with pytest.raises(_Killed):
        run(toy_config(tmp_path / "run"), _dies_after(trainer, 10))
    path = tmp_path / "run" / "config.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(ValueError, match="seed 0 -> 1"):
        resume(tmp_path / "run", trainer)


def test_finished_run_is_not_touched(tmp_path, trainer):
    run(toy_config(tmp_path / "run", meta_steps=3), trainer)
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    before.pop(tmp_path / "run" / "LOCK")
    assert resume(tmp_path / "run", trainer).status == "finished"
    assert all(path.read_bytes() == data for path, data in before.items())


def test_lost_optimizer_file_is_written_again(tmp_path, trainer):
    run(toy_config(tmp_path / "run", meta_steps=3), trainer)
    path = tmp_path / "run" / "optimizer.safetensors"
    theta = load_checkpoint(path).theta
    path.write_bytes(b"damaged")
    resume(tmp_path / "run", trainer)
    jax.tree.map(np.testing.assert_array_equal, load_checkpoint(path).theta, theta)


def test_reused_folder(tmp_path, trainer, uninterrupted):
    config = toy_config(tmp_path / "run", reuse_run_dir=True)
    with pytest.raises(_Killed):
        run(config, _dies_after(trainer, 10))
    assert run(config, trainer).status == "finished"
    assert run(config, trainer).status == "finished"
    assert result_of(tmp_path / "run") == result_of(uninterrupted)
    with pytest.raises(ValueError, match="seed 0 -> 1"):
        run(toy_config(tmp_path / "run", reuse_run_dir=True, seed=1), trainer)


def test_failed_start_leaves_the_folder_usable(tmp_path, trainer, monkeypatch):
    def broken(config, given):
        raise ValueError("no data")

    monkeypatch.setattr("meta_train.runs.run.build_trainer", broken)
    with pytest.raises(ValueError, match="no data"):
        run(toy_config(tmp_path / "run", meta_steps=2))
    assert run(toy_config(tmp_path / "run", meta_steps=2), trainer).status == "finished"


def test_existing_run_is_refused_untouched(uninterrupted, trainer):
    before = result_of(uninterrupted)
    with pytest.raises(ValueError, match="already holds a run; .* resume"):
        run(toy_config(uninterrupted), trainer)
    assert result_of(uninterrupted) == before


def test_folder_in_use_is_refused(uninterrupted, trainer):
    with locked(uninterrupted), pytest.raises(ValueError, match="in use by process"):
        resume(uninterrupted, trainer)


def test_divergence_stops_and_saves(tmp_path):
    config = toy_config(tmp_path / "run", max_consecutive_skips=4)
    diverging = toy_trainer(first_bad_step=12)
    outcome = run(config, diverging)
    assert outcome.status == "diverged" and 15 <= outcome.step < 30
    step, _, rows = result_of(tmp_path / "run")
    assert step == outcome.step == len(rows)
    assert rows[10]["meta_loss"] is not None and rows[11]["meta_loss"] is None
    load_checkpoint(tmp_path / "run" / "optimizer.safetensors")
    assert resume(tmp_path / "run", diverging).status == "diverged"


def test_full_disk_keeps_what_was_saved(tmp_path, trainer, uninterrupted, monkeypatch):
    steps = iter(range(100))

    def step(state):
        if next(steps) == 10:
            monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
        return trainer.step(state)

    with pytest.raises(OSError):
        run(toy_config(tmp_path / "run"), trainer._replace(step=step))
    monkeypatch.undo()
    resume(tmp_path / "run", trainer)
    assert result_of(tmp_path / "run") == result_of(uninterrupted)


def test_bug_in_a_meta_step_is_no_usage_error(tmp_path, trainer):
    def step(state):
        raise ValueError("shapes differ")

    with pytest.raises(RuntimeError, match="meta-step failed"):
        run(toy_config(tmp_path / "run"), trainer._replace(step=step))


@pytest.fixture(scope="module")
def whole_process(tmp_path_factory, trainer):
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    config = dataclasses.replace(PRESETS[_START[0]](), meta_steps=240, run_dir=str(run_dir))
    run(config, trainer)
    return run_dir


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_at_random_moments(tmp_path, trainer, whole_process, kills):
    """kill -9 while it steps or saves; the run must end with the same bits and all its rows."""
    rng = random.Random(kills)
    run_dir = tmp_path / "run"
    arguments = [*_START, str(run_dir)]
    for _ in range(kills):
        done = rows_of(run_dir)
        with spawn(*arguments) as process:
            # A start rewinds the metrics to the newest checkpoint first.
            wait_for_rows(run_dir, done + 1, process)
            time.sleep(rng.uniform(0, 0.6 / kills))
            process.kill()
        arguments = ["resume", str(run_dir)]
    resume(run_dir, trainer)
    assert result_of(run_dir) == result_of(whole_process)
    starts = (run_dir / "provenance.jsonl").read_text().count("\n")
    assert starts >= kills


def test_second_interrupt_exits_at_once():
    """Even while the main thread sits in a call that never returns to the interpreter."""
    program = (
        "import threading; from meta_train.processes.stop_signal import stop_on_signal\n"
        "with stop_on_signal():\n"
        "    print('ready', flush=True)\n"
        "    (lock := threading.Lock()).acquire()\n"
        "    while True: lock.acquire()\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 130


def test_a_run_that_ends_before_its_rows_are_read_has_diverged_all_the_same(tmp_path, monkeypatch):
    # As where meta-steps are fast.
    monkeypatch.setattr(MetricsLog, "full", False)
    config = toy_config(tmp_path / "run", meta_steps=5, max_consecutive_skips=2, checkpoint_every=50)
    assert run(config, toy_trainer(first_bad_step=1), notify=lambda line: None).status == "diverged"
    assert rows_of(tmp_path / "run") == 5
