"""Flags into settings: tyro over the frozen dataclasses, every mistake in one line.

No JAX here but where a reference is looked up: `--help` answers without it.
"""

import contextlib
import dataclasses
import difflib
import io
import re
from typing import Any, TypeVar

from meta_train.component import Component, component_text, parse_component
from meta_train.config import MetaTrainConfig

T = TypeVar("T")
PROGRAM = "python -m meta_train"
COMMANDS = ("resume", "launch", "plan", "list")


class UsageError(Exception):
    """A mistake on the command line."""


def flag(field: str) -> str:
    """The command-line flag of a field."""
    return "--" + field.replace("_", "-")


def without_option(arguments: list[str], option: str) -> tuple[list[str], str | None]:
    """The arguments less `option` and its value, and that value; None if it is not there."""
    rest, found = [], None
    remaining = iter(arguments)
    for argument in remaining:
        name, equals, value = argument.partition("=")
        if name == option:
            found = value if equals else next(remaining, "")
        else:
            rest.append(argument)
    return rest, found


def parse_preset(preset: str, arguments: list[str]) -> MetaTrainConfig:
    """The settings of a preset, with what the flags change; unchecked.

    Raises:
      UsageError: a flag that is unknown or has a value of another type.
      ValueError: no such preset.
      SystemExit: after `--help`.
    """
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec

    default, description = _find_preset(preset)
    registry = ConstructorRegistry()
    components = PrimitiveConstructorSpec(
        nargs=1,
        metavar="TASK[,FIELD=VALUE]...",
        instance_from_str=_component,
        is_instance=lambda instance: isinstance(instance, Component),
        str_from_instance=lambda component: [component_text(component)],
    )
    registry.primitive_rule(lambda info: components if info.type is Component else None)
    return parse_flags(preset, default, arguments, description, registry)


def _find_preset(name: str) -> tuple[MetaTrainConfig, str | None]:
    """A preset's settings and its docstring; only one that is not built in needs more than a look into the table."""
    from meta_train.presets import PRESETS

    if name in PRESETS:
        return PRESETS[name](), PRESETS[name].__doc__
    from learned_opt.names import hint, resolve
    from meta_train.references import make

    if ":" not in name:
        raise ValueError(
            f"preset {name!r} is unknown: {hint(name, [*PRESETS, *COMMANDS])}, or module:function, or file.py:function"
        )
    function = resolve(name, PRESETS, "preset")
    return make(name, PRESETS, "preset", MetaTrainConfig), getattr(function, "func", function).__doc__


def parse_flags(command: str, default: T, arguments: list[str], description: str | None, registry: Any = None) -> T:
    """A frozen dataclass with what the flags change; arguments and errors as in `parse_preset`."""
    import tyro

    flags = [flag(field.name) for field in dataclasses.fields(default)]  # pyright: ignore[reportArgumentType]
    known = [*flags, "--no-reuse-run-dir", "--help"]
    for argument in arguments:
        name = argument.partition("=")[0].replace("_", "-")
        if name.startswith("--") and name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise UsageError(f"{name}: unknown flag; {hint}'{PROGRAM} {command} --help' lists them all")
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.cli(
                type(default),
                default=default,
                args=arguments,
                prog=f"{PROGRAM} {command}",
                description=description,
                registry=registry,
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(_first_line(errors.getvalue(), command)) from None


def _component(arguments: list[str]) -> Component:
    try:
        return parse_component(arguments[0])
    except ValueError as error:
        # tyro would put a text of its own in the place of a ValueError's.
        raise UsageError(str(error)) from None


def _first_line(text: str, command: str) -> str:
    """The message of tyro's framed error, in one line."""
    lines = [re.sub(r"^[│╭╰─\s]+|[│╮╯─\s]+$", "", line) for line in text.splitlines()]
    message = " ".join(lines[1:]).partition("Argument helptext")[0].partition("For full help")[0]
    return f"{message.strip()}; '{PROGRAM} {command} --help' lists the fields"
