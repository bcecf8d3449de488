"""What command lines have in common: flags into dataclasses by tyro, and one line for a mistake.

No JAX here, so that `--help` answers without it.
"""

import contextlib
import dataclasses
import difflib
import io
import itertools
import re
import sys
import traceback
import typing
from collections.abc import Callable
from typing import Any, TypeVar

import tyro

T = TypeVar("T")
_POSITIONAL = typing.get_args(tyro.conf.Positional[int])[1:]


def parse_command(commands: dict[str, Any], program: str, description: str | None, arguments: list[str]) -> Any:
    """The command of the arguments, an instance of one of `commands`.

    Args:
      commands: dataclass by subcommand.
      program: how it is called, e.g. "python -m eval".
      description: for --help.
      arguments: of the command line.

    Raises:
      ValueError: an unknown command or flag, or a value of the wrong type.
      SystemExit: with code 0 after --help.
    """
    if arguments and not arguments[0].startswith("-"):
        if arguments[0] not in commands:
            close = difflib.get_close_matches(arguments[0], commands, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ValueError(f"unknown command {arguments[0]!r}: {hint}use {', '.join(commands)}")
        program_of_flags = f"{program} {arguments[0]}"
        check_flags(flags_of(commands[arguments[0]]), program_of_flags, arguments[1:])
    else:
        program_of_flags = program

    def parse():
        return tyro.extras.subcommand_cli_from_dict(commands, prog=program, description=description, args=arguments)

    return _in_one_line(parse, program_of_flags)


def parse_flags(default: T, program: str, description: str | None, arguments: list[str], registry: Any = None) -> T:
    """A frozen dataclass with what the flags change.

    Args:
      default: the values of the fields that no flag names.
      program, description, arguments: as in `parse_command`.
      registry: tyro's, for fields of types that it does not know.

    Raises:
      ValueError, SystemExit: as `parse_command`.
    """
    check_flags(flags_of(type(default)), program, arguments)

    def parse():
        return tyro.cli(
            type(default), default=default, args=arguments, prog=program, description=description, registry=registry
        )

    return _in_one_line(parse, program)


def flag(field: str) -> str:
    """The command-line flag of a field."""
    return "--" + field.replace("_", "-")


def flags_of(kind: type) -> list[str]:
    """The flags of a dataclass, and of the groups of flags that are its fields."""
    hints = typing.get_type_hints(kind, include_extras=True)
    found = []
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(field.default):
            found += flags_of(type(field.default))
        elif not set(getattr(hints[field.name], "__metadata__", ())) & set(_POSITIONAL):
            found += [flag(field.name), *([flag(f"no_{field.name}")] if hints[field.name] is bool else [])]
    return found


def check_flags(known: list[str], program: str, arguments: list[str]) -> None:
    """ValueError for a flag that there is not, naming the nearest one that there is."""
    for argument in arguments:
        name = argument.partition("=")[0].replace("_", "-")
        if name.startswith("--") and name not in (*known, "--help"):
            meant = re.sub(r"(?<=-)lr(?=-|$)", "learning-rate", name)
            within = [flag for flag in known if len(meant) > 5 and meant[2:] in flag]
            close = within or difflib.get_close_matches(meant, known, n=1, cutoff=0.7)
            hint = f"did you mean {close[0]}? " if close else ""
            raise ValueError(f"{name}: unknown flag; {hint}'{program} --help' lists them all")


def one_line(message: str) -> str:
    """What tyro says between its title and the first rule below, whether or not it draws a frame."""
    lines = [re.sub("[│╭╮╰╯]", " ", line).strip() for line in message.splitlines()]
    body = [line for line in lines if line][1:]
    body = body[1:] if body and _is_rule(body[0]) else body
    text = " ".join(" ".join(itertools.takewhile(lambda line: not _is_rule(line), body)).split())
    text = re.sub(r"invalid literal for int\(\) with base 10: ('.*')", r"\1 is no whole number", text)
    text = re.sub(r"could not convert string to float: ('.*')", r"\1 is no number", text)
    text = re.sub(r"(Perhaps you meant: [\w-]+).*| Got errors:.*| \(required\)", r"\1", text)
    return text.replace("{None}|", "") or "bad command line"


def _is_rule(line: str) -> bool:
    return set(line) <= set("-─")


def fail(program: str, error: object, code: int) -> int:
    """Prints one line on standard error; returns the exit code."""
    print(f"{program}: error: {' '.join(str(error).split())}", file=sys.stderr)
    return code


def fail_in_user_code(program: str, error: BaseException) -> int | None:
    """Prints the lines of a user's own code where an error happened, and one line that names the deepest of them;
    returns the exit code, or None for an error that passed through none."""
    from learned_opt.user_code import failure_in_user_code

    failure = failure_in_user_code(error)
    if failure is None:
        return None
    if failure.place in str(error):
        return fail(program, error, 2)
    print("".join(traceback.format_list(failure.frames)), end="", file=sys.stderr)
    return fail(program, f"{failure.place}: {type(failure.error).__name__}: {failure.error}", 2)


def _in_one_line(parse: Callable[[], T], program: str) -> T:
    """What `parse` returns; what tyro prints of a mistake as a ValueError of one line."""
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            return parse()
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise ValueError(f"{one_line(messages.getvalue())}; see {program} --help") from None
