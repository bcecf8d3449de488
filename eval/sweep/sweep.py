"""Many comparisons in one run folder, shared by any number of processes, resumed after any interruption.

    RUN/sweep.json                       the plan: what is compared, and every cell's protocol
    RUN/cells/CELL/results.json          one finished comparison
    RUN/cells/CELL/failed.json           or why there is none
    RUN/cells/CELL/tuning/               trials of a comparison that is running, or was interrupted
    RUN/cells/CELL/LOCK                  held (flock) by the process that runs the cell

A process walks through the cells, takes those that are neither finished nor failed nor held by another, and goes on.
The kernel drops a lock with its process, so a kill at any moment costs what was training at it and nothing else. On a
network file system this needs one whose flock works between hosts (NFS of Linux 2.6.12 on, Lustre with -o flock).
"""

import contextlib
import fcntl
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from eval.compare.checkpoints import read_checkpoint
from eval.compare.compare import compare
from eval.compare.contenders import Contender
from eval.compare.earlier import holds_settings
from eval.compare.participants import participants
from eval.compare.tuned_settings import settings_for
from eval.diagnostics.table import measurable
from eval.machine.progress import SweepProgress
from eval.results import Results, load_results
from eval.sweep.plan import PLAN_FILE, Cell, SweepPlan, load_plan, write_or_check_plan
from eval.versioned_json import JsonFormat
from tasks.base import TaskFamily
from tasks.check import check_form

TRACEBACK_LINES = 12
FAILURE = JsonFormat("record of a failure", 2, "the sweep", indent=1)

MakeFamily = Callable[[Cell], TaskFamily]
MakeContenders = Callable[[SweepPlan, Cell], Sequence[Contender]]


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

    plan: SweepPlan
    finished: dict[str, Results]
    failed: dict[str, Failure]
    missing: tuple[str, ...]


class SweepOutcome(NamedTuple):
    """What one process did: cells it finished, cells that failed in it, cells that others hold."""

    finished: tuple[str, ...]
    failed: tuple[str, ...]
    elsewhere: tuple[str, ...]


def cell_contenders(plan: SweepPlan, cell: Cell) -> list[Contender]:
    """Everyone who takes part in a cell: baselines, others, learned optimizers that fit its number of workers.

    Raises:
      FileNotFoundError, ValueError: an unsuitable checkpoint or contender. An axis sweep leaves out the optimizers that
        are tied to another number of workers than the cell has, a suite refuses them.
    """
    return participants(
        cell.protocol,
        checkpoints=[f"{name}={path}" for name, path in plan.checkpoints if fits(plan, path, cell)],
        baselines=plan.baselines,
        contenders=plan.contenders,
        tune_multiplier=plan.tune_multiplier,
        one_setting=plan.one_setting,
    )


def fits(plan: SweepPlan, path: str, cell: Cell) -> bool:
    """Whether a checkpoint takes part in a cell."""
    if plan.kind != "axis":
        return True
    return read_checkpoint(path).lopt.num_workers in (None, cell.protocol.num_workers)


def run_sweep(
    plan: SweepPlan,
    run_dir: str | os.PathLike[str],
    make_family: MakeFamily,
    progress: SweepProgress | None = None,
    *,
    contenders: MakeContenders = cell_contenders,
    retry_failed: bool = False,
) -> SweepOutcome:
    """Checks the sweep, then runs the cells that nobody has run or is running.

    Args:
      plan: must be that of the run folder, if it has one.
      run_dir: made if missing.
      make_family: the task family of a cell.
      progress: told about every cell.
      contenders: who takes part in a cell.
      retry_failed: run cells again that failed before.

    Raises:
      ValueError, FileNotFoundError: as `check_sweep`, before any training.
    """
    check_sweep(plan, run_dir, make_family, contenders=contenders, retry_failed=retry_failed)
    return run_cells(plan, run_dir, make_family, progress, contenders=contenders, retry_failed=retry_failed)


def check_sweep(
    plan: SweepPlan,
    run_dir: str | os.PathLike[str],
    make_family: MakeFamily,
    *,
    contenders: MakeContenders = cell_contenders,
    retry_failed: bool = False,
) -> None:
    """Builds everyone and every family of the cells that are left to do, and makes the run folder.

    Raises:
      ValueError: the folder holds another plan, a contender is unsuitable, or families are or cannot be built; all of
        them are named.
      FileNotFoundError: no such checkpoint.
    """
    folder = Path(run_dir)
    problems = []
    for cell in plan.cells:
        contenders(plan, cell)
    for cell in plan.cells:
        if _is_settled(folder / "cells" / cell.name, retry_failed) is None:
            try:
                family = make_family(cell)
                check_form(family)
                measurable(cell.protocol.diagnostics, family)
            except (ValueError, OSError) as error:
                problems.append(f"{cell.name}: {error}")
    if problems:
        number = f"{len(problems)} of {len(plan.cells)} task families cannot be used"
        raise ValueError(f"{number}; leave them out or mend them: {'; '.join(problems)}")
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    with _locked(folder / "LOCK", wait=True):
        write_or_check_plan(plan, folder)


def run_cells(
    plan: SweepPlan,
    run_dir: str | os.PathLike[str],
    make_family: MakeFamily,
    progress: SweepProgress | None = None,
    *,
    contenders: MakeContenders = cell_contenders,
    retry_failed: bool = False,
) -> SweepOutcome:
    """Runs the cells of a sweep that has been checked; arguments as for `run_sweep`."""
    progress = progress or SweepProgress(lambda *_: None, lambda *_: None)
    finished, failed, elsewhere = [], [], []
    for cell in plan.cells:
        cell_folder = Path(run_dir) / "cells" / cell.name
        cell_folder.mkdir(exist_ok=True)
        with _locked(cell_folder / "LOCK") as is_ours:
            if not is_ours:
                elsewhere.append(cell.name)
                progress.cell(cell.name, "running elsewhere")
                continue
            settled = _is_settled(cell_folder, retry_failed)
            if settled is not None:
                progress.cell(cell.name, settled)
                continue
            progress.cell(cell.name, "running")
            failure = _run_cell(plan, cell, cell_folder, make_family, contenders, progress.stage)
        (finished if failure is None else failed).append(cell.name)
        progress.cell(cell.name, "finished" if failure is None else f"failed: {failure.message}")
    return SweepOutcome(tuple(finished), tuple(failed), tuple(elsewhere))


def load_sweep(run_dir: str | os.PathLike[str]) -> Sweep:
    """Reads a run folder.

    Raises:
      FileNotFoundError: it holds no sweep.
      ValueError: an unreadable plan, result or failure file.
    """
    folder = Path(run_dir)
    plan = load_plan(folder / PLAN_FILE)
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


def _is_settled(cell_folder: Path, retry_failed: bool) -> str | None:
    """Why there is nothing to do for a cell; None where there is."""
    if (cell_folder / "results.json").exists():
        return "finished before"
    if (cell_folder / "failed.json").exists() and not retry_failed:
        return "failed before"
    return None


def _run_cell(plan, cell, folder, make_family, contenders, stage) -> Failure | None:
    start = time.monotonic()
    try:
        compare(
            cell.protocol,
            [],
            folder,
            stage,
            baselines_from=_earlier(plan, cell),
            baselines=(),
            contenders=contenders(plan, cell),
            family=make_family(cell),
        )
    except Exception as error:
        message = " ".join(f"{type(error).__name__}: {error}".split())[:2000]
        lines = traceback.format_exc().strip().splitlines()[-TRACEBACK_LINES:]
        failure = Failure(message, "\n".join(lines), round(time.monotonic() - start, 1))
        FAILURE.write(folder / "failed.json", failure._asdict())
        return failure
    with contextlib.suppress(FileNotFoundError):
        (folder / "failed.json").unlink()
    return None


def _earlier(plan: SweepPlan, cell: Cell) -> str | Path | None:
    """Where the settings of a cell's baselines come from; None: they are tuned."""
    if plan.baselines_from is None:
        return None
    if holds_settings(plan.baselines_from):
        return plan.baselines_from if settings_for(plan.baselines_from, cell.protocol) else None
    file = Path(plan.baselines_from) / "cells" / cell.name / "results.json"
    return file if file.exists() else None


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


def _load_failure(path: Path) -> Failure:
    fields = FAILURE.read(path)
    try:
        return Failure(**fields)
    except TypeError as error:
        raise ValueError(f"{path}: damaged ({error}); delete it and run the sweep again") from None
