"""The local recipe of a checkpoint: it comes back, makes the optimizer, is refused where it is wrong, and is found in
the cards of format 1.
"""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from learned_opt.architectures.adafac_mlp_lopt import adafac_mlp_lopt
from learned_opt.architectures.lagg_a import lagg_a
from learned_opt.checkpoint import checkpoint_file, load_checkpoint, save
from learned_opt.checkpoint.rebuilding import named_leaves

_LOPT = lagg_a(num_workers=3, hidden_size=4)
_RECIPE = {"name": "sgd", "learning_rate": 0.5}


@pytest.fixture(scope="module")
def theta():
    return jax.tree.map(np.asarray, _LOPT.init(jax.random.key(0)))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lagg.safetensors"


def test_the_local_recipe_comes_back_and_makes_the_optimizer(path, theta):
    recipe = {"name": "sgd", "learning_rate": 0.5, "momentum": 0.9, "nesterov": True}
    save(path, _LOPT, theta, local_opt=recipe)
    loaded = load_checkpoint(path)
    assert loaded.local_opt == recipe and loaded.card == {}
    params, gradient = {"w": jnp.ones(3)}, {"w": jnp.arange(3.0)}
    for rate, expected in ((None, 0.5), (0.25, 0.25), (lambda count: 0.125, 0.125)):
        found = loaded.local_transform(rate)
        updates: Any
        updates, _ = found.update(gradient, found.init(params), params)
        # Nesterov's first step: m = g, so the step is (1 + 0.9) g.
        np.testing.assert_allclose(updates["w"], -expected * 1.9 * gradient["w"], rtol=1e-6)
    save(path, _LOPT, theta)
    with pytest.raises(ValueError, match="lagg_a does not say what its workers run: save it with local_opt="):
        load_checkpoint(path).local_transform()
    lopt = adafac_mlp_lopt(hidden_size=2)
    save(path, lopt, lopt.init(jax.random.key(0)))
    with pytest.raises(ValueError, match="adafac_mlp_lopt reads gradients and has no local optimizer"):
        load_checkpoint(path).local_transform()


_RECIPE_MISTAKES = [
    ("sgd", "local_opt='sgd': use a dict such as"),
    ({"learning_rate": 0.1}, "local_opt={'learning_rate': 0.1}: give it a name"),
    ({"name": "my_module:make", "learning_rate": 0.1}, "is unknown; .* with an optimizer of your own leave it out"),
    ({"name": "sgd"}, "learning_rate=None: use a number above 0"),
    ({"name": "sgd", "learning_rate": 0}, "learning_rate=0: use a number above 0"),
    ({"name": "sgd", "learning_rate": "0.1"}, "learning_rate='0.1': use a finite number"),
    ({"name": "sgd", "learning_rate": 10**400}, "learning_rate=10+...: use a finite number"),
    ({"name": "sgd", "learning_rate": 0.1, "momentun": 0.9}, "no argument 'momentun'; did you mean 'momentum'"),
    ({"name": "sgd", "learning_rate": 0.1, "momentum": [0.9]}, "momentum=.*: use a finite number"),
]


@pytest.mark.parametrize(("recipe", "message"), _RECIPE_MISTAKES)
@pytest.mark.usefixtures("unchecked_annotations")
def test_wrong_recipes_are_refused_when_saved_and_when_loaded(path, theta, recipe, message):
    with pytest.raises(ValueError, match=message):
        save(path, _LOPT, theta, local_opt=recipe)
    if isinstance(recipe, dict):
        tensors = {key: np.asarray(leaf) for key, leaf in named_leaves(theta).items()}
        path.write_bytes(checkpoint_file.encode(tensors, _LOPT.config, recipe, {}))
        with pytest.raises(ValueError, match=message) as caught:
            load_checkpoint(path)
        assert path.name in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_what_the_card_said_of_local_steps_belongs_into_the_recipe(path, theta):
    with pytest.raises(ValueError, match="local_learning_rate=0.5 is no card entry.*pass local_opt="):
        save(path, _LOPT, theta, local_learning_rate=0.5)
    lopt = adafac_mlp_lopt(hidden_size=2)
    with pytest.raises(ValueError, match="adafac_mlp_lopt reads gradients; leave it out"):
        save(path, lopt, lopt.init(jax.random.key(0)), local_opt=_RECIPE)


def _format_1(path, lopt, theta, card):
    """A file as the first version wrote it."""
    tensors = {key: np.asarray(leaf) for key, leaf in named_leaves(theta).items()}
    header = {"format_version": 1, "config": lopt.config, "card": card, "sha256": "0" * 64}
    data = safetensors.numpy.save(tensors, {"learned_opt": json.dumps(header)})
    start = data.rindex(b"0" * 64, 0, 8 + struct.unpack("<Q", data[:8])[0])
    path.write_bytes(data[:start] + hashlib.sha256(data).hexdigest().encode() + data[start + 64 :])


@pytest.mark.parametrize(
    ("card", "recipe"),
    [
        ({"local_optimizer": "rmsprop", "local_learning_rate": 0.01}, {"name": "adam_b1_0", "learning_rate": 0.01}),
        ({"local_optimizer": "adam", "local_learning_rate": 0.1}, {"name": "adam", "learning_rate": 0.1}),
        ({"local_learning_rate": 0.5}, _RECIPE),
        ({}, None),
        ({"local_learning_rate": "it varied"}, None),
        ({"local_optimizer": ["sgd", "adam"], "local_learning_rate": 0.1}, None),
    ],
)
def test_files_of_format_1_have_the_recipe_of_their_card(path, theta, card, recipe):
    _format_1(path, _LOPT, theta, card)
    loaded = load_checkpoint(path)
    assert loaded.local_opt == recipe and loaded.card == card and loaded.lopt.config == _LOPT.config
    jax.tree.map(np.testing.assert_array_equal, loaded.theta, theta)


def test_a_gradient_reader_of_format_1_has_no_recipe(path):
    lopt = adafac_mlp_lopt(hidden_size=2)
    _format_1(path, lopt, lopt.init(jax.random.key(0)), {"local_learning_rate": 0.5})
    assert load_checkpoint(path).local_opt is None


def test_the_kept_file_of_format_1_loads():
    loaded = load_checkpoint(Path(__file__).parents[2] / "data" / "optimizer_format_1.safetensors")
    assert loaded.lopt.num_workers == 2 and loaded.local_opt is None and loaded.card["task"] == "fmnist8_mlp32"
