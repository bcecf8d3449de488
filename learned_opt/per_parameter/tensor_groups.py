"""Tensors of one shape and dtype are stepped together: stacked, and mapped over with vmap.

A rule that is written for one tensor is then compiled once a shape instead of once a tensor. Between the tensors of all
shapes (an LSTM that takes one step a tensor, a mean over tensors), values travel as rows [tensors, ...] in the order of
the tree's leaves. Empty leaves take no part anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Array

Stacks = dict[str, Any]
"""By group: any tree of arrays with a leading [tensors of the group] axis."""

_PARAMETERS_AT_ONCE = 2**20


class TensorGroups(NamedTuple):
    """The non-empty leaves of a tree by shape, dtype and kind.

    Attributes:
      treedef: of the tree.
      leaves: its leaves.
      members: by group: numbers of its leaves.
      kinds: by group: their kind.
    """

    treedef: Any
    leaves: list[Any]
    members: dict[str, list[int]]
    kinds: dict[str, str]

    @property
    def num_tensors(self) -> int:
        """Non-empty leaves."""
        return sum(map(len, self.members.values()))


def group_tensors(tree: Any, kinds: Sequence[str] | None = None) -> TensorGroups:
    """Groups the leaves of a tree.

    Args:
      tree: of arrays.
      kinds: one for each leaf; leaves of different kinds are never in one group. None: all alike.
    """
    leaves, treedef = jax.tree.flatten(tree)
    kinds = [""] * len(leaves) if kinds is None else kinds
    alike: dict[Any, list[int]] = {}
    for i, leaf in enumerate(leaves):
        if 0 not in jnp.shape(leaf):
            alike.setdefault((jnp.shape(leaf), jnp.result_type(leaf), kinds[i]), []).append(i)
    members, kind_of = {}, {}
    for (shape, dtype, kind), indices in alike.items():
        # Stacking is a copy: worth its while for small tensors only.
        size = max(1, _PARAMETERS_AT_ONCE // max(1, math.prod(shape)))
        for start in range(0, len(indices), size):
            name = " ".join(filter(None, ["x".join(map(str, shape)) or "scalar", str(dtype), kind, str(start)]))
            members[name], kind_of[name] = indices[start : start + size], kind
    return TensorGroups(treedef, leaves, members, kind_of)


def of_kind(groups: TensorGroups, kind: str) -> TensorGroups:
    """The groups of one kind."""
    names = [name for name in groups.members if groups.kinds[name] == kind]
    return groups._replace(members={n: groups.members[n] for n in names}, kinds={n: kind for n in names})


def open_updates(
    updates: Any, params: Any, kinds: Callable[[Any], Sequence[str]] | None = None
) -> tuple[TensorGroups, Stacks, Stacks]:
    """What an optax update is given, by group: (groups of the parameters, gradients, parameters), float32.

    Args:
      updates: gradients or pseudo-gradients.
      params: None leaves where `updates` has them.
      kinds: params -> one kind for each leaf.
    """
    gradients, treedef = jax.tree.flatten(updates)
    params = treedef.unflatten(treedef.flatten_up_to(params))
    groups = group_tensors(params, None if kinds is None else kinds(params))
    return groups, _stack(groups, gradients), _stack(groups, groups.leaves)


def close_updates(groups: TensorGroups, steps: Stacks) -> Any:
    """The inverse: the tree of updates, each in the dtype of its parameters; empty leaves as they are."""
    leaves = list(groups.leaves)
    for name, members in groups.members.items():
        for row, i in enumerate(members):
            leaves[i] = steps[name][row].astype(leaves[i].dtype)
    return groups.treedef.unflatten(leaves)


def new_stacks(groups: TensorGroups, init: Callable[[tuple[int, ...]], Any]) -> Stacks:
    """A fresh state of every tensor; `init` is given a shape."""

    def new(members):
        shape = jnp.shape(groups.leaves[members[0]])
        return jax.vmap(lambda _: init(shape))(jnp.arange(len(members)))

    return {name: new(members) for name, members in groups.members.items()}


def map_tensors(function: Callable[..., Any], *stacks: Stacks, num_results: int = 1) -> Any:
    """Applies a function of one tensor to all of them.

    Args:
      function: of one tensor's part of every stack.
      *stacks: its arguments, by group.
      num_results: length of the tuple that the function returns; 1: it returns no tuple.

    Returns:
      its results by group; `num_results` of them.
    """
    results = {name: jax.vmap(function)(*(stack[name] for stack in stacks)) for name in stacks[0]}
    if num_results == 1:
        return results
    return tuple({name: result[i] for name, result in results.items()} for i in range(num_results))


def as_rows(groups: TensorGroups, stacks: Stacks) -> Array:
    """Arrays [tensors of the group, ...] by group -> [tensors, ...] in the order of the leaves; at least one tensor."""
    order = np.argsort(np.concatenate(list(groups.members.values())))
    return jnp.concatenate([stacks[name] for name in groups.members])[order]


def from_rows(groups: TensorGroups, rows: Any) -> Stacks:
    """The inverse of `as_rows`, of any tree of arrays [tensors, ...]."""
    rank_of = {leaf: row for row, leaf in enumerate(sorted(i for members in groups.members.values() for i in members))}

    def pick(members):
        places = np.asarray([rank_of[i] for i in members])
        return jax.tree.map(lambda leaf: leaf[places], rows)

    return {name: pick(members) for name, members in groups.members.items()}


def _stack(groups, leaves):
    return {
        name: jnp.stack([jnp.asarray(leaves[i]).astype(jnp.float32) for i in members])
        for name, members in groups.members.items()
    }
