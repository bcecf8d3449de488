"""Signs of life of a launched process, as a file: the meta-steps done so far, or "done" after the last one.

The launcher sees a rank that hangs (in a collective, on a disk, stopped by a signal) by a file that no longer changes;
a rank sees that its launcher is gone by having another parent. Nothing else passes between them but signals.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path

HEARTBEAT = "META_TRAIN_HEARTBEAT"
LAUNCHER = "META_TRAIN_LAUNCHER"
_DONE = "done"


class Heartbeat:
    """The writing side; without a launcher it does nothing."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        path = environment.get(HEARTBEAT)
        self._path = Path(path) if path else None
        self._launcher = int(environment.get(LAUNCHER, 0))

    def beat(self, step: int) -> None:
        """Says that `step` meta-steps are done."""
        self._write(str(step))

    def done(self) -> None:
        """Says that the last meta-step is done, and that no more signs of life follow."""
        self._write(_DONE)

    @property
    def orphaned(self) -> bool:
        """Whether the launcher has ended and left this process behind."""
        return self._launcher > 0 and os.getppid() != self._launcher

    def _write(self, text: str) -> None:
        if self._path:
            self._path.write_text(text)


class Watch:
    """The watching side: how long a process has shown no progress.

    Args:
      path: its heartbeat file.
      start_seconds: allowed before the first meta-step, which holds the compilation.
      hang_seconds: allowed from then on between two meta-steps.
    """

    def __init__(self, path: Path, start_seconds: float, hang_seconds: float) -> None:
        self._path = path
        self._start_seconds, self._hang_seconds = start_seconds, hang_seconds
        self._seen = ""
        self._since = time.monotonic()

    def hung(self) -> str:
        """What is wrong, or "" while all is well."""
        try:
            text = self._path.read_text()
        except FileNotFoundError:
            text = ""
        now = time.monotonic()
        if text != self._seen:
            self._seen, self._since = text, now
        limit = self._hang_seconds if text else self._start_seconds
        if text == _DONE or now - self._since <= limit:
            return ""
        return f"no meta-step in {limit:g} s" + (f" after meta-step {text}" if text else " since its start")
