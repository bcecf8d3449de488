"""Odd families are refused where they enter, in a line that names split, leaf, value and fix."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from tasks.check import check_family, check_form, num_classes
from tasks.suites import FAMILIES, make_family
from tests.toy_images import toy_data, toy_family


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_of_the_suites_is_in_order(name):
    try:
        family = make_family(name)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    check_form(family)


@pytest.mark.parametrize("name", ["fmnist8_mlp32", "xor_clusters", "quadratics32", "shakespeare_gru"])
def test_a_first_loss_too(name):
    check_family(make_family(name))


def changed(split, leaf, change):
    data = toy_data()
    data[split][leaf] = change(data[split][leaf])
    return toy_family(data)


def without(split, leaf=None):
    data = toy_data()
    del (data if leaf is None else data[split])[leaf or split]
    return toy_family()._replace(data=data)


def first(value):
    def change(labels):
        labels[0] = value
        return labels

    return change


@pytest.mark.parametrize(
    ("family", "message"),
    [
        (without("inner_valid"), "task family toy: its data have no split inner_valid: give all of train, inner_valid"),
        (without("test", "label"), "toy, test/label: missing, but int32 [] an example in train"),
        (changed("test", "label", lambda x: x[1:]), "toy, test: {'image': 50, 'label': 49} examples"),
        (
            changed("test", "image", lambda x: x[:, :1]),
            "toy, test/image: uint8 [1, 2, 1] an example, but uint8 [2, 2, 1]",
        ),
        (changed("inner_valid", "label", lambda x: np.int16(x)), "inner_valid/label: int16 [] an example, but int32"),
        (changed("train", "image", lambda x: x[:0]), "train/image: shape (0, 2, 2, 1): use [examples, ...]"),
        (changed("train", "label", lambda x: x.astype(str)), "train/label: <U11: use an array of numbers"),
        (changed("train", "label", list), "train/label: list: use an array of numbers"),
        (changed("train", "image", lambda x: x / 255), "train/image: float64: store pixels 0 to 255 as uint8"),
        (
            changed("test", "label", lambda x: x + 1),
            "test/label: labels 1 to 3, with 3 classes they lie in 0 to 2 (do they",
        ),
        (changed("outer_valid", "label", first(7)), "outer_valid/label: labels 0 to 7, with 3 classes"),
        (changed("train", "label", first(-1)), "train/label: labels -1 to 2, with 3 classes they lie in 0 to 2: shift"),
        (toy_family()._replace(uninformed_loss=0.0), "uninformed_loss=0.0: use a constant guess's loss, above 0"),
    ],
)
def test_odd_data(family, message):
    with pytest.raises(ValueError) as caught:
        check_form(family)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def with_task(**functions):
    family = toy_family()

    def task(config, data):
        inner = family.task(config, data)
        return inner._replace(**{name: make(inner) for name, make in functions.items()})

    return family._replace(task=task)


def nan_params(inner):
    return lambda key: {"w": jnp.full(3, jnp.nan), **inner.init(key)}


@pytest.mark.parametrize(
    ("family", "message"),
    [
        (with_task(loss=lambda inner: lambda p, k, b: jnp.zeros(4)), "its loss is float32[4]: return one float"),
        (with_task(loss=lambda inner: lambda p, k, b: jnp.int32(4)), "its loss is int32[]: return one float"),
        (with_task(loss=lambda inner: lambda p, k, b: jnp.float32(jnp.inf)), "its first loss on train is inf"),
        (with_task(loss=lambda inner: lambda p, k, b: jnp.float32(-947.0)), "its first loss on train is -947"),
        (with_task(init=nan_params), "its initial parameters hold NaN or infinity"),
        (with_task(metrics=lambda inner: lambda p, b: {"accuracy": jnp.ones(())}), "'loss' among them"),
        (with_task(metrics=lambda inner: lambda p, b: {"loss": jnp.ones(3)}), "{'loss': [3]}: return scalars by name"),
    ],
)
def test_odd_functions(family, message):
    with pytest.raises(ValueError) as caught:
        check_family(family)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("family", "message"),
    [(toy_family, "family=<function toy_family.*: call it first; use a tasks.base.TaskFamily"), (3, "family=3: use a")],
)
@pytest.mark.usefixtures("unchecked_annotations")
def test_what_is_no_family(family, message):
    with pytest.raises(ValueError, match=message):
        check_family(family)


def test_a_failing_function_is_not_a_users_mistake():
    def loss(params, key, batch):
        return params["no_such_layer"]

    message = r"task family toy: its functions fail on its own data \(KeyError: 'no_such_layer'\)"
    with pytest.raises(RuntimeError, match=message) as caught:
        check_form(with_task(loss=lambda inner: loss))
    assert isinstance(caught.value.__cause__, KeyError)


def test_values_that_are_not_finite():
    data = make_family("quadratics32").data
    noise = np.array(data["test"]["noise"])
    noise[3] = np.nan
    family = make_family("quadratics32")._replace(data={**data, "test": {"noise": noise}})
    with pytest.raises(ValueError, match="quadratics32, test/noise: holds NaN or infinity: remove"):
        check_form(family)


@pytest.mark.parametrize(("loss", "classes"), [(math.log(2), 2), (math.log(26), 26), (1.0, None), (0.01, None)])
def test_classes_are_read_off_the_constant_guess(loss, classes):
    assert num_classes(toy_family()._replace(uninformed_loss=loss)) == classes
