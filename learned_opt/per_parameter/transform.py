"""The optax transform shared by the per-parameter MLP optimizers.

An architecture says what is read and how the step is made:

    x <- x + step(d, m, s),     (d, m) = MLP(features of `inputs`, parameters and accumulators)

Published form (Metz et al. 2022, arXiv 2203.11860, and Joseph et al. 2025, arXiv 2312.02204): s is 1. Nominal form
(nominal terms: Harrison et al. 2022, arXiv 2209.11208): a hand-made step comes first,

    x <- x + nominal(g) + step(d, m, s),

s is the root mean square of the tensor's (mean pseudo-)gradient, and the features are computed from accumulators
measured in units of s. Beside a hand-made step that is proportional to the gradient, with a step proportional to s,
multiplying every gradient by a constant multiplies every update by it; and a step of zeros leaves the hand-made one to
the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.base import Theta
from learned_opt.per_parameter.adafac_features import (
    clip_gradient,
    decays_from_theta,
    full_mean_squares,
    init_accumulators,
    rescale,
    tensor_features,
    time_features,
    update_accumulators,
)
from learned_opt.per_parameter.checked_transform import checked_transform
from learned_opt.per_parameter.mlp import apply_mlp, is_written_out, time_bias
from learned_opt.per_parameter.output_rule import Step
from learned_opt.per_parameter.tensor_groups import group_tensors, new_stacks

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, PyTree

_SMALLEST_MEAN_SQUARE = 1e-30


class PerParameterState(NamedTuple):
    """State of the transform.

    Attributes:
      num_updates: steps (rounds) taken; not called count, so that `optax.tree.get(state, "count")` finds that of a
        schedule beside it.
      accumulators: `Accumulators` by tensor shape, leaves [tensors of that shape, ...], float32.
      nominal: state of the hand-made step (empty where there is none).
    """

    num_updates: Int[Array, ""]
    accumulators: PyTree
    nominal: PyTree


class Given(NamedTuple):
    """What an update is given, for all tensors of one shape.

    Attributes:
      updates: gradients or mean pseudo-gradients, float32, each entry limited to +-1e9.
      leading: (tree, size) -> the entries of a tree like the updates whose leaves have a leading axis of that size,
        [size, *shape of `updates`]. ValueError for another structure or another size.
      extra: further arguments of the update, by name.
    """

    updates: Float[Array, "*S"]
    leading: Callable[[Any, int], Float[Array, "size *S"]]
    extra: Mapping[str, Any]


class Inputs(NamedTuple):
    """What an architecture reads of it.

    Attributes:
      averaged: what the accumulators average and s is measured on.
      deltas: the first inputs of the MLP.
    """

    averaged: Float[Array, "*S"]
    deltas: list[Float[Array, "*S"]]


def per_parameter_transform(
    theta: Theta,
    *,
    inputs: Callable[[Given], Inputs],
    step: Step,
    nominal: optax.GradientTransformation | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Builds the transform.

    Args:
      theta: meta-parameters.
      inputs: what the architecture reads, elementwise in the arrays it is given.
      step: (direction d, log magnitude m, scale s) -> what is added to the parameters, elementwise.
      nominal: the hand-made step, which works in float32; None for the published form.
    """

    def init(params):
        return PerParameterState(
            num_updates=jnp.zeros((), jnp.int32),
            accumulators=new_stacks(group_tensors(params), init_accumulators),
            nominal=optax.EmptyState() if nominal is None else nominal.init(_float32(params)),
        )

    def update(updates, state, params, **extra: Any):
        gradients, treedef = jax.tree.flatten(updates)
        param_leaves = treedef.flatten_up_to(params)
        if nominal is None:
            nominal_steps, nominal_state = None, state.nominal
        else:
            nominal_updates, nominal_state = nominal.update(_float32(updates), state.nominal, _float32(params))
            nominal_steps = treedef.flatten_up_to(nominal_updates)
        decays = decays_from_theta(theta)
        bias = time_bias(theta["mlp"], time_features(state.num_updates))

        def step_tensor(read, param, accumulators):
            signed, deltas = read
            accumulators = update_accumulators(accumulators, signed, decays)
            scale, reading = 1.0, accumulators
            if nominal is not None:
                mean_square = jnp.maximum(jnp.mean(jnp.square(signed)), _SMALLEST_MEAN_SQUARE)
                inverse, scale = jax.lax.rsqrt(mean_square), jnp.sqrt(mean_square)
                reading = rescale(accumulators, inverse)
                signed, deltas = signed * inverse, [d * inverse for d in deltas]
            channels = (deltas, signed, param.astype(jnp.float32), reading)
            written_out = is_written_out(theta["mlp"], signed.shape)
            mean_squares = full_mean_squares(*channels) if written_out else None
            features = tensor_features(*channels, is_listed=written_out)
            direction, magnitude = apply_mlp(theta["mlp"], features, mean_squares, len(deltas), bias)
            return step(direction, magnitude, scale), accumulators

        new_leaves = list(param_leaves)
        accumulators = {}
        for name, members in group_tensors(param_leaves).members.items():
            gradient, param = (jnp.stack([leaves[i] for i in members]) for leaves in (gradients, param_leaves))
            given = Given(clip_gradient(gradient), _leading(treedef, gradients, members), extra)
            learned, accumulators[name] = jax.vmap(step_tensor)(inputs(given), param, state.accumulators[name])
            for i, update in zip(members, learned, strict=True):
                if nominal_steps is not None:
                    update = nominal_steps[i] + update
                new_leaves[i] = update.astype(param_leaves[i].dtype)
        num_updates = jnp.asarray(optax.safe_increment(state.num_updates))
        new_state = PerParameterState(num_updates, accumulators, nominal_state)
        return treedef.unflatten(new_leaves), new_state

    return checked_transform(init, update)


def _float32(tree):
    """What a hand-made step works on, so that its accumulators are float32 whatever the parameters are."""
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


def _leading(treedef, gradients, members):
    """`Given.leading` of one group of tensors."""

    def leading(tree, size):
        if jax.tree.structure(tree) != treedef:
            raise ValueError(
                "worker_updates is a tree of other structure than updates: pass optax.masked, or optax.partition, "
                "mask_compatible_extra_args=True"
            )
        leaves = jax.tree.leaves(tree)
        for leaf, gradient in zip(leaves, gradients, strict=True):
            if jnp.shape(leaf) != (size, *jnp.shape(gradient)):
                raise ValueError(
                    f"worker_updates has a leaf of shape {jnp.shape(leaf)}, expected {(size, *jnp.shape(gradient))}: "
                    f"this optimizer was built for num_workers={size}"
                )
        return jnp.moveaxis(clip_gradient(jnp.stack([leaves[i] for i in members])), 1, 0)

    return leading
