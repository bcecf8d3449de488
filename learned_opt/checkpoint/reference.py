"""Checkpoints by reference: `FILE_OR_NAME[,architecture=my_opt.py:my_lopt]`, as command lines name them.

A file never runs code, so one whose architecture is the user's own comes with the function that builds it.
"""

from __future__ import annotations

import os

from learned_opt.architectures import ARCHITECTURES
from learned_opt.base import LearnedOptimizer
from learned_opt.checkpoint.checkpoint import Checkpoint, load_checkpoint
from learned_opt.checkpoint.rebuilding import Architectures
from learned_opt.names import parse, resolve


def read_checkpoint(reference: str | os.PathLike[str]) -> Checkpoint:
    """The checkpoint that a reference names.

    Args:
      reference: file, folder or pretrained name, and behind a comma, for an architecture of one's own,
        `architecture=module:function` or `architecture=file.py:function`.

    Raises:
      FileNotFoundError: no such checkpoint.
      ValueError: a damaged one, one of an unknown architecture, or a reference that cannot be resolved.
    """
    return load_checkpoint(*path_and_architectures(reference))


def path_and_architectures(reference: str | os.PathLike[str]) -> tuple[str, Architectures | None]:
    """What `load_checkpoint` takes, for a reference.

    Raises:
      ValueError: the function cannot be resolved; what it builds is checked where it is called.
    """
    path, architecture = split_reference(reference)
    if architecture is None:
        return path, None
    build = resolve(architecture, ARCHITECTURES, "architecture")

    def built(**arguments) -> LearnedOptimizer:
        made = build(**arguments)
        if not isinstance(made, LearnedOptimizer):
            raise ValueError(f"architecture={architecture!r} returned {type(made).__name__}: return a LearnedOptimizer")
        return made

    # Whatever name the file's config has for it.
    own = getattr(build, "__name__", architecture.rpartition(":")[2])
    return path, {own: built}


def split_reference(reference: str | os.PathLike[str]) -> tuple[str, str | None]:
    """The file or name of a reference, and its architecture."""
    text = os.fspath(reference)
    if ",architecture=" not in text:
        return text, None
    target, arguments = parse(text)
    for field in arguments:
        if field != "architecture":
            raise ValueError(f"checkpoint {text!r}: {field!r} is unknown; use architecture=file.py:function")
    return target, str(arguments["architecture"])
