"""Configurations: text and JSON of components, what each inherits, names, and settings of earlier versions."""

import dataclasses
import json

import pytest

from meta_train.component import Component, component_text, parse_component
from meta_train.config import MetaTrainConfig, component_runs, to_json
from meta_train.config_checks import RANGES, validate
from meta_train.presets import PRESETS
from meta_train.stored_config import config_from_values, from_json

COMPONENTS = (
    Component("fmnist8_mlp32", num_workers=4, local_optimizer="sgd,learning_rate=0.25"),
    Component("fmnist8_mlp32", weight=2.5, local_optimizer="adam,learning_rate=0.01,b1=0.8", objective="final"),
    Component("fmnist8_mlp32", name="third", truncation_length=20, min_unroll_length=20, max_unroll_length=100),
)
MIXTURE = MetaTrainConfig(optimizer="lopt_a", components=COMPONENTS, components_per_step=2)


@pytest.mark.parametrize("component", [*COMPONENTS, Component("tasks.py:digits,width=3,names=('a', 'b')", sigma=0.1)])
def test_text_of_a_component_is_read_back(component):
    assert parse_component(component_text(component)) == component


@pytest.mark.parametrize("local", ["(adam,learning_rate=0.1)", "[adam,learning_rate=0.1]", "'adam,learning_rate=0.1'"])
def test_brackets_and_quotes_hold_what_has_commas(local):
    component = parse_component(f'"my_tasks.py:digits,width=64", local_optimizer={local}, num_workers=4')
    assert component == Component(
        "my_tasks.py:digits,width=64", num_workers=4, local_optimizer="adam,learning_rate=0.1"
    )


@pytest.mark.parametrize("config", [MIXTURE, *(preset() for preset in PRESETS.values())], ids=lambda c: c.preset)
def test_json_is_read_back(config):
    assert from_json(json.loads(json.dumps(to_json(config))), "config.json") == config


def test_json_without_a_field_has_its_default():
    values = to_json(MetaTrainConfig(seed=5))
    for name in ("components", "local_optimizer", "estimator"):
        del values[name]
    assert from_json(values, "config.json") == MetaTrainConfig(seed=5)


FORMER = {
    "optimizer": "lopt_a",
    "nominal": "average",
    "hidden_size": 8,
    "hidden_layers": 1,
    "local_optimizer": "sgd",
    "local_learning_rate": 0.25,
    "final_sigma": None,
    "sign_scale": None,
    "max_difference": None,
    "accumulated_steps": 1,
    "component_gradients": "mean",
    "chunk": 0,
    "reduction": "deterministic",
}
"""What a version before references wrote, in the fields that are no more."""


def test_settings_of_an_earlier_version():
    component = {"task": "fmnist8_mlp32", "local_optimizer": "adam", "local_learning_rate": None, "num_workers": 4}
    other = {"task": "fmnist8_cnn", "local_optimizer": None, "local_learning_rate": None}
    config = from_json({**FORMER, "seed": 3, "components": [component, other]}, "config.json")
    assert config == MetaTrainConfig(
        seed=3,
        optimizer="lopt_a,nominal=average,hidden_size=8,hidden_layers=1",
        local_optimizer="sgd,learning_rate=0.25",
        components=(
            Component("fmnist8_mlp32", num_workers=4, local_optimizer="adam,learning_rate=0.25"),
            Component("fmnist8_cnn"),
        ),
    )
    renamed = config_from_values({**FORMER, "local_optimizer": "rmsprop"})
    assert renamed.local_optimizer == "adam_b1_0,learning_rate=0.25"


@pytest.mark.parametrize(
    "field, value",
    [
        ("final_sigma", 0.1),
        ("sign_scale", 1.0),
        ("accumulated_steps", 2),
        ("component_gradients", "clipped"),
        ("chunk", 4),
        ("reduction", "fast"),
    ],
)
def test_settings_that_are_gone_are_refused_where_they_were_in_use(field, value):
    with pytest.raises(ValueError, match=f"config.json: field '{field}' is gone and was in use"):
        from_json({**FORMER, field: value}, "config.json")


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize(
    ("components", "message"),
    [
        ("fmnist8_mlp32", "components='fmnist8_mlp32': use a list of objects"),
        (["fmnist8_mlp32"], "use a list of objects"),
        ([{"num_workers": 4}], "has no task"),
        ([{"task": "fmnist8_mlp32", "num_worker": 4}], "'num_worker' is unknown: did you mean 'num_workers'"),
        ([{"task": "fmnist8_mlp32", "num_workers": "4"}], "num_workers='4': use a value of type"),
        ([{"task": "fmnist8_mlp32", "weight": True}], "weight=True: use a value of type float"),
    ],
)
def test_wrong_json(components, message):
    with pytest.raises(ValueError, match=message):
        from_json(to_json(MIXTURE) | {"components": components}, "config.json")


def test_runs_inherit_what_a_component_leaves_out():
    validate(MIXTURE)
    runs = component_runs(MIXTURE)
    assert list(runs) == ["fmnist8_mlp32_k4_h4", "fmnist8_mlp32_k8_h4", "third"]
    plain = dataclasses.replace(MIXTURE, components=())
    assert runs["fmnist8_mlp32_k4_h4"] == dataclasses.replace(
        plain, num_workers=4, local_optimizer="sgd,learning_rate=0.25"
    )
    assert runs["fmnist8_mlp32_k8_h4"] == dataclasses.replace(
        plain, local_optimizer="adam,learning_rate=0.01,b1=0.8", objective="final"
    )
    assert component_runs(plain) == {"fmnist8_mlp32": plain}


def test_a_task_that_occurs_once_names_its_component():
    config = dataclasses.replace(MIXTURE, components=(COMPONENTS[0],), components_per_step=0)
    assert list(component_runs(config)) == ["fmnist8_mlp32"]
    config = dataclasses.replace(config, components=(Component("folder/my_tasks.py:digits,width=3"),))
    assert list(component_runs(config)) == ["my_tasks_digits"]


def test_every_number_has_a_range():
    numbers = {f.name for f in dataclasses.fields(MetaTrainConfig) if f.type in (int, float)}
    assert numbers == set(RANGES)


def test_components_of_an_optimizer_tied_to_k():
    config = dataclasses.replace(MIXTURE, optimizer="lagg_a")
    message = "fmnist8_mlp32_k4_h4: num_workers=4: use 8, which this lagg_a is tied to"
    with pytest.raises(ValueError, match=message):
        validate(config)
    validate(dataclasses.replace(config, components=COMPONENTS[1:]))
    validate(
        dataclasses.replace(config, optimizer="lagg_a,num_workers=4", components=COMPONENTS[:1], components_per_step=0)
    )
