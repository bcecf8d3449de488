"""What a run leaves behind when it is killed inside a save, when the disk is full, and when it is told to stop."""

import json
import signal
import subprocess
import sys
import time

import pytest

from meta_train.__main__ import main
from meta_train.runs import run_store
from meta_train.runs.run import resume, run
from tests.meta_train.spawned import PRESET, PROGRAM, end, rows_of, spawn, wait_for_rows
from tests.meta_train.toy_trainer import result_of, toy_config, toy_trainer

pytestmark = pytest.mark.optimized

_STEPS = 60
_START = [PRESET, "--meta-steps", str(_STEPS), "--checkpoint-every", "5", "--run-dir"]

# Forks one child a trial; it saves step 1 and 2, then dies by kill -9 inside the save of step 3, at a named point.
_DYING_SAVES = """
import json, os, shutil, signal, sys
from pathlib import Path
import numpy as np
from meta_train.runs import run_store

POINTS = {
    "before the first byte": ("write_synced", 1, "before"),
    "half a file written": ("write_synced", 1, "half"),
    "before the manifest": ("write_synced", 3, "before"),
    "before the rename": ("rename", 1, "before"),
    "after the rename": ("rename", 1, "after"),
    "before the old one is renamed": ("rename", 2, "before"),
    "while the old one is deleted": ("rmtree", 1, "half"),
}

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def armed(real, count, when):
    def function(*arguments, **options):
        nonlocal count
        count -= 1
        if count:
            return real(*arguments, **options)
        if when == "half" and real is WRITE:
            path, data = arguments
            path.write_bytes(data[: len(data) // 2])
        if when == "half" and real is RMTREE:
            os.unlink(arguments[0] / "arrays.safetensors")
        if when == "after":
            real(*arguments, **options)
        die()
    return function

WRITE, RENAME, RMTREE = run_store.write_synced, os.rename, shutil.rmtree

def checkpoint(step):
    arrays = {"theta": np.full((50, 50), step, np.float32)}
    return run_store.StoredCheckpoint(step, arrays, {"elapsed": 1.0})

results = []
for point, (name, count, when) in POINTS.items():
    for repeat in range(int(sys.argv[2])):
        run_dir = Path(sys.argv[1]) / f"{len(results)}"
        run_dir.mkdir()
        child = os.fork()
        if not child:
            for step in (1, 2):
                run_store.save_checkpoint(run_dir, checkpoint(step), 2)
            real = {"write_synced": WRITE, "rename": RENAME, "rmtree": RMTREE}[name]
            owner = {"write_synced": run_store, "rename": os, "rmtree": shutil}[name]
            setattr(owner, name, armed(real, count, when))
            run_store.save_checkpoint(run_dir, checkpoint(3), 2)
            os._exit(0)
        died = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        newest, damages = run_store.newest_checkpoint(run_dir)
        with run_store.locked(run_dir):
            run_store.save_checkpoint(run_dir, checkpoint(3), 2)
            again, _ = run_store.newest_checkpoint(run_dir)
            names = sorted(os.listdir(run_dir / "checkpoints"))
        results.append([point, died, newest and newest.step, len(damages), again.step, names])
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    run(toy_config(run_dir, meta_steps=_STEPS, preset=PRESET), toy_trainer())
    return result_of(run_dir)


@pytest.mark.parametrize("repeats", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_killed_inside_a_save(tmp_path, repeats):
    """R2: never without a good checkpoint, never one that is half there, and nothing left over after the next start."""
    command = [sys.executable, "-c", _DYING_SAVES, str(tmp_path), str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert len(results) == 7 * repeats
    for point, died, newest, num_damages, again, names in results:
        saved = point in ("after the rename", "before the old one is renamed", "while the old one is deleted")
        assert died and newest == (3 if saved else 2) and num_damages == 0, point
        assert again == 3 and names == ["step_00000002", "step_00000003"], point


@pytest.mark.parametrize(
    "number, repeats",
    [
        (signal.SIGTERM, 1),
        pytest.param(signal.SIGTERM, 10, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 5, marks=pytest.mark.slow),
        pytest.param(signal.SIGUSR1, 5, marks=pytest.mark.slow),
    ],
)
def test_signal_saves_within_one_meta_step(tmp_path, whole, number, repeats):
    """R4, with meta-steps slow enough to tell one from the next."""
    run_dir = tmp_path / "run"
    arguments = [*_START, str(run_dir)]
    for repeat in range(repeats):
        before = rows_of(run_dir)
        with spawn(*arguments, seconds=0.3) as process:
            wait_for_rows(run_dir, before + 2, process)
            process.send_signal(number)
            sent, rows = time.monotonic(), rows_of(run_dir)
            output = process.communicate(timeout=60)[0]
            seconds = time.monotonic() - sent
        assert process.returncode == 75, output
        step, _, kept = result_of(run_dir)
        # The meta-step under way is finished and saved; none is begun after it.
        assert rows <= step == len(kept) <= rows + 1 and seconds < 60, (repeat, rows, step)
        arguments = ["resume", str(run_dir)]
    assert resume(run_dir, toy_trainer()).status == "finished"
    assert result_of(run_dir) == whole


_LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.argv = ["toy_trainer", *sys.argv[2:]]
runpy.run_module("tests.meta_train.toy_trainer", run_name="__main__")
"""


def _check_refused_by_the_disk(run_dir, process, output):
    assert process.returncode == 1, output
    errors = [line for line in output.splitlines() if "error" in line]
    assert len(errors) == 1 and errors[0].endswith("checkpoints saved before are intact"), output
    assert "Traceback" not in output
    checkpoint, damages = run_store.newest_checkpoint(run_dir)
    assert checkpoint is not None and not damages and checkpoint.step < _STEPS
    for folder in (run_dir / "checkpoints").glob("step_*"):
        run_store.read_checkpoint(folder)


@pytest.mark.slow
def test_full_disk(tmp_path, whole):
    """R5, the disk being as full as RLIMIT_FSIZE makes it: the metrics do not fit after some meta-steps."""
    run_dir = tmp_path / "run"
    # The cache of compiled programs is written too; it must not be what fails.
    limited = (sys.executable, "-c", _LIMITED, "9000")
    process = spawn(*_START, str(run_dir), program=limited, JAX_ENABLE_COMPILATION_CACHE="0")
    output = process.communicate(timeout=120)[0]
    _check_refused_by_the_disk(run_dir, process, output)
    assert resume(run_dir, toy_trainer()).status == "finished"
    assert result_of(run_dir) == whole


@pytest.mark.slow
def test_full_tmpfs(tmp_path, whole):
    """R5 on a file system that is really full."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("mounting needs privileges")
    try:
        process = spawn(*_START, str(folder / "run"), "--keep-checkpoints", "100")
        output = process.communicate(timeout=120)[0]
        _check_refused_by_the_disk(folder / "run", process, output)
        subprocess.run(["mount", "-o", "remount,size=100m", folder], check=True)
        assert resume(folder / "run", toy_trainer()).status == "finished"
        step, bits, rows = result_of(folder / "run")
        assert (step, bits, rows) == whole
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
def test_second_run_in_the_folder_is_refused(tmp_path, capsys):
    """R15, with two real processes."""
    first = spawn(*_START, str(tmp_path / "run"), seconds=0.3)
    try:
        wait_for_rows(tmp_path / "run", 1, first)
        assert main(["resume", str(tmp_path / "run")]) == 2
        error = capsys.readouterr().err
        assert f"in use by process {first.pid} on " in error and error.count("\n") == 1
    finally:
        end(first)


@pytest.mark.slow
def test_core_count_and_hash_seed_do_not_change_bits(tmp_path, whole):
    """R6: another process, on one core, with another seed of Python's hashes."""
    one_core = (
        sys.executable,
        "-c",
        "import os, sys; os.sched_setaffinity(0, {0}); os.execv(sys.argv[1], sys.argv[1:])",
    )
    program = (*one_core, *PROGRAM)
    process = spawn(*_START, str(tmp_path / "run"), program=program, PYTHONHASHSEED="7")
    output = process.communicate(timeout=240)[0]
    assert process.returncode == 0, output
    assert result_of(tmp_path / "run") == whole
