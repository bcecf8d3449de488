"""Optimizers shipped with the library: `NAME.safetensors` beside this file, each with its model
card `NAME.md`."""

from __future__ import annotations

import difflib
from importlib.resources import files
from importlib.resources.abc import Traversable

_SUFFIX = ".safetensors"


def pretrained_names() -> list[str]:
    """Names that `learned_opt.load` accepts in place of a path, sorted."""
    entries = (entry.name for entry in files(__name__).iterdir())
    return sorted(name.removesuffix(_SUFFIX) for name in entries if name.endswith(_SUFFIX))


def find_pretrained(name: str) -> Traversable:
    """The shipped checkpoint called `name`.

    Raises:
      FileNotFoundError: for an unknown name, listing the known and the closest ones.
    """
    names = pretrained_names()
    if name in names:
        return files(__name__) / f"{name}{_SUFFIX}"
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise FileNotFoundError(
        f"{name}: neither a file nor a pretrained optimizer{hint} "
        f"(pretrained: {', '.join(names) or 'none in this version'})"
    )


def find_model_card(name: str) -> str | None:
    """Text of the model card of a pretrained optimizer; None where there is no such optimizer."""
    card = files(__name__) / f"{name}.md"
    return card.read_text() if name in pretrained_names() and card.is_file() else None
