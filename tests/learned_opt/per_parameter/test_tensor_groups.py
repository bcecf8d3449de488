"""Stacking tensors and taking them apart again: nothing may end up at another tensor's place."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt.per_parameter import tensor_groups
from learned_opt.per_parameter.tensor_groups import (
    as_rows,
    close_updates,
    from_rows,
    group_tensors,
    map_tensors,
    new_stacks,
    open_updates,
)

SHAPES = [(2, 3), (4,), (2, 3), (), (0, 2), (4,), (2, 3)]
PARAMS = [np.full(shape, i, np.float32) for i, shape in enumerate(SHAPES)]


def test_every_update_comes_back_to_its_tensor():
    groups, gradients, params = open_updates([10 * p for p in PARAMS], PARAMS)
    assert len(groups.members) == 3 and groups.num_tensors == 6
    steps = map_tensors(lambda gradient, param: gradient + param, gradients, params)
    for i, step in enumerate(close_updates(groups, steps)):
        np.testing.assert_array_equal(step, np.full(SHAPES[i], 11 * i))


def test_rows_are_in_the_order_of_the_leaves():
    groups, gradients, _ = open_updates(PARAMS, PARAMS)
    rows = as_rows(groups, map_tensors(lambda gradient: jnp.mean(gradient)[None], gradients))
    np.testing.assert_array_equal(rows[:, 0], [0, 1, 2, 3, 5, 6])
    back = from_rows(groups, {"row": rows})
    for name, members in groups.members.items():
        np.testing.assert_array_equal(back[name]["row"][:, 0], members)


def test_large_tensors_are_not_stacked():
    with mock.patch.object(tensor_groups, "_PARAMETERS_AT_ONCE", 12):
        groups = group_tensors(PARAMS)
    assert sorted(groups.members.values()) == [[0, 2], [1, 5], [3], [6]]


def test_kinds_are_kept_apart():
    groups = group_tensors(PARAMS, kinds=["a", "a", "b", "a", "a", "a", "a"])
    assert sorted(groups.members.values()) == [[0, 6], [1, 5], [2], [3]]
    assert [groups.members[name] for name in tensor_groups.of_kind(groups, "b").members] == [[2]]


def test_dtypes_are_kept_apart_and_returned():
    params = {"a": jnp.ones((2,), jnp.bfloat16), "b": jnp.ones((2,), jnp.float32)}
    groups, gradients, _ = open_updates(params, params)
    assert len(groups.members) == 2
    assert all(stack.dtype == jnp.float32 for stack in gradients.values())
    assert jax.tree.map(lambda x: x.dtype, close_updates(groups, gradients)) == {"a": jnp.bfloat16, "b": jnp.float32}


def test_states_are_made_a_tensor_at_a_time():
    stacks = new_stacks(group_tensors(PARAMS), lambda shape: {"twice": jnp.zeros((2, *shape))})
    assert sorted(stack["twice"].shape for stack in stacks.values()) == [(1, 2), (2, 2, 4), (3, 2, 2, 3)]
