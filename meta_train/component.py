"""One component of a mixture: a task family with its own workers, local steps, batch, learning rate and lengths.

A field that is None takes the value of the run's configuration, so a component states only how it differs. On the
command line a component is `TASK[,FIELD=VALUE]...`, e.g. `fmnist8_mlp32,num_local_steps=16,weight=0.5`.
"""

import dataclasses
import re
from typing import Any

from meta_train.config_rules import check_type

_NAME = re.compile(r"[A-Za-z0-9_.\-]+")


@dataclasses.dataclass(frozen=True)
class Component:
    """One family and its (K, H, B). Lengths are rounds; None takes the configuration's value.

    Attributes:
      task: a name in tasks.suites.
      name: by which metrics and checkpoints call it; None: the task, with _k{K}_h{H} where two components share it.
      weight: of its meta-gradient; weights are divided by their sum.
      num_workers, num_local_steps, batch_size, local_optimizer, local_learning_rate, num_tasks, truncation_length,
        min_unroll_length, max_unroll_length, meta_loss_split, objective, sigma: as in MetaTrainConfig.
    """

    task: str
    name: str | None = None
    weight: float = 1.0
    num_workers: int | None = None
    num_local_steps: int | None = None
    batch_size: int | None = None
    local_optimizer: str | None = None
    local_learning_rate: float | None = None
    num_tasks: int | None = None
    truncation_length: int | None = None
    min_unroll_length: int | None = None
    max_unroll_length: int | None = None
    meta_loss_split: str | None = None
    objective: str | None = None
    sigma: float | None = None


OWN_FIELDS = ("name", "weight")
"""Fields that a configuration does not have."""
_FIELDS = {field.name: field.type for field in dataclasses.fields(Component)}


def check_component(component: Component) -> None:
    """Checks the types of a component's fields, and the values of its own.

    Raises:
      ValueError: "field: value ... fix".
    """
    for name, annotation in _FIELDS.items():
        value = getattr(component, name)
        check_type(name, annotation, value)
    if not 0 < component.weight < float("inf"):
        raise ValueError(f"weight: {component.weight} must be positive and finite; e.g. weight=1.0")
    if component.name is not None and not _NAME.fullmatch(component.name):
        raise ValueError(f"name: {component.name!r} may hold letters, digits, '_', '.' and '-' only")


def overrides(component: Component) -> dict[str, Any]:
    """The configuration fields that the component sets."""
    values = dataclasses.asdict(component)
    return {name: value for name, value in values.items() if name not in OWN_FIELDS and value is not None}


def component_from_values(values: dict[str, Any]) -> Component:
    """A component from the values of its fields.

    Raises:
      ValueError: an unknown field, a missing task, or a value of the wrong type.
    """
    for name in values:
        if name not in _FIELDS:
            raise ValueError(f"components: field {name!r} is unknown; use one of {', '.join(_FIELDS)}")
    if "task" not in values:
        raise ValueError("components: a component has no task; begin it with one, e.g. fmnist8_mlp32,num_workers=4")
    return Component(**values)


def parse_component(text: str) -> Component:
    """Reads `TASK[,FIELD=VALUE]...`.

    Raises:
      ValueError: no task, an unknown field, or a value that is no number where one is needed.
    """
    task, *settings = (part.strip() for part in text.split(","))
    values: dict[str, Any] = {"task": task} if task and "=" not in task else {}
    if not values:
        raise ValueError(f"components: {text!r} does not begin with a task; e.g. fmnist8_mlp32,num_workers=4")
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"components: {setting!r} in {text!r} is not FIELD=VALUE; e.g. num_workers=4")
        values[name] = _number_or_text(name, value, text)
    return component_from_values(values)


def component_text(component: Component) -> str:
    """The text that `parse_component` reads as this component."""
    parts = [component.task]
    for field in dataclasses.fields(component)[1:]:
        value = getattr(component, field.name)
        if value != field.default:
            parts.append(f"{field.name}={value}")
    return ",".join(parts)


def _number_or_text(name: str, value: str, text: str) -> Any:
    annotation = str(_FIELDS.get(name, "str"))
    kind = int if "int" in annotation else float if "float" in annotation else str
    try:
        return kind(value)
    except ValueError:
        raise ValueError(f"components: {name}={value} in {text!r} is not {kind.__name__}") from None
