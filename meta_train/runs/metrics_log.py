"""Diagnostics of meta-steps on their way from the device to metrics.jsonl, and to whoever else watches.

They are read in batches when meta-steps are fast, so that the host neither waits for each nor reads each.
"""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from meta_train.meta_update import MetaStepInfo
from meta_train.runs.run_store import append_rows

# A signal is answered between two reads, so slow meta-steps are read one at a time.
_SLOW_SECONDS, _BATCH = 0.1, 10

Row = dict[str, Any]
"""A row of metrics.jsonl: numbers by name, None where a number is not finite."""


class MetricsLog:
    """Collects the diagnostics of a run of meta-steps.

    Attributes:
      elapsed: seconds of meta-training up to the last row, over all starts of the run.
    """

    def __init__(
        self,
        path: Path | None,
        step: int,
        elapsed: float,
        *,
        reads_each: bool = False,
        watch: Callable[[Row], None] = lambda row: None,
    ) -> None:
        """Starts behind meta-step `step`.

        Args:
          path: file to append to; None for none.
          step: meta-steps done.
          elapsed: seconds they took.
          reads_each: read every meta-step as soon as it is done, however fast they are.
          watch: is called with every row, in their order.
        """
        self.elapsed = elapsed
        self._path = path
        self._step = step
        self._pending: list[tuple[MetaStepInfo, Mapping[str, float]]] = []
        self._batch = 1
        self._reads_each = reads_each
        self._watch = watch
        self._started = time.perf_counter()

    def add(self, info: MetaStepInfo, more: Mapping[str, float] | None = None) -> None:
        """Takes the diagnostics of the next meta-step, which may still be running, and further numbers for its row."""
        self._pending.append((info, more or {}))

    @property
    def full(self) -> bool:
        """Whether it is time to `write`."""
        return len(self._pending) >= self._batch

    def write(self, *, sync: bool = False) -> MetaStepInfo | None:
        """Waits for the collected meta-steps and appends their rows.

        Args:
          sync: wait until the disk has them.

        Returns:
          the last one's diagnostics, as numpy; None if there are none.
        """
        infos = jax.device_get([info for info, _ in self._pending])
        now = time.perf_counter()
        seconds = (now - self._started) / max(1, len(infos))
        rows = []
        for info, (_, more) in zip(infos, self._pending, strict=True):
            self._step += 1
            self.elapsed += seconds
            timing = {"seconds": round(seconds, 6), "elapsed": round(self.elapsed, 6)}
            rows.append({"step": self._step, **_numbers(info, more), **timing})
        if self._path:
            append_rows(self._path, rows, sync=sync)
        if infos:
            self._batch = 1 if self._reads_each or seconds > _SLOW_SECONDS else _BATCH
            self._started = now
        self._pending = []
        for row in rows:
            self._watch(row)
        return infos[-1] if infos else None


def _numbers(info: MetaStepInfo, more: Mapping[str, float]) -> Row:
    """JSON has no NaN or infinity: they become None."""
    named = {
        **info.estimate._asdict(),
        "gradient_norm": info.gradient_norm,
        "num_skipped": info.num_skipped,
        "num_skipped_in_row": info.num_skipped_in_row,
        "learning_rate": info.learning_rate,
        **info.by_component,
    }
    values = {name: value.item() for name, value in named.items()} | dict(more)
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
