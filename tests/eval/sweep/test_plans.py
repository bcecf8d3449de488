"""What suites and axes plan, who may take part, and what a card says about meta-training."""

import dataclasses

import jax
import numpy as np
import pytest

from eval.compare.learned import learned
from eval.sweep.axes import AXES, axis_family, axis_plan, meta_training_range
from eval.sweep.suite import SUITE_PROTOCOL, suite_families, suite_plan
from eval.sweep.sweep import cell_contenders
from learned_opt.architectures.lagg_a import lagg_a
from learned_opt.architectures.lopt_a import lopt_a
from learned_opt.checkpoint import save
from tests.eval.toy import TOY as TOY_PROTOCOL

TOY = dataclasses.replace(TOY_PROTOCOL, task="fmnist8_mlp32")


def checkpoint(path, lopt, **card):
    save(path, lopt, lopt.init(jax.random.key(0)), **card)
    return str(path)


def test_suites():
    plan = suite_plan("fmnist8_mlp32", dataclasses.replace(SUITE_PROTOCOL, num_local_steps=16))
    assert [cell.name for cell in plan.cells] == ["fmnist8_mlp32"]
    assert plan.cells[0].protocol.num_local_steps == 16 and plan.cells[0].protocol.task == "fmnist8_mlp32"
    assert "fmnist8_mlp32" in suite_families("all")


@pytest.mark.parametrize(
    ("suite", "message"),
    [
        ("fmnist8_mlp3", "did you mean 'fmnist8_mlp32'"),
        ("", "families separated"),
        ("fmnist8_mlp32,fmnist8_mlp32", "more"),
    ],
)
def test_odd_suites(suite, message):
    with pytest.raises(ValueError, match=message):
        suite_families(suite)


def test_axes_change_one_thing():
    protocol = dataclasses.replace(TOY, num_rounds=10, eval_every=5)
    for name, axis in AXES.items():
        plan = axis_plan(name, protocol)
        assert len(plan.cells) == len(axis.values)
        assert plan.label == axis.label
        for cell in plan.cells:
            if axis.field:
                assert getattr(cell.protocol, axis.field) == cell.value, name
            changed = {
                f.name for f in dataclasses.fields(TOY) if getattr(cell.protocol, f.name) != getattr(protocol, f.name)
            }
            assert changed <= ({axis.field, "eval_every"} if axis.field else set()), name


def test_longer_horizons_keep_the_number_of_points():
    plan = axis_plan("num_rounds", dataclasses.replace(TOY, num_rounds=100, eval_every=5))
    assert [cell.value for cell in plan.cells] == [50, 100, 200, 500, 1000]
    assert [c.protocol.num_rounds // c.protocol.eval_every for c in plan.cells[1:]] == [20] * 4


def test_width_and_depth_are_those_of_the_network():
    def shapes(name, value):
        cell = axis_plan(name, dataclasses.replace(TOY, task="fmnist8_mlp32"), values=(value,)).cells[0]
        family = axis_family(name)(cell)
        params = jax.eval_shape(lambda: family.task({}, family.data).init(jax.random.key(0)))
        return [params[layer]["kernel"].shape for layer in sorted(params)]

    assert shapes("width", 256) == [(64, 256), (256, 10)]
    assert shapes("depth", 3) == [(64, 32), (32, 32), (32, 32), (32, 10)]


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("wdth", (), "axis: 'wdth' is unknown; did you mean 'width'"),
        ("width", (1.5,), "whole numbers"),
        ("depth", (0,), "at least 1"),
        ("width", (2, 2), "twice"),
    ],
)
def test_odd_axes(name, values, message):
    with pytest.raises(ValueError, match=message):
        axis_plan(name, TOY, values=values)


def test_an_optimizer_tied_to_k_takes_part_where_it_can(tmp_path):
    tied = checkpoint(
        tmp_path / "tied.safetensors",
        lagg_a(num_workers=4, hidden_size=4),
        local_opt={"name": "sgd", "learning_rate": 0.5},
    )
    free = checkpoint(
        tmp_path / "free.safetensors", lopt_a(hidden_size=4), local_opt={"name": "sgd", "learning_rate": 0.5}
    )
    plan = axis_plan("num_workers", TOY, [f"tied={tied}", f"free={free}"], values=(2, 4), baselines=())
    names = [[c.name for c in cell_contenders(plan, cell)] for cell in plan.cells]
    assert names == [["free"], ["tied", "free"]]
    with pytest.raises(ValueError, match="tied .* serves none"):
        axis_plan("num_workers", TOY, [f"tied={tied}"], values=(2,))
    suite = suite_plan("fmnist8_mlp32", dataclasses.replace(TOY, num_workers=2), [f"tied={tied}"])
    with pytest.raises(ValueError, match="built for 4 workers"):
        cell_contenders(suite, suite.cells[0])


def test_two_contenders_of_one_name_are_refused(tmp_path):
    path = checkpoint(
        tmp_path / "a.safetensors", lopt_a(hidden_size=4), local_opt={"name": "sgd", "learning_rate": 0.5}
    )
    plan = suite_plan("fmnist8_mlp32", SUITE_PROTOCOL, [f"sgd={path}"])
    with pytest.raises(ValueError, match="two contenders are called 'sgd'"):
        cell_contenders(plan, plan.cells[0])


def test_the_local_optimizer_of_the_checkpoint(tmp_path):
    adam = checkpoint(
        tmp_path / "a.safetensors", lopt_a(hidden_size=4), local_opt={"name": "adam", "learning_rate": 0.1}
    )
    state = learned(adam, TOY).make({}).init({"w": np.zeros(3, np.float32)})
    # Adam's count and two moments, of one worker.
    assert [leaf.shape for leaf in jax.tree.leaves(state.worker)] == [(), (3,), (3,)]
    odd = checkpoint(tmp_path / "b.safetensors", lopt_a(hidden_size=4))
    with pytest.raises(ValueError, match="b.safetensors: this lopt_a does not say what its workers run"):
        learned(odd, TOY)


def test_a_multiplier_is_tuned_only_when_asked_and_with_a_baselines_budget(tmp_path):
    path = checkpoint(
        tmp_path / "a.safetensors", lopt_a(hidden_size=4), local_opt={"name": "sgd", "learning_rate": 0.1}
    )
    assert learned(path, TOY).grid == {}
    tuned = learned(path, TOY, tune_multiplier=True)
    assert len(tuned.grid["multiplier"].values) == 27 and tuned.name == "lopt_a_tuned"


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ({"num_local_steps": 4}, (4, 4)),
        ({"num_local_steps": [1, 4, 16]}, (1, 16)),
        ({"meta_train_config": {"num_local_steps": 8}}, (8, 8)),
        ({"num_local_steps": 4, "meta_train_config": {"components": [{"num_local_steps": h} for h in (2, 8)]}}, (2, 8)),
        ({"meta_train_config": {"components": {"a": {"num_local_steps": 3}}}}, (3, 3)),
        ({}, None),
        ({"num_local_steps": "many"}, None),
    ],
)
def test_the_meta_training_range_of_a_card(card, expected):
    assert meta_training_range(card, "num_local_steps") == expected
    assert meta_training_range(card, None) is None
