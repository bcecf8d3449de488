"""Diagnostics of meta-steps on their way from the device to metrics.jsonl.

They are read in batches when meta-steps are fast, so that the host neither waits for each nor reads
each.
"""

import math
import time
from pathlib import Path
from typing import Any

import jax

from meta_train.runs.run_store import append_rows
from meta_train.trainer import TrainerInfo

# A signal is answered between two reads, so slow meta-steps are read one by one.
_SLOW_SECONDS, _BATCH = 0.1, 10


class MetricsLog:
    """Collects the diagnostics of a run of meta-steps.

    Attributes:
      elapsed: seconds of meta-training up to the last row, over all starts of the run.
    """

    def __init__(self, path: Path | None, step: int, elapsed: float, *, one_by_one: bool = False) -> None:
        """Appends to `path`, if there is one; `one_by_one`: reads each meta-step, however fast they are."""
        self.elapsed = elapsed
        self._path = path
        self._step = step
        self._pending: list[TrainerInfo] = []
        self._batch = 1
        self._one_by_one = one_by_one
        self._started = time.perf_counter()

    def add(self, info: TrainerInfo) -> None:
        """Takes the diagnostics of the next meta-step, which may still be running."""
        self._pending.append(info)

    @property
    def full(self) -> bool:
        """Whether it is time to `write`."""
        return len(self._pending) >= self._batch

    def write(self, *, sync: bool = False) -> TrainerInfo | None:
        """Waits for the collected meta-steps and appends their rows.

        Args:
          sync: wait until the disk has them.

        Returns:
          the last one's diagnostics, as numpy; None if there are none.
        """
        infos = jax.device_get(self._pending)
        now = time.perf_counter()
        seconds = (now - self._started) / max(1, len(infos))
        rows = []
        for info in infos:
            self._step += 1
            self.elapsed += seconds
            timing = {"seconds": round(seconds, 6), "elapsed": round(self.elapsed, 6)}
            rows.append({"step": self._step, **_numbers(info), **timing})
        if self._path:
            append_rows(self._path, rows, sync=sync)
        if infos:
            self._batch = 1 if self._one_by_one or seconds > _SLOW_SECONDS else _BATCH
            self._started = now
        self._pending = []
        return infos[-1] if infos else None


def _numbers(info: TrainerInfo) -> dict[str, Any]:
    """JSON has no NaN or infinity: they become null."""
    named = info._asdict() | (info.details or {})
    values = {name: value.item() for name, value in named.items() if name != "details"}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
