"""Flags into settings: tyro over the frozen dataclasses, every mistake in one line.

No JAX here but where a reference is looked up: `--help` answers without it.
"""

from eval.machine.command_line import parse_flags
from meta_train.component import Component, component_text, parse_component
from meta_train.config import MetaTrainConfig

PROGRAM = "python -m meta_train"
COMMANDS = ("resume", "launch", "plan", "list")


class UsageError(Exception):
    """A mistake on the command line; no ValueError, in whose place tyro puts a text of its own."""


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
      ValueError: no such preset, or a flag that is unknown or has a value of another type.
      UsageError: a component that is none.
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
    return parse_flags(default, f"{PROGRAM} {preset}", description, arguments, registry)


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


def _component(arguments: list[str]) -> Component:
    try:
        return parse_component(arguments[0])
    except ValueError as error:
        raise UsageError(str(error)) from None
