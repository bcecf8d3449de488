"""`make gpu-check`: what only a GPU can show, in at most nine minutes, with the JAX that is installed.

Tests marked `gpu`; the cost of a learned step beside AdamW's; a meta-step on one and on several devices; speed and
memory of every preset. Ends with Markdown tables for the README. On a CPU all sizes are tiny: then it shows that the
check works, and its figures mean nothing.

Every measurement is a process of its own, so that memory is counted from zero and one that takes too long can be
stopped. Each part has a time budget; what does not fit is named in a line. Exit code 1 if anything failed.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from meta_train.gpu_check import tables
from meta_train.presets import PRESETS

TOTAL_SECONDS = 520.0
"""Of all parts, which leaves a margin below nine minutes."""
SHORTEST_SECONDS = 5.0
"""No measurement is begun with less."""
LAYOUT_PRESET = "lagg_fmnist8_k8_h4"
MEASURE = ("-m", "meta_train.gpu_check.measure")
TESTS = ("-m", "pytest", "-m", "gpu", "-q", "tests")

Row = dict[str, Any]


class Measured(NamedTuple):
    """What one process printed: its rows, the last line of the rest, and what went wrong, if anything."""

    rows: list[Row]
    last_line: str
    problem: str


class Part(NamedTuple):
    """One table.

    Attributes:
      title: its heading.
      columns: of the table.
      seconds: budget.
      jobs: name -> (arguments of Python, changes of the environment).
    """

    title: str
    columns: Sequence[tables.Column]
    seconds: float
    jobs: Mapping[str, tuple[Sequence[str], Mapping[str, str]]]


def measured(arguments: Sequence[str], seconds: float, environment: Mapping[str, str]) -> Measured:
    """Runs Python with these arguments and reads the JSON lines it prints; stopped when the time is up."""
    # Compilation is measured cold.
    inherited = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    command = [sys.executable, *arguments]
    try:
        done = subprocess.run(
            command, env={**inherited, **environment}, capture_output=True, text=True, timeout=seconds, check=False
        )
        output, problem = done.stdout, ""
        if done.returncode:
            problem = _last_line(done.stderr) or _last_line(output) or f"exit code {done.returncode}"
    except subprocess.TimeoutExpired as stopped:
        output = stopped.stdout or ""
        output = output.decode() if isinstance(output, bytes) else output
        problem = f"stopped after {seconds:.0f} s"
    lines = output.splitlines()
    return Measured([json.loads(line) for line in lines if line.startswith("{")], _last_line(output), problem)


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def parts(machine: Row) -> list[Part]:
    """What is measured, in order."""
    sizes = [n for n in (1, 2, 4, 8, 16) if n <= machine["devices"]]
    visible = "JAX_NUM_CPU_DEVICES" if machine["platform"] == "cpu" else "CUDA_VISIBLE_DEVICES"

    def only(n):
        return {visible: str(n) if machine["platform"] == "cpu" else ",".join(map(str, range(n)))}

    return [
        Part("Tests", tables.TESTS, 120, {"tests marked gpu": (TESTS, {})}),
        Part("One step of the optimizer", tables.UPDATES, 120, {"updates": ((*MEASURE, "updates"), {})}),
        Part(
            f"Meta-steps of {LAYOUT_PRESET} on so many devices",
            tables.LAYOUTS,
            100,
            {f"{n} devices": ((*MEASURE, "layout", LAYOUT_PRESET), only(n)) for n in sizes},
        ),
        Part(
            "Meta-training", tables.PRESETS, TOTAL_SECONDS, {name: ((*MEASURE, "preset", name), {}) for name in PRESETS}
        ),
    ]


def run_part(part: Part, seconds_left: Callable[[], float]) -> tuple[list[Row], list[str]]:
    """Its rows, and a remark for each job that failed, was stopped or found no time."""
    end = min(part.seconds, seconds_left())
    begin = time.monotonic()
    rows: list[Row] = []
    remarks = []
    for name, (arguments, environment) in part.jobs.items():
        left = end - (time.monotonic() - begin)
        if left < SHORTEST_SECONDS:
            remarks.append(f"{name}: skipped, the time is up")
            continue
        print(f"{part.title}: {name}", file=sys.stderr, flush=True)
        found = measured(arguments, left, environment)
        rows += found.rows or ([{"outcome": found.last_line}] if arguments is TESTS and found.last_line else [])
        remarks += [f"{name}: {row['problem']}" for row in found.rows if "problem" in row]
        if found.problem:
            remarks.append(f"{name}: {found.problem}")
    return rows, remarks


def main() -> int:
    """Prints the tables; exit code 1 if a measurement failed."""
    begin = time.monotonic()

    def seconds_left():
        return TOTAL_SECONDS - (time.monotonic() - begin)

    found = measured((*MEASURE, "machine"), 60, {})
    if not found.rows:
        print(f"gpu-check: no machine: {found.problem}", file=sys.stderr)
        return 1
    (machine,) = found.rows
    print(f"{machine['devices']} x {machine['device']}, jax {machine['jax']}, Python {machine['python']}\n")
    if machine["platform"] == "cpu":
        print("No GPU: all sizes are tiny, and the figures mean nothing.\n")
    failed = False
    for part in parts(machine):
        rows, remarks = run_part(part, seconds_left)
        failed |= any(not remark.endswith("the time is up") for remark in remarks)
        print(f"### {part.title}\n\n{tables.table(part.columns, rows)}")
        print("".join(f"- {remark}\n" for remark in remarks), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
