"""What a user's reference makes: contenders, task families, suites, axes, protocols.

A reference is written as in `learned_opt.names`: NAME, `module:function` or `file.py:function`, with arguments.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from learned_opt.names import resolve

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def made_by(reference: str, table: Mapping[str, Callable[..., Any]], what: str, **offered: Any) -> Any:
    """What the function of a reference returns.

    Args:
      reference: names the function, and arguments of it.
      table: functions by name.
      what: what is named, for errors, e.g. "contender".
      **offered: filled in where the function has a parameter of that name.

    Raises:
      ValueError: nothing of that name, or an argument that is unknown or missing.
    """
    function = resolve(reference, table, what)
    parameters = inspect.signature(function).parameters
    given = {name: value for name, value in offered.items() if name in parameters}
    needed = [p.name for p in parameters.values() if p.default is p.empty and p.kind in _NAMED and p.name not in given]
    if needed:
        filled = f" (filled in: {', '.join(offered)})" if offered else ""
        raise ValueError(f"{what}: {reference!r} lacks {', '.join(needed)}: add ,{needed[0]}=VALUE{filled}")
    return function(**given)
