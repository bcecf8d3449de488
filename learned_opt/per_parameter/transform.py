"""The optax transform shared by the per-parameter MLP optimizers.

Published form (`nominal="none"`, Metz et al. 2022, arXiv 2203.11860, and Joseph et al. 2025, arXiv 2312.02204):

    x <- x - step_mult * d * exp(exp_mult * m)

Nominal form (nominal terms: Harrison et al. 2022, arXiv 2209.11208): a hand-made step plus a learned correction in
units of s, the root mean square of the tensor's (mean pseudo-)gradient,

    x <- x - nominal(g) - s * step_mult * d * exp(exp_mult * m),

whose features are computed from accumulators measured in units of s. Multiplying every gradient by a constant therefore
multiplies every update by it, and with the output layer at zero the step is the hand-made one to the last bit. Beside a
hand-made step that does not grow with the gradient (Adam's) the correction does not either: s is then 1 in the formula.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.base import Theta
from learned_opt.per_parameter.adafac_features import (
    Accumulators,
    clip_gradient,
    decays_from_theta,
    full_mean_squares,
    init_accumulators,
    rescale,
    tensor_features,
    time_features,
    update_accumulators,
)
from learned_opt.per_parameter.mlp import apply_mlp, is_written_out, time_bias

if TYPE_CHECKING:
    from jaxtyping import Array, Int, PyTree

_SMALLEST_MEAN_SQUARE = 1e-30
_PARAMETERS_AT_ONCE = 2**20


class PerParameterState(NamedTuple):
    """State of the transform.

    Attributes:
      count: steps (rounds) taken.
      accumulators: `Accumulators` by tensor shape, leaves [tensors of that shape, ...], float32.
      nominal: state of the hand-made step (empty where there is none).
    """

    count: Int[Array, ""]
    accumulators: dict[str, Accumulators]
    nominal: PyTree


def per_parameter_transform(
    theta: Theta,
    *,
    num_workers: int | None,
    exp_mult: float,
    step_mult: float | Array,
    sign: float,
    nominal: optax.GradientTransformation | None,
    grows_with_gradient: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Builds the transform.

    Args:
      theta: meta-parameters.
      num_workers: None if the MLP reads the mean gradient, K if it reads K worker updates instead.
      exp_mult: multiplies m in the exponent.
      step_mult: multiplies the learned step.
      sign: what the MLP and the accumulators are fed is `sign` times what the transform is given.
      nominal: the hand-made step, None for the published form.
      grows_with_gradient: whether that step is proportional to the gradient, and the correction with it.
    """

    num_deltas = 1 if num_workers is None else num_workers

    def init(params):
        groups = _group_by_shape(jax.tree.leaves(params))
        return PerParameterState(
            count=jnp.zeros((), jnp.int32),
            accumulators={
                name: jax.vmap(lambda _, shape=shape: init_accumulators(shape))(jnp.arange(len(members)))
                for name, (shape, members) in groups.items()
            },
            nominal=optax.EmptyState() if nominal is None else nominal.init(params),
        )

    def update(updates, state, params=None, *, worker_updates=None, **extra: Any):
        del extra
        if params is None:
            raise ValueError("params is None: call update(updates, state, params), the features read the parameters")
        gradients, treedef = jax.tree.flatten(updates)
        param_leaves = treedef.flatten_up_to(params)
        workers = _worker_leaves(worker_updates, gradients, treedef, num_workers)
        if nominal is None:
            nominal_steps, nominal_state = None, state.nominal
        else:
            nominal_updates, nominal_state = nominal.update(updates, state.nominal, params)
            nominal_steps = treedef.flatten_up_to(nominal_updates)
        decays = decays_from_theta(theta)
        bias = time_bias(theta["mlp"], time_features(state.count))

        def step_tensor(gradient, deltas, param, accumulators):
            signed = sign * clip_gradient(gradient)
            accumulators = update_accumulators(accumulators, signed, decays)
            read, scale, reading = signed, step_mult, accumulators
            deltas = [signed] if deltas is None else list(sign * clip_gradient(deltas))
            if nominal is not None:
                mean_square = jnp.maximum(jnp.mean(jnp.square(signed)), _SMALLEST_MEAN_SQUARE)
                inverse = jax.lax.rsqrt(mean_square)
                scale = step_mult * jnp.sqrt(mean_square) if grows_with_gradient else step_mult
                reading = rescale(accumulators, inverse)
                read, deltas = signed * inverse, [d * inverse for d in deltas]
            inputs = (deltas, read, param.astype(jnp.float32), reading)
            written_out = is_written_out(theta["mlp"], gradient.shape)
            mean_squares = full_mean_squares(*inputs) if written_out else None
            direction, magnitude = apply_mlp(theta["mlp"], tensor_features(*inputs), mean_squares, num_deltas, bias)
            return -scale * direction * jnp.exp(exp_mult * magnitude), accumulators

        count = jnp.asarray(optax.safe_increment(state.count))
        new_leaves = list(param_leaves)
        accumulators = {}
        for name, (_, members) in _group_by_shape(param_leaves).items():
            gradient, deltas, param = (
                None if leaves[members[0]] is None else jnp.stack([leaves[i] for i in members])
                for leaves in (gradients, workers, param_leaves)
            )
            learned, accumulators[name] = jax.vmap(step_tensor)(gradient, deltas, param, state.accumulators[name])
            for i, update in zip(members, learned, strict=True):
                if nominal_steps is not None:
                    update = nominal_steps[i].astype(jnp.float32) + update
                new_leaves[i] = update.astype(param_leaves[i].dtype)
        new_state = PerParameterState(count, accumulators, nominal_state)
        return treedef.unflatten(new_leaves), new_state

    return optax.GradientTransformationExtraArgs(init, update)


def _group_by_shape(leaves):
    """Shape and leaf numbers of the non-empty tensors to be stepped together, by a readable name.

    Tensors of one shape and dtype are compiled once, as far as stacking them stays cheap.
    """
    members = {}
    for i, leaf in enumerate(leaves):
        if 0 not in jnp.shape(leaf):
            members.setdefault((jnp.shape(leaf), jnp.result_type(leaf)), []).append(i)
    groups = {}
    for (shape, dtype), indices in members.items():
        size = max(1, _PARAMETERS_AT_ONCE // max(1, math.prod(shape)))
        for start in range(0, len(indices), size):
            name = f"{'x'.join(map(str, shape)) or 'scalar'} {dtype} {start}"
            groups[name] = (shape, indices[start : start + size])
    return groups


def _worker_leaves(worker_updates, gradients, treedef, num_workers):
    if num_workers is None:
        return [None] * len(gradients)
    if worker_updates is None:
        raise ValueError(
            f"worker_updates is None: lagg_a(num_workers={num_workers}) reads every worker's pseudo-gradient; pass "
            "update(..., worker_updates=tree with a leading [workers] axis), or use lopt_a"
        )
    leaves = treedef.flatten_up_to(worker_updates)
    for leaf, gradient in zip(leaves, gradients, strict=True):
        if jnp.shape(leaf) != (num_workers, *jnp.shape(gradient)):
            raise ValueError(
                f"worker_updates has a leaf of shape {jnp.shape(leaf)}, expected "
                f"{(num_workers, *jnp.shape(gradient))}: this optimizer was built for num_workers={num_workers}"
            )
    return leaves
