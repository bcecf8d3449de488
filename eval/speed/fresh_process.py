"""Measurements in processes of their own, each with a cold compiler."""

import os
import subprocess
import sys


def in_fresh_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `python -m` with the arguments without a cache of compiled programs, and keeps what it prints."""
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def failure_of(done: subprocess.CompletedProcess[str]) -> str:
    """The last line of its errors; of a process that was killed there is none."""
    return (done.stderr.strip().splitlines() or ["killed"])[-1]
