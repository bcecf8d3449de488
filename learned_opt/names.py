"""The one way by which users name anything: an optimizer, a task, an estimator, a contender, a protocol, a preset.

    lopt_a                              a name of a table
    lopt_a,hidden_size=8                the same with arguments of its function
    my_package.mine:make,hidden_size=8  a function of a module that can be imported
    path/to/mine.py:make                a function of a file

A name in a file that is loaded (a checkpoint's architecture) is looked up in a table and nowhere else: files run no
code.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from learned_opt.user_code import failure_in_user_code


class Reference(NamedTuple):
    """A reference taken apart: `target` is a name, `module:function` or `file.py:function`."""

    target: str
    arguments: dict[str, Any]


_SHORT_LIST = 20
"""Names that are all listed although one of them is near."""


def hint(value: Any, choices: Iterable[str]) -> str:
    """ "did you mean 'lopt_a'? use one of lopt_a, lagg_a", the first part only where something is near; where it is, a
    long list is left out."""
    choices = list(choices)
    within = [choice for choice in choices if len(str(value)) > 3 and str(value) in choice]
    close = within or difflib.get_close_matches(str(value), choices, n=1, cutoff=0.5)
    if not close:
        return f"use one of {', '.join(choices)}"
    listed = (
        f"one of {', '.join(choices)}" if len(choices) <= _SHORT_LIST else f"it, or one of {len(choices) - 1} others"
    )
    return f"did you mean {close[0]!r}? use {listed}"


def parse(reference: str) -> Reference:
    """Takes `TARGET[,FIELD=VALUE]...` apart; values are Python literals, anything else is text.

    Raises:
      ValueError: no target, a part that is not FIELD=VALUE, or a field given twice.
    """
    target, *settings = _split(reference)
    if not target or "=" in target:
        raise ValueError(f"{reference!r} does not begin with a name; e.g. NAME or NAME,field=value")
    arguments: dict[str, Any] = {}
    for setting in settings:
        field, equals, value = setting.partition("=")
        field = field.strip()
        if not equals or not field.isidentifier():
            raise ValueError(f"{setting!r} in {reference!r} is not field=value; e.g. hidden_size=8")
        if field in arguments:
            raise ValueError(f"{field} occurs twice in {reference!r}; drop one")
        arguments[field] = _literal(value.strip())
    return Reference(target, arguments)


def resolve(reference: str, table: Mapping[str, Callable[..., Any]], what: str = "reference") -> Callable[..., Any]:
    """The function that a reference names, with the reference's arguments bound to it.

    Args:
      reference: see the module's docstring.
      table: functions by name.
      what: what is named, for errors, e.g. "optimizer".

    Raises:
      ValueError: nothing of that name, an argument the function does not take, or a module that cannot be imported; an
        error inside it is quoted with its own line.
    """
    try:
        target, arguments = parse(reference)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None
    if target in table:
        function = table[target]
    elif ":" in target:
        function = _imported(target, what)
    else:
        raise ValueError(
            f"{what}: {target!r} is unknown; {hint(target, table)}, or module:function, or file.py:function"
        )
    if not arguments:
        return function
    check_arguments(function, arguments, f"{what}: {target}")
    return functools.partial(function, **arguments)


def check_arguments(function: Callable[..., Any], arguments: Iterable[str], where: str) -> None:
    """ValueError, beginning with `where`, for an argument that the function does not take."""
    parameters = inspect.signature(function).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    for field in arguments:
        if field not in parameters:
            raise ValueError(f"{where} has no argument {field!r}; {hint(field, parameters)}")


def _imported(target: str, what: str) -> Callable[..., Any]:
    source, _, name = target.rpartition(":")
    if not source or not name:
        raise ValueError(f"{what}: {target!r}: name it as module:function or path/to/file.py:function")
    try:
        module = _load_file(Path(source)) if source.endswith(".py") else _import_module(source)
    except Exception as error:
        raise ValueError(f"{what}: {target!r}: {_with_line(error)}") from error
    if not hasattr(module, name):
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        # What the module has imported is no choice, unless it has nothing else.
        public = [key for key in public if getattr(vars(module)[key], "__module__", "") == module.__name__] or public
        raise ValueError(f"{what}: {target!r}: {source} has no {name!r}; {hint(name, public)}")
    function = getattr(module, name)
    if not callable(function):
        raise ValueError(f"{what}: {target!r} is a {type(function).__name__}; name a function that returns one")
    return function


def _import_module(name: str) -> Any:
    if "" not in sys.path:
        # The user's folder, as for `python -m`.
        sys.path.insert(0, "")
    return importlib.import_module(name)


def _load_file(path: Path) -> Any:
    """The module of a file, executed once a process."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    path = path.resolve()
    name = f"user_file:{path}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    # What lies beside the file can be imported by it.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _with_line(error: Exception) -> str:
    """The error in one line, with the place in the user's code where it happened."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {text}"
    failure = failure_in_user_code(error)
    return f"{failure.place}: {text}" if failure else text


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def _split(text: str) -> list[str]:
    """Parts between the commas that stand in no bracket and no quotes."""
    parts, depth, quote, part = [], 0, "", ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        else:
            depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0 and not quote:
            parts.append(part.strip())
            part = ""
        else:
            part += character
    return [*parts, part.strip()]
