"""Progress of a long loop: a rich bar with the time left on a terminal, a plain line every ten
seconds elsewhere."""

import contextlib
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator

from eval.machine.progress import hours_minutes_seconds

_SECONDS_BETWEEN_LINES = 10.0
_WINDOW = 20
_LABEL = "meta-training"


@contextlib.contextmanager
def show_progress(num_steps: int, done: int = 0) -> Iterator[Callable[[int, float], None]]:
    """Shows progress on standard error.

    Args:
      num_steps: meta-steps of the whole run.
      done: meta-steps already done, which the time left does not count.

    Yields:
      report(step, meta_loss), to be called after each meta-step; the mean of the last 20
      meta-losses is shown.
    """
    recent: deque[float] = deque(maxlen=_WINDOW)

    def describe(meta_loss: float) -> str:
        if math.isfinite(meta_loss):
            recent.append(meta_loss)
        return f"meta-loss {sum(recent) / len(recent):.4f}" if recent else "meta-loss not finite"

    show = _bar if sys.stderr.isatty() else _lines
    with show(num_steps, done) as advance:
        yield lambda step, meta_loss: advance(step, describe(meta_loss))


@contextlib.contextmanager
def _bar(num_steps: int, done: int) -> Iterator[Callable[[int, str], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=4) as progress:
        task = progress.add_task(_LABEL, total=num_steps, completed=done, loss="compiling")
        yield lambda step, text: progress.update(task, completed=step, loss=text)


@contextlib.contextmanager
def _lines(num_steps: int, done: int) -> Iterator[Callable[[int, str], None]]:
    start = first = last = time.monotonic()
    first_step = done
    print(f"{_LABEL}: {num_steps - done} of {num_steps} meta-steps to do, compiling", file=sys.stderr)

    def advance(step: int, text: str) -> None:
        nonlocal first, first_step, last
        now = time.monotonic()
        if first_step == done:
            # The first step holds the compilation, which says nothing about the pace.
            first, first_step = now, step
        elif now - last < _SECONDS_BETWEEN_LINES and step < num_steps:
            return
        last = now
        pace = (now - first) / (step - first_step) if step > first_step else math.nan
        left = hours_minutes_seconds(pace * (num_steps - step))
        print(f"{_LABEL}: {step}/{num_steps} {text} {hours_minutes_seconds(now - start)} left {left}", file=sys.stderr)

    yield advance
