"""Configurations as run folders keep them, those of earlier versions included.

Earlier versions had fields for what is now one reference with arguments, and fields that are gone. They are translated
where nothing is lost; a field that is gone and was in use is an error.
"""

from typing import Any

from meta_train.component import component_from_values
from meta_train.config import MIXTURES, MetaTrainConfig
from meta_train.config_checks import validate
from meta_train.references import NOTHING, Given

_FORMER_DEFAULTS: dict[str, Any] = {
    "final_sigma": None,
    "sign_scale": None,
    "max_difference": None,
    "accumulated_steps": 1,
    "component_gradients": "mean",
    "chunk": 0,
    "reduction": "deterministic",
}
"""Fields that are gone, and the value with which they did nothing."""
_FORMER_OPTIMIZER = {"nominal": "momentum", "hidden_size": 32, "hidden_layers": 2}
_FORMER_LOCAL = {"local_optimizer": "sgd", "local_learning_rate": 0.5}
_FORMER_NAMES = {"rmsprop": "adam_b1_0"}


def from_json(values: dict[str, Any], source: str, given: Given = NOTHING) -> MetaTrainConfig:
    """The configuration that `meta_train.config.to_json` gave these values.

    Args:
      values: JSON values.
      source: where they come from, named in errors.
      given: what they name that was made in Python.

    Raises:
      ValueError: a field this version does not know, or a wrong value.
    """
    try:
        config = config_from_values(values)
        validate(config, given)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    return config


def config_from_values(values: dict[str, Any]) -> MetaTrainConfig:
    """The configuration of JSON values, unchecked but for names of fields."""
    values = _translated(values)
    mixtures = {}
    for name in MIXTURES:
        components = values.pop(name, ())
        if not isinstance(components, list | tuple) or not all(isinstance(c, dict) for c in components):
            raise ValueError(f"{name}={components!r}: use a list of objects")
        mixtures[name] = tuple(component_from_values(c) for c in components)
    known = MetaTrainConfig.__dataclass_fields__
    for name in values:
        if name not in known:
            raise ValueError(f"field {name!r} is unknown; use the version the run began with")
    return MetaTrainConfig(**values, **mixtures)


def _translated(values: dict[str, Any]) -> dict[str, Any]:
    values = dict(values)
    for name, harmless in _FORMER_DEFAULTS.items():
        if values.pop(name, harmless) != harmless:
            raise ValueError(f"field {name!r} is gone and was in use; use the version the run began with")
    if values.keys() & _FORMER_OPTIMIZER.keys():
        arguments = {name: values.pop(name, default) for name, default in _FORMER_OPTIMIZER.items()}
        texts = [f"{name}={value}" for name, value in arguments.items()]
        values["optimizer"] = ",".join([str(values.get("optimizer", "lagg_a")), *texts])
    whole = {name: values.get(name, default) for name, default in _FORMER_LOCAL.items()}
    if "local_learning_rate" in values:
        values["local_optimizer"] = _local_reference(whole)
        del values["local_learning_rate"]
    if isinstance(values.get("components"), list):
        values["components"] = [_translated_component(component, whole) for component in values["components"]]
    return values


def _translated_component(component: Any, whole: dict[str, Any]) -> Any:
    if not isinstance(component, dict) or "local_learning_rate" not in component:
        return component
    component = dict(component)
    own = {name: component.pop(name, None) for name in _FORMER_LOCAL}
    if any(value is not None for value in own.values()):
        component["local_optimizer"] = _local_reference(
            {name: whole[name] if value is None else value for name, value in own.items()}
        )
    return component


def _local_reference(fields: dict[str, Any]) -> str:
    name = fields["local_optimizer"]
    return f"{_FORMER_NAMES.get(name, name)},learning_rate={fields['local_learning_rate']}"
