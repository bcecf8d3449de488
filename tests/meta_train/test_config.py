"""Components of a mixture: text, JSON, what each inherits, and names."""

import dataclasses
import json

import pytest

from learned_opt.architectures import ARCHITECTURES
from meta_train.component import Component, component_text, parse_component
from meta_train.config import SINGLE_MACHINE, MetaTrainConfig, from_json, single_runs, to_json, validate
from meta_train.config_rules import CHOICES, NOMINALS_OF
from meta_train.presets import PRESETS

COMPONENTS = (
    Component("fmnist8_mlp32", num_workers=4, local_learning_rate=0.25),
    Component("fmnist8_mlp32", weight=2.5, local_optimizer="adam", objective="final"),
    Component("fmnist8_mlp32", name="third", truncation_length=20, min_unroll_length=20, max_unroll_length=100),
)
MIXTURE = MetaTrainConfig(optimizer="lopt_a", components=COMPONENTS, components_per_step=2)


@pytest.mark.parametrize("component", COMPONENTS)
def test_text_of_a_component_is_read_back(component):
    assert parse_component(component_text(component)) == component


@pytest.mark.parametrize("config", [MIXTURE, *PRESETS.values()], ids=lambda config: config.preset)
def test_json_is_read_back(config):
    assert from_json(json.loads(json.dumps(to_json(config))), "config.json") == config


def test_json_of_an_older_version_has_the_defaults():
    values = to_json(MetaTrainConfig(seed=5))
    for name in ("components", "local_optimizer", "estimator"):
        del values[name]
    assert from_json(values, "config.json") == MetaTrainConfig(seed=5)


@pytest.mark.parametrize(
    ("components", "message"),
    [
        ("fmnist8_mlp32", "components: 'fmnist8_mlp32' is not a list of objects"),
        (["fmnist8_mlp32"], "is not a list of objects"),
        ([{"num_workers": 4}], "has no task"),
        ([{"task": "fmnist8_mlp32", "workers": 4}], "field 'workers' is unknown"),
        ([{"task": "fmnist8_mlp32", "num_workers": "4"}], "num_workers: '4' is not of type"),
        ([{"task": "fmnist8_mlp32", "weight": True}], "weight: True is not of type float"),
    ],
)
def test_odd_json(components, message):
    with pytest.raises(ValueError, match=message):
        from_json(to_json(MIXTURE) | {"components": components}, "config.json")


def test_single_runs_inherit_what_a_component_leaves_out():
    validate(MIXTURE)
    runs = single_runs(MIXTURE)
    assert list(runs) == ["fmnist8_mlp32_k4_h4", "fmnist8_mlp32_k8_h4", "third"]
    plain = dataclasses.replace(MIXTURE, components=())
    assert runs["fmnist8_mlp32_k4_h4"] == dataclasses.replace(plain, num_workers=4, local_learning_rate=0.25)
    assert runs["fmnist8_mlp32_k8_h4"] == dataclasses.replace(plain, local_optimizer="adam", objective="final")
    assert single_runs(plain) == {"fmnist8_mlp32": plain}


def test_a_task_that_occurs_once_names_its_component():
    config = dataclasses.replace(MIXTURE, components=(COMPONENTS[0],), components_per_step=0)
    assert list(single_runs(config)) == ["fmnist8_mlp32"]


def test_the_library_knows_the_same_optimizers():
    assert set(SINGLE_MACHINE) == {name for name, build in ARCHITECTURES.items() if build().reads == "gradient"}
    assert set(ARCHITECTURES) == set(NOMINALS_OF) == set(CHOICES["optimizer"])


def test_components_of_an_optimizer_tied_to_k():
    config = dataclasses.replace(MIXTURE, optimizer="lagg_a")
    with pytest.raises(ValueError, match="fmnist8_mlp32_k4_h4 has 4 workers, a lagg_a for 8 .* use --optimizer lopt_a"):
        validate(config)
    validate(dataclasses.replace(config, components=COMPONENTS[1:]))
