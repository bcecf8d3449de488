"""Many comparisons in one run folder, shared by any number of processes, resumed after any interruption.

    RUN/sweep.json                       the plan: what is compared, and every cell's protocol
    RUN/cells/CELL/results.json          one finished comparison; table.md and curves.png beside it
    RUN/cells/CELL/failed.json           or why there is none
    RUN/cells/CELL/LOCK                  held (flock) by the process that runs the cell

A process walks through the cells, takes those that are neither finished nor failed nor held by another, and goes on.
The kernel drops a lock with its process, so a kill at any moment costs the running cell and nothing else. On a network
file system this needs one whose flock works between hosts (NFS of Linux 2.6.12 on, Lustre with -o flock).
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import re
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eval.compare.baselines import baselines
from eval.compare.compare import compare
from eval.compare.contenders import Contender, import_contender
from eval.compare.learned import learned, workers_needed
from eval.machine.progress import SweepProgress
from eval.protocol import EvalProtocol
from eval.results import Results, load_results
from learned_opt.atomic_file import write_atomic
from learned_opt.checkpoint import load_checkpoint
from tasks.base import TaskFamily

FORMAT_VERSION = 1
PLAN_FILE = "sweep.json"
TRACEBACK_LINES = 12


@dataclasses.dataclass(frozen=True)
class Cell:
    """One comparison of a sweep."""

    name: str
    """Of its folder; letters, digits and _ . + - only."""
    protocol: EvalProtocol
    """What everyone is given in it."""
    value: float | None = None
    """Where it lies on the axis of an axis sweep."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]*", self.name):
            raise ValueError(f"cell {self.name!r}: use letters, digits and _ . + - only")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run folder holds; every process that shares it must come with the same."""

    kind: str
    """"suite" or "axis"."""
    name: str
    """Of the suite or the axis."""
    cells: tuple[Cell, ...]
    checkpoints: tuple[tuple[str, str], ...] = ()
    """(name in tables, file or pretrained name) of every learned optimizer."""
    contenders: tuple[str, ...] = ()
    """module:function of every other one that takes part beside the baselines."""
    tune_multiplier: bool = False
    """Whether a factor on the learned updates is tuned with a baseline's budget."""
    baselines_from: str | None = None
    """Run folder whose tuned baselines are used where it has the same cell."""


class Failure(NamedTuple):
    """Why a cell has no results: one line, the end of the traceback, and how long it took in seconds."""

    message: str
    traceback: str
    seconds: float


class Sweep(NamedTuple):
    """A run folder as read.

    Attributes:
      plan: what was to be done.
      finished: results by cell, in the order of the plan.
      failed: failures by cell.
      missing: cells that have not been run, or are running.
    """

    plan: Plan
    finished: dict[str, Results]
    failed: dict[str, Failure]
    missing: tuple[str, ...]


class Outcome(NamedTuple):
    """What one process did: cells it finished, cells that failed in it, cells that others hold."""

    finished: tuple[str, ...]
    failed: tuple[str, ...]
    elsewhere: tuple[str, ...]


def cell_contenders(plan: Plan, cell: Cell) -> list[Contender]:
    """Everyone who takes part in a cell: baselines, others, learned optimizers that fit its number of workers.

    Raises:
      FileNotFoundError, ValueError: an unsuitable checkpoint or contender. An axis sweep over num_workers leaves out
        the optimizers that are tied to another number, a suite refuses them.
    """
    everyone = [*baselines(cell.protocol), *(import_contender(c, cell.protocol) for c in plan.contenders)]
    for name, path in plan.checkpoints:
        if fits(plan, path, cell):
            everyone.append(learned(path, cell.protocol, tune_multiplier=plan.tune_multiplier, name=name))
    names = [contender.name for contender in everyone]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two contenders are called {name!r}: give one another name, as in --checkpoint NAME=PATH")
    return everyone


def fits(plan: Plan, path: str, cell: Cell) -> bool:
    """Whether a checkpoint takes part in a cell."""
    if plan.kind != "axis" or plan.name != "num_workers":
        return True
    return workers_needed(load_checkpoint(path)) in (None, cell.protocol.num_workers)


def run_sweep(
    plan: Plan,
    run_dir: str | os.PathLike[str],
    make_family: Callable[[Cell], TaskFamily],
    progress: SweepProgress | None = None,
    *,
    contenders: Callable[[Plan, Cell], Sequence[Contender]] = cell_contenders,
    retry_failed: bool = False,
) -> Outcome:
    """Runs the cells that nobody has run or is running.

    Args:
      plan: must be that of the run folder, if it has one.
      run_dir: made if missing.
      make_family: the task family of a cell.
      progress: told about every cell.
      contenders: who takes part in a cell.
      retry_failed: run cells again that failed before.

    Raises:
      ValueError: the folder holds another plan, or a contender is unsuitable; before any training.
      FileNotFoundError: no such checkpoint.
    """
    progress = progress or SweepProgress(lambda *_: None, lambda *_: None)
    for cell in plan.cells:
        contenders(plan, cell)
    folder = Path(run_dir)
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    with _locked(folder / "LOCK", wait=True):
        _write_or_check_plan(plan, folder)
    finished, failed, elsewhere = [], [], []
    for cell in plan.cells:
        cell_folder = folder / "cells" / cell.name
        cell_folder.mkdir(exist_ok=True)
        with _locked(cell_folder / "LOCK") as is_ours:
            if not is_ours:
                elsewhere.append(cell.name)
                progress.cell(cell.name, "running elsewhere")
                continue
            if (cell_folder / "results.json").exists():
                progress.cell(cell.name, "finished before")
                continue
            if (cell_folder / "failed.json").exists() and not retry_failed:
                progress.cell(cell.name, "failed before")
                continue
            progress.cell(cell.name, "running")
            failure = _run_cell(plan, cell, cell_folder, make_family, contenders, progress.stage)
        (finished if failure is None else failed).append(cell.name)
        progress.cell(cell.name, "finished" if failure is None else f"failed: {failure.message}")
    return Outcome(tuple(finished), tuple(failed), tuple(elsewhere))


def load_sweep(run_dir: str | os.PathLike[str]) -> Sweep:
    """Reads a run folder.

    Raises:
      FileNotFoundError: it holds no sweep.
      ValueError: an unreadable plan, result or failure file.
    """
    folder = Path(run_dir)
    plan = _load_plan(folder / PLAN_FILE)
    finished, failed, missing = {}, {}, []
    for cell in plan.cells:
        cell_folder = folder / "cells" / cell.name
        if (cell_folder / "results.json").exists():
            finished[cell.name] = load_results(cell_folder / "results.json")
        elif (cell_folder / "failed.json").exists():
            failed[cell.name] = _load_failure(cell_folder / "failed.json")
        else:
            missing.append(cell.name)
    return Sweep(plan, finished, failed, tuple(missing))


def _run_cell(plan, cell, folder, make_family, contenders, stage) -> Failure | None:
    start = time.monotonic()
    earlier = None if plan.baselines_from is None else Path(plan.baselines_from) / "cells" / cell.name / "results.json"
    try:
        compare(
            cell.protocol,
            [],
            folder,
            stage,
            baselines_from=earlier if earlier is not None and earlier.exists() else None,
            contenders=contenders(plan, cell),
            family=make_family(cell),
        )
    except Exception as error:
        message = " ".join(f"{type(error).__name__}: {error}".split())[:2000]
        lines = traceback.format_exc().strip().splitlines()[-TRACEBACK_LINES:]
        failure = Failure(message, "\n".join(lines), round(time.monotonic() - start, 1))
        document = {"format_version": FORMAT_VERSION, **failure._asdict()}
        write_atomic(folder / "failed.json", (json.dumps(document, indent=1) + "\n").encode())
        return failure
    with contextlib.suppress(FileNotFoundError):
        (folder / "failed.json").unlink()
    return None


@contextlib.contextmanager
def _locked(path: Path, wait: bool = False) -> Iterator[bool]:
    """Holds the lock of a file; yields False where another process has it and we do not wait."""
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def _write_or_check_plan(plan: Plan, folder: Path) -> None:
    path = folder / PLAN_FILE
    if not path.exists():
        document = {"format_version": FORMAT_VERSION, **dataclasses.asdict(plan)}
        write_atomic(path, (json.dumps(document, indent=1) + "\n").encode())
        return
    there = _load_plan(path)
    for field in dataclasses.fields(Plan):
        old, new = getattr(there, field.name), getattr(plan, field.name)
        if old != new:
            detail = f"{field.name}={new!r}, the folder was made for {old!r}"
            if field.name == "cells":
                detail = "its cells or their protocol differ from what the folder was made for"
            raise ValueError(f"{path}: {detail}; repeat the first command or choose another --run-dir")


def _load_plan(path: Path) -> Plan:
    fields = _load_json(path, "sweep")
    try:
        cells = tuple(Cell(c["name"], EvalProtocol(**c["protocol"]), c["value"]) for c in fields.pop("cells"))
        fields["checkpoints"] = tuple((name, checkpoint) for name, checkpoint in fields["checkpoints"])
        fields["contenders"] = tuple(fields["contenders"])
        return Plan(cells=cells, **fields)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: damaged, its fields do not fit ({error}); run the sweep in a new folder") from None


def _load_failure(path: Path) -> Failure:
    fields = _load_json(path, "failure")
    try:
        return Failure(**fields)
    except TypeError as error:
        raise ValueError(f"{path}: damaged ({error}); delete it and run the sweep again") from None


def _load_json(path: Path, what: str) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{path}: no such {what} file; make one with python -m eval suite or axis") from None
    except ValueError as error:
        raise ValueError(f"{path}: damaged or not JSON ({error})") from None
    version = document.pop("format_version", None) if isinstance(document, dict) else None
    if type(version) is not int or version > FORMAT_VERSION:
        raise ValueError(f"{path}: not a {what} file of format version {FORMAT_VERSION}")
    return document
