"""The state of every learned optimizer, and of `local_updates` around it, can be saved by what others save with."""

import functools
from typing import Any

import chex
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest

import learned_opt
from learned_opt.architectures import from_config

K = 2
# Matrix, bias, scalar, filter, and a leaf that is not there.
MODEL = {
    "matrix": np.asarray([[0.5, -1.0, 0.1], [0.2, 0.3, -0.4]], np.float32),
    "bias": np.asarray([0.1, -0.2, 0.3], np.float32),
    "scalar": np.float32(0.5),
    "filter": np.linspace(-1, 1, 48, dtype=np.float32).reshape(2, 2, 3, 4),
    "nothing": None,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "adafac_mlp_lopt": {"architecture": "adafac_mlp_lopt", "hidden_size": 4},
    "adafac_mlp_lopt_adam": {"architecture": "adafac_mlp_lopt", "hidden_size": 4, "nominal": "adam"},
    "lopt_a": {"architecture": "lopt_a", "hidden_size": 4},
    "lopt_a_average": {"architecture": "lopt_a", "hidden_size": 4, "nominal": "average"},
    "lopt_a_momentum": {"architecture": "lopt_a", "hidden_size": 4, "nominal": "momentum"},
    "lagg_a": {"architecture": "lagg_a", "hidden_size": 4, "num_workers": K},
    "lagg_a_momentum": {"architecture": "lagg_a", "hidden_size": 4, "num_workers": K, "nominal": "momentum"},
    "lagg_set": {"architecture": "lagg_set", "controller_size": 3, "hidden_size": 4},
    "learnable_sgdm": {"architecture": "learnable_sgdm"},
    "nn_adam": {"architecture": "nn_adam", "lstm_hidden_size": 4},
    "rnn_mlp_lopt": {"architecture": "rnn_mlp_lopt", "lstm_hidden_size": 4, "hidden_size": 4},
    "hyper_v2": {"architecture": "hyper_v2", "lstm_hidden_size": 4, "num_mlps": 3},
    "celo2": {"architecture": "celo2"},
    "lagg_set_linear": {"architecture": "lagg_set", "controller_size": 0, "hidden_size": 0},
}
every = pytest.mark.parametrize("name", CONFIGS)


def transform(name):
    lopt = from_config(CONFIGS[name])
    return lopt.transform(lopt.init(jax.random.key(0)), num_steps=10)


@functools.cache
def states(name) -> list[Any]:
    """That of the transform and that of `local_updates` around it, with entries that are told apart."""
    learned = transform(name)
    around = learned_opt.local_updates(optax.sgd(0.1, momentum=0.9), learned, num_local_steps=2)
    return [_filled(learned.init(MODEL)), _filled(around.init(MODEL))]


def _filled(state):
    leaves, structure = jax.tree.flatten(state)
    numbers = [jnp.asarray(np.arange(x.size).reshape(x.shape) + i, x.dtype) for i, x in enumerate(leaves)]
    return structure.unflatten(numbers)


@every
def test_orbax_saves_and_restores_it(name, tmp_path):
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        for i, state in enumerate(states(name)):
            checkpointer.save(tmp_path / str(i), state)
            checkpointer.wait_until_finished()
            restored = checkpointer.restore(tmp_path / str(i), jax.tree.map(jnp.zeros_like, state))
            chex.assert_trees_all_equal(restored, state)
            assert jax.tree.structure(restored) == jax.tree.structure(state)


@every
def test_flax_serializes_it(name):
    for state in states(name):
        empty = jax.tree.map(jnp.zeros_like, state)
        restored = flax.serialization.from_bytes(empty, flax.serialization.to_bytes(state))
        chex.assert_trees_all_equal(restored, state)
        assert jax.tree.structure(restored) == jax.tree.structure(state)


@every
def test_it_holds_no_empty_arrays(name):
    for params in (MODEL, {"bias": MODEL["bias"]}, {"scalar": MODEL["scalar"]}, {"matrix": MODEL["matrix"]}):
        for leaf in jax.tree.leaves(transform(name).init(params)):
            assert jnp.size(leaf) > 0


@every
def test_the_count_of_a_schedule_beside_it_is_found_by_name(name):
    tx = optax.chain(transform(name), optax.scale_by_schedule(lambda count: 1.0))
    state: Any = tx.init(MODEL)
    counts = [path for path, _ in optax.tree.get_all_with_path(state[0], "count")]
    assert len(counts) <= 1
    if not counts:
        assert optax.tree.get(optax.tree.set(state, count=jnp.int32(7)), "count") == 7
    assert optax.tree.get(state, "num_updates") == 0
