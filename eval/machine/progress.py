"""Progress of long work: a rich bar on a terminal, a plain line per stage elsewhere."""

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

Progress = Callable[[str, int, int], None]
"""(stage, done, total): called again and again with the same stage until done == total."""


class SweepProgress(NamedTuple):
    """Progress of many comparisons.

    Attributes:
      cell: (name, status) when something happens to a cell; "running" when it starts.
      stage: a `Progress` for what happens inside one.
    """

    cell: Callable[[str, str], None]
    stage: Progress


@contextlib.contextmanager
def show_sweep_progress(num_cells: int) -> Iterator[SweepProgress]:
    """Yields a `SweepProgress` that writes to standard error, with the time left as the cells so far took."""
    clock = _CellClock(num_cells)
    with _sweep_bars(clock) if sys.stderr.isatty() else _sweep_lines(clock) as progress:
        yield progress


class _CellClock:
    """Counts the cells that are settled, and times those that ran here."""

    def __init__(self, num_cells: int):
        self.num_cells, self.settled, self.ran, self.seconds, self.started = num_cells, 0, 0, 0.0, 0.0

    def tell(self, status: str) -> str:
        """The line to show for a change of status."""
        if status == "running":
            self.started = time.monotonic()
            return f"{self.settled + 1}/{self.num_cells}"
        self.settled += 1
        if not status.startswith(("finished before", "failed before", "running elsewhere")):
            self.ran, self.seconds = self.ran + 1, self.seconds + time.monotonic() - self.started
        left = self.num_cells - self.settled
        if not self.ran or not left:
            return f"{self.settled}/{self.num_cells}"
        return f"{self.settled}/{self.num_cells}, about {hours_minutes_seconds(left * self.seconds / self.ran)} left"


@contextlib.contextmanager
def _sweep_lines(clock: _CellClock) -> Iterator[SweepProgress]:
    def cell(name: str, status: str) -> None:
        print(f"[{clock.tell(status)}] {name}: {status}", file=sys.stderr, flush=True)

    yield SweepProgress(cell, lambda stage, done, total: None)


@contextlib.contextmanager
def _sweep_bars(clock: _CellClock) -> Iterator[SweepProgress]:
    from rich import progress as rich_progress
    from rich.console import Console

    columns = (
        rich_progress.TextColumn("{task.description:<52}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
    )
    with rich_progress.Progress(*columns, console=Console(stderr=True)) as bars:
        cells = bars.add_task("cells", total=clock.num_cells)
        inside = bars.add_task("starting", total=None)

        def cell(name: str, status: str) -> None:
            text = clock.tell(status)
            if status != "running":
                bars.console.print(f"{name}: {status}", highlight=False, markup=False)
            bars.update(cells, completed=clock.settled, description=f"cells {text}")
            bars.reset(inside, description=name, total=None)

        def stage(name: str, done: int, total: int) -> None:
            bars.update(inside, description=f"  {name}", completed=done, total=total)

        yield SweepProgress(cell, stage)


def hours_minutes_seconds(seconds: float) -> str:
    """h:mm:ss; a question mark for what is not known."""
    if not math.isfinite(seconds):
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


@contextlib.contextmanager
def show_progress() -> Iterator[Progress]:
    """Yields a `Progress` that writes to standard error."""
    with _bars() if sys.stderr.isatty() else _lines() as progress:
        yield progress


@contextlib.contextmanager
def _bars() -> Iterator[Progress]:
    from rich import progress as rich_progress
    from rich.console import Console

    columns = (
        rich_progress.TextColumn("{task.description:<28}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TimeRemainingColumn(),
    )
    with rich_progress.Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, rich_progress.TaskID] = {}

        def progress(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield progress


@contextlib.contextmanager
def _lines() -> Iterator[Progress]:
    started: dict[str, float] = {}

    def progress(stage: str, done: int, total: int) -> None:
        start = started.setdefault(stage, time.monotonic())
        if done == total:
            seconds = time.monotonic() - start
            print(f"{stage}: {done}/{total} in {seconds:.0f} s", file=sys.stderr, flush=True)

    yield progress
