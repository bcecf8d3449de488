"""One component of a mixture: a task family with its own workers, local steps, batch, local optimizer and lengths.

A field that is None takes the value of the run's configuration, so a component states only how it differs. On the
command line a component is `TASK[,FIELD=VALUE]...`. What has commas of its own stands in brackets or quotes:

    fmnist8_mlp32,num_local_steps=16,weight=0.5
    fmnist8_mlp32,local_optimizer=(adam,learning_rate=0.01)
    (my_tasks.py:digits,width=64),num_workers=4
"""

import dataclasses
import re
import typing
from typing import Any

_NAME = re.compile(r"[A-Za-z0-9_.\-]+")
_BRACKETS = {"(": ")", "[": "]", "'": "'", '"': '"'}


@dataclasses.dataclass(frozen=True)
class Component:
    """One family and its (K, H, B). Lengths are rounds; None takes the configuration's value.

    Attributes:
      task: a name in tasks.suites, or module:function, or file.py:function, with arguments.
      name: by which metrics and checkpoints call it; None: the task, with _k{K}_h{H} where two components share it.
      weight: of its meta-gradient; weights are divided by their sum.
      num_workers, num_local_steps, batch_size, local_optimizer, expert, num_tasks, truncation_length,
        min_unroll_length, max_unroll_length, meta_loss_split, objective, sigma: as in MetaTrainConfig.
    """

    task: str
    name: str | None = None
    weight: float = 1.0
    num_workers: int | None = None
    num_local_steps: int | None = None
    batch_size: int | None = None
    local_optimizer: str | None = None
    expert: str | None = None
    num_tasks: int | None = None
    truncation_length: int | None = None
    min_unroll_length: int | None = None
    max_unroll_length: int | None = None
    meta_loss_split: str | None = None
    objective: str | None = None
    sigma: float | None = None


OWN_FIELDS = ("name", "weight")
"""Fields that a configuration does not have."""
FIELDS = {field.name: field.type for field in dataclasses.fields(Component)}


def check_type(name: str, annotation: Any, value: Any) -> None:
    """ValueError when `value` is not of the type a field is annotated with; an int serves for a float."""
    allowed = typing.get_args(annotation) or (annotation,)
    allowed += (int,) if float in allowed else ()
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        wanted = getattr(annotation, "__name__", str(annotation))
        raise ValueError(f"{name}={value!r}: use a value of type {wanted}")


def check_component(component: Component) -> None:
    """Checks the types of a component's fields, and the values of its own.

    Raises:
      ValueError: "field=value: use ...".
    """
    for name, annotation in FIELDS.items():
        check_type(name, annotation, getattr(component, name))
    if not 0 < component.weight < float("inf"):
        raise ValueError(f"weight={component.weight}: use a positive finite number")
    if component.name is not None and not _NAME.fullmatch(component.name):
        raise ValueError(f"name={component.name!r}: use letters, digits, '_', '.' and '-' only")


def overrides(component: Component) -> dict[str, Any]:
    """The configuration fields that the component sets."""
    values = dataclasses.asdict(component)
    return {name: value for name, value in values.items() if name not in OWN_FIELDS and value is not None}


def component_from_values(values: dict[str, Any]) -> Component:
    """A component from the values of its fields.

    Raises:
      ValueError: an unknown field or a missing task.
    """
    from learned_opt.names import hint

    for name in values:
        if name not in FIELDS:
            raise ValueError(f"component field {name!r} is unknown: {hint(name, FIELDS)}")
    if "task" not in values:
        raise ValueError("a component has no task: begin it with one, e.g. fmnist8_mlp32,num_workers=4")
    return Component(**values)


def parse_component(text: str) -> Component:
    """Reads `TASK[,FIELD=VALUE]...`.

    Raises:
      ValueError: no task, an unknown field, or a value that is no number where one is needed.
    """
    from learned_opt.names import parse

    try:
        own_task, rest = _bracketed(text.strip())
        task, values = parse(rest)
        values = {name: _unwrapped(value) if isinstance(value, str) else value for name, value in values.items()}
        component = component_from_values({"task": own_task or task} | values)
        check_component(component)
    except ValueError as error:
        raise ValueError(f"components: {text!r}: {error}") from None
    return component


def component_text(component: Component) -> str:
    """The text that `parse_component` reads as this component."""
    parts = [_wrapped(component.task)]
    for field in dataclasses.fields(component)[1:]:
        value = getattr(component, field.name)
        if value != field.default:
            parts.append(f"{field.name}={_wrapped(value) if isinstance(value, str) else value}")
    return ",".join(parts)


def _bracketed(text: str) -> tuple[str, str]:
    """The task that stands in brackets at the beginning ("" if none does), and the text with a name in its place."""
    closing, depth = _BRACKETS.get(text[:1]), 0
    for position, character in enumerate(text if closing else ""):
        depth += (character == text[0]) - (character == closing and position > 0)
        # Quotes open and close with the same character, which counts for nothing beyond the first.
        if position and (depth == 0 if closing != text[0] else character == closing):
            return text[1:position].strip(), f"task{text[position + 1 :]}"
    return "", text


def _wrapped(text: str) -> str:
    return f"({text})" if "," in text else text


def _unwrapped(text: str) -> str:
    return text[1:-1].strip() if len(text) > 1 and _BRACKETS.get(text[0]) == text[-1] else text
