"""Runs in processes of their own, for tests that kill, stop and signal them."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = (sys.executable, "-m", "tests.meta_train.toy_trainer")
PRESET = "lagg_fmnist8_k8_h4"


def spawn(*arguments: str, seconds: float = 0.003, devices: int = 2, program=PROGRAM, **environment: str):
    """Starts a toy run (see `toy_trainer`) whose meta-steps take `seconds`."""
    settings = {"TOY_SECONDS": str(seconds), "JAX_NUM_CPU_DEVICES": str(devices), **environment}
    return subprocess.Popen(
        [*program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **settings},
    )


def spawn_group(*arguments: str, processes: int = 2, last=(), **options) -> list[subprocess.Popen]:
    """Starts a group of toy processes on loopback, as a scheduler would; `last`: more arguments of the last one."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    return [
        spawn(*arguments, *more, "--distributed", f"127.0.0.1:{port},{processes},{rank}", **options)
        for rank, more in enumerate([()] * (processes - 1) + [last])
    ]


def end(*processes: subprocess.Popen) -> None:
    """Leaves none of them behind."""
    for process in processes:
        process.kill()
        process.communicate()


def rows_of(run_dir: Path) -> int:
    """Complete lines of metrics.jsonl."""
    path = run_dir / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for_rows(run_dir: Path, count: int, *processes: subprocess.Popen, timeout: float = 240) -> None:
    """Waits until metrics.jsonl has that many rows."""
    deadline = time.monotonic() + timeout
    while rows_of(run_dir) < count:
        assert time.monotonic() < deadline, f"{rows_of(run_dir)} of {count} rows"
        for process in processes:
            if process.poll() is not None:
                raise AssertionError(f"the run ended before its time:\n{process.communicate()[0]}")
        time.sleep(0.01)
