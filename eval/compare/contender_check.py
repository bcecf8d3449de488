"""Checks a contender of a user's where it enters, before anyone trains."""

from typing import Any

from eval.compare.contenders import Contender
from eval.compare.grids import GridAxis, settings
from learned_opt.base import LocalAlgorithm


def check_contender(value: Any) -> None:
    """Refuses what cannot take part; its algorithm is made once, at the first setting of its grid.

    Raises:
      ValueError: saying what of it to change.
    """
    if not isinstance(value, Contender):
        call = "call it with the protocol; " if callable(value) else ""
        raise ValueError(f"contenders: {str(value)[:60]}: {call}use an eval.compare.contenders.Contender")
    where = f"contender {value.name!r}"
    for field, axis in value.grid.items():
        if not isinstance(axis, GridAxis):
            raise ValueError(f"{where}: grid[{field!r}]={axis!r}: use eval.compare.grids.GridAxis((0.1, 0.2, 0.4))")
    setting = settings(value.grid)[0]
    try:
        made = value.make(setting)
    except KeyError as error:
        if error.args[:1] and error.args[0] in setting:
            raise
        raise ValueError(f"{where}: its make wants {error}, its grid has {', '.join(setting) or 'nothing'}") from error
    if not isinstance(made, LocalAlgorithm):
        raise ValueError(
            f"{where}: its make returns {type(made).__name__}: return a learned_opt.LocalAlgorithm, or use "
            "eval.compare.contenders.contender for an optax transform"
        )
