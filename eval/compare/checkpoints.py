"""Checkpoints as contenders are named: `[LABEL=]FILE_OR_NAME[,architecture=my_opt.py:my_lopt]`."""

import os

from learned_opt.checkpoint.reference import read_checkpoint as read_checkpoint
from learned_opt.checkpoint.reference import split_reference as split_reference


def split_label(reference: str | os.PathLike[str]) -> tuple[str, str]:
    """(label, reference) of `LABEL=REFERENCE`; an empty label where there is none."""
    text = os.fspath(reference)
    label, equals, rest = text.partition("=")
    return (label, rest) if equals and "," not in label else ("", text)
