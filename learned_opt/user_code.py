"""Where in a user's own code an error happened, for messages on the command line.

A user's code is what lies neither in the folders of this project nor in an installed package nor in Python's library.
"""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path
from typing import NamedTuple

_ROOT = Path(__file__).resolve().parent.parent
_OURS = [_ROOT / name for name in ("learned_opt", "tasks", "eval", "meta_train", "tests")]
_LIBRARY = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")]


class Failure(NamedTuple):
    """An error in a user's code.

    Attributes:
      error: what was raised there; of a chain of causes the first that passed through a user's code.
      frames: from the user's first line on, without those of installed packages.
      place: the deepest of the user's lines, as "my_task.py, line 17, in loss".
    """

    error: BaseException
    frames: list[traceback.FrameSummary]
    place: str


def failure_in_user_code(error: BaseException) -> Failure | None:
    """Where in a user's code an error, or what it was raised from, happened; None if it passed through none."""
    cause: BaseException | None = error
    while cause is not None:
        frames = [frame for frame in traceback.extract_tb(cause.__traceback__) if not _is_installed(frame)]
        own = [i for i, frame in enumerate(frames) if not _is_in(frame, _OURS)]
        if own:
            deepest = frames[own[-1]]
            function = "" if deepest.name == "<module>" else f", in {deepest.name}"
            return Failure(cause, frames[own[0] :], f"{deepest.filename}, line {deepest.lineno}{function}")
        cause = cause.__cause__
    return None


def _is_installed(frame: traceback.FrameSummary) -> bool:
    is_code = frame.filename.startswith("<")
    return is_code or "site-packages" in Path(frame.filename).parts or _is_in(frame, _LIBRARY)


def _is_in(frame: traceback.FrameSummary, folders: list[Path]) -> bool:
    file = Path(frame.filename).resolve()
    return any(file.is_relative_to(folder) for folder in folders)
