"""Progress of long work: a rich bar on a terminal, a plain line per stage elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

Progress = Callable[[str, int, int], None]
"""(stage, done, total): called again and again with the same stage until done == total."""


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
