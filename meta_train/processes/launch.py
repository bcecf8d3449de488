"""A group of processes on one machine without a scheduler: `python -m meta_train launch --processes N PRESET`.

Starts N ranks that meet on a free loopback port, writes what each prints to RUN/logs/rank_N.log, and watches them:
when one dies or makes no meta-step for too long, all are ended and started again from the newest good checkpoint, a
bounded number of times. The launcher speaks to its ranks by signals, and they to it by files (`watchdog`); there is no
other protocol. A peer's death cannot be survived inside a rank, because the JAX runtime aborts the others.
"""

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from meta_train.processes.stop_signal import StopRequest, stop_on_signal
from meta_train.processes.watchdog import HEARTBEAT, LAUNCHER, Watch

PROGRAM = (sys.executable, "-m", "meta_train")
PREEMPTED = 75
_SETTLED = (0, 2, 3, PREEMPTED)
"""Exit codes that a restart would only repeat: done, usage error, diverged, saved after a signal."""
_POLL_SECONDS = 0.1


@dataclasses.dataclass(frozen=True)
class LaunchConfig:
    """How a group of local processes is started and watched."""

    processes: int = 2
    """Processes to start; 1 is a run that is only watched and restarted."""
    devices_per_process: int = 0
    """CPU devices of each; 0 shares the cores out equally."""
    max_restarts: int = 10
    """Restarts of the group after which the launcher gives up."""
    hang_seconds: float = 300.0
    """Time without a meta-step after which a rank counts as hung."""
    start_seconds: float = 1800.0
    """The same before its first meta-step, which holds the compilation."""
    end_seconds: float = 10.0
    """Time between SIGTERM and SIGKILL when a group that lost a rank is ended."""


def validate_launch(config: LaunchConfig) -> None:
    """Raises a ValueError naming the first field that is wrong."""
    bounds = {"processes": 1, "devices_per_process": 0, "max_restarts": 0}
    for name, least in bounds.items():
        if getattr(config, name) < least:
            raise ValueError(f"{name}={getattr(config, name)}: use at least {least}")
    for name in ("hang_seconds", "start_seconds", "end_seconds"):
        if not 0 < getattr(config, name) < float("inf"):
            raise ValueError(f"{name}={getattr(config, name)}: use a positive finite number")


class Rank(NamedTuple):
    """One process of the group."""

    process: subprocess.Popen
    watch: Watch


class Ending(NamedTuple):
    """How a group ended: an exit code of its own accord (None if it had to be ended), and in words."""

    code: int | None
    reason: str


def launch(config: LaunchConfig, arguments: Sequence[str], run_dir: Path, notify: Callable[[str], None]) -> int:
    """Runs `python -m meta_train ARGUMENTS` in a watched group of processes.

    A signal to the launcher is passed on to every rank once; they save and the launcher returns 75.

    Args:
      config: the group.
      arguments: PRESET with its flags, or resume RUN.
      run_dir: the run folder they name; it exists.
      notify: receives one-line messages.

    Returns:
      the exit code: the group's own, or 1 after too many restarts.
    """
    command = list(arguments)
    with stop_on_signal() as stop, tempfile.TemporaryDirectory() as scratch:
        for restarts in range(config.max_restarts + 1):
            if restarts:
                if command[0] != "resume" and (run_dir / "config.json").exists():
                    command = ["resume", str(run_dir)]
                notify(f"launch: restart {restarts} of {config.max_restarts} from the newest good checkpoint")
            ending = _run_group(config, command, run_dir, Path(scratch), stop, notify)
            if ending.code is not None:
                return ending.code
            notify(f"launch: {ending.reason}")
            if stop.received:
                notify(f"launch: stopped by {stop.received}; resume {run_dir} continues from the newest checkpoint")
                return PREEMPTED
    notify(f"launch: gave up after {config.max_restarts} restarts; the logs are in {run_dir / 'logs'}")
    return 1


def _run_group(
    config: LaunchConfig,
    command: Sequence[str],
    run_dir: Path,
    scratch: Path,
    stop: StopRequest,
    notify: Callable[[str], None],
) -> Ending:
    logs = run_dir / "logs"
    logs.mkdir(exist_ok=True)
    with _echoed(logs / "rank_0.log") as echo, contextlib.ExitStack() as stack:
        port = _free_port()
        ranks: list[Rank] = []
        # Whatever happens here, no process is left behind.
        stack.callback(lambda: _end(ranks, config.end_seconds))
        for rank in range(config.processes):
            ranks.append(_start(config, command, logs, scratch / f"rank_{rank}", port, rank))
        processes = ", ".join(str(rank.process.pid) for rank in ranks)
        notify(f"launch: ranks 0 .. {config.processes - 1} are processes {processes}")
        passed_on = False
        while True:
            if stop.received and not passed_on:
                passed_on = True
                for rank in ranks:
                    _signal(rank.process, signal.SIGTERM)
            ending = _ending(ranks)
            if ending is None:
                echo()
                time.sleep(_POLL_SECONDS)
                continue
            if ending.code is not None:
                # Peers leave in their own time, but not for ever.
                _wait(ranks, config.end_seconds)
            return ending


def _start(config: LaunchConfig, command: Sequence[str], logs: Path, heartbeat: Path, port: int, rank: int) -> Rank:
    heartbeat.unlink(missing_ok=True)
    environment = {
        **os.environ,
        HEARTBEAT: str(heartbeat),
        LAUNCHER: str(os.getpid()),
        "PYTHONUNBUFFERED": "1",
        **_cpu_devices(config),
    }
    group = [] if config.processes == 1 else ["--distributed", f"127.0.0.1:{port},{config.processes},{rank}"]
    with open(logs / f"rank_{rank}.log", "ab") as log:
        # A session of its own: Ctrl-C reaches the launcher alone, which passes it on.
        process = subprocess.Popen(
            [*PROGRAM, *command, *group],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
    return Rank(process, Watch(heartbeat, config.start_seconds, config.hang_seconds))


def _cpu_devices(config: LaunchConfig) -> dict[str, str]:
    from eval.machine.devices import usable_cores

    if not config.devices_per_process and "JAX_NUM_CPU_DEVICES" in os.environ:
        return {}
    number = config.devices_per_process or max(1, usable_cores() // config.processes)
    return {"JAX_NUM_CPU_DEVICES": str(number)}


def _ending(ranks: Sequence[Rank]) -> Ending | None:
    """How the group ends, as soon as that is certain."""
    codes = [rank.process.poll() for rank in ranks]
    for number, (rank, code) in enumerate(zip(ranks, codes, strict=True)):
        if code is None and (problem := rank.watch.hung()):
            return Ending(None, f"rank {number} hangs: {problem}")
        if code is not None and code not in _SETTLED:
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"
            return Ending(None, f"rank {number} {how}")
    if 2 in codes:
        return Ending(2, "usage error")
    if None in codes:
        return None
    if len(set(codes)) > 1:
        return Ending(None, f"ranks ended differently, with exit codes {codes}")
    return Ending(codes[0], "ended")


def _end(ranks: Sequence[Rank], seconds: float) -> None:
    """SIGTERM, some time, SIGKILL; returns when all are gone, so that the run folder's lock is free."""
    for rank in ranks:
        _signal(rank.process, signal.SIGTERM)
    _wait(ranks, seconds)
    for rank in ranks:
        _signal(rank.process, signal.SIGKILL)
        rank.process.wait()


def _wait(ranks: Sequence[Rank], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for rank in ranks:
        with contextlib.suppress(subprocess.TimeoutExpired):
            rank.process.wait(max(0.0, deadline - time.monotonic()))


def _signal(process: subprocess.Popen, number: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(number)


@contextlib.contextmanager
def _echoed(path: Path) -> Iterator[Callable[[], None]]:
    """Yields a function that copies to standard error what was appended to a file since it was called last."""
    with open(path, "ab+") as file:
        file.seek(0, os.SEEK_END)

        def echo() -> None:
            if data := file.read():
                sys.stderr.write(data.decode(errors="replace"))
                sys.stderr.flush()

        try:
            yield echo
        finally:
            echo()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
