"""Meta-parameters as one vector, the form they have between the learned optimizer and the disk.

An estimator perturbs and differentiates a vector [n] float32, and the meta-optimizer steps along it: every operation is
elementwise or a norm, and compiles once instead of once per tensor. The tree that an architecture knows is made of it
in one place, where the optimizer is applied.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float

from learned_opt.base import LearnedOptimizer, Theta

FlatTheta = Float[Array, "n"]
"""The entries of theta, leaf by leaf."""


class FlatForm(NamedTuple):
    """The way between the two forms of an optimizer's theta.

    Attributes:
      ravel: tree -> vector.
      unravel: vector -> tree.
    """

    ravel: Callable[[Theta], FlatTheta]
    unravel: Callable[[FlatTheta], Theta]


def flat_form(lopt: LearnedOptimizer) -> FlatForm:
    """The two forms of the theta of `lopt`.

    Raises:
      ValueError: a theta without entries, or with others than float32.
    """
    shapes = jax.eval_shape(lopt.init, jax.random.key(0))
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        if leaf.dtype != jnp.float32:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise ValueError(
                f"theta has a leaf {name} of dtype {leaf.dtype}: use float32, which is what is meta-trained"
            )
    if not sum(leaf.size for leaf in jax.tree.leaves(shapes)):
        raise ValueError("theta is empty: nothing to meta-train; return meta-parameters from the optimizer's init")
    _, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))
    return FlatForm(lambda theta: ravel_pytree(theta)[0], unravel)


def trained_entries(lopt: LearnedOptimizer, train_only: str) -> Bool[np.ndarray, "n"] | None:
    """Which entries of theta are trained; None: all.

    Args:
      lopt: whose theta it is.
      train_only: beginnings of names of leaves ("controller", "mlp/w0"), separated by commas; empty for all.

    Raises:
      ValueError: a beginning that no leaf has.
    """
    prefixes = [prefix.strip() for prefix in train_only.split(",") if prefix.strip()]
    if not prefixes:
        return None
    leaves = jax.tree_util.tree_leaves_with_path(jax.eval_shape(lopt.init, jax.random.key(0)))
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            raise ValueError(f"train_only={prefix!r}: no leaf of theta begins so; they are {', '.join(names)}")
    chosen = [any(name.startswith(prefix) for prefix in prefixes) for name in names]
    return np.concatenate([np.full(leaf.size, here) for here, (_, leaf) in zip(chosen, leaves, strict=True)])
