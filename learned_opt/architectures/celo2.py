"""Celo2: learned orthogonal steps for matrices, Adam for the rest (Moudgil et al. 2026, arXiv 2602.19142).

    matrices   x <- x - learning_rate * (d + weight_decay x),  d from `celo2_base` with `orthogonalize`
    the rest   x <- x - adam_mult * learning_rate * (a + weight_decay x),  a Adam's step with decays .9, .95

The rest are tensors of rank up to `adam_rank`, and those whose path matches `adam_paths`: biases and embeddings. Adam's
step is mhat / (sqrt(rhat) + eps) as the published recipe has it, or, with `adam_form="meta_training"`, m / sqrt(r +
eps) without bias correction, which the published rule was meta-trained beside.

Schedules: as for `celo2_base`. Deliberate deviation: Adam's gradients are clipped to +-1e9, so that their squares stay
finite.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.architectures.celo2_base import Celo2Rule, descent_direction, init_theta
from learned_opt.base import LearnedOptimizer
from learned_opt.per_parameter.adafac_features import LARGEST_GRADIENT, init_accumulators
from learned_opt.per_parameter.bounds import check_at_least_one
from learned_opt.per_parameter.checked_transform import checked_transform
from learned_opt.per_parameter.moments import corrected_moments, init_moments, update_moments
from learned_opt.per_parameter.tensor_groups import (
    close_updates,
    group_tensors,
    map_tensors,
    new_stacks,
    of_kind,
    open_updates,
)

if TYPE_CHECKING:
    from jaxtyping import Array, Int, PyTree

ADAM_FORMS = ("recipe", "meta_training")
_LEARNED, _ADAM = "learned", "adam"


class Celo2State(NamedTuple):
    """State of the transform.

    Attributes:
      num_updates: updates taken.
      accumulators: by group of tensors, leaves [tensors, ...], float32: `Accumulators` of the learned rule, `Moments`
        of Adam.
    """

    num_updates: Int[Array, ""]
    accumulators: PyTree


def celo2(
    learning_rate: float | jax.Array = 1e-3,
    weight_decay: float = 0.0,
    adam_mult: float = 20.0,
    adam_rank: int = 1,
    adam_paths: str = "embed",
    adam_form: str = "recipe",
    adam_b1: float = 0.9,
    adam_b2: float = 0.95,
    adam_epsilon: float = 1e-8,
    orthogonalize: bool = True,
    bias_correction: bool = False,
    hidden_size: int = 8,
    hidden_layers: int = 2,
    exp_mult: float | jax.Array = 0.0,
) -> LearnedOptimizer:
    """A single-machine learned optimizer reading gradients.

    Args:
      learning_rate: root mean square of a learned step.
      weight_decay: decoupled, times the learning rate of the tensor.
      adam_mult: Adam's learning rate in units of `learning_rate`.
      adam_rank: tensors of at most this rank are Adam's; -1: the rank does not matter.
      adam_paths: regular expression, searched for in paths like "block/0/embedding"; "": none match.
      adam_form: "recipe" or "meta_training".
      adam_b1: decay of Adam's mean.
      adam_b2: decay of Adam's second moment.
      adam_epsilon: eps of Adam.
      orthogonalize: steps of matrices are orthogonal ones.
      bias_correction: of the learned rule's moments, but for those that normalise the gradient.
      hidden_size: units per hidden layer.
      hidden_layers: hidden layers of the MLP.
      exp_mult: multiplies the log magnitude.

    Returns:
      The optimizer; its state holds 4 floats per parameter plus factored moments, 2 where Adam is.

    Raises:
      ValueError: an empty MLP, an unknown form, or no regular expression; by `update` without `params`.
    """
    check_at_least_one(hidden_size=hidden_size, hidden_layers=hidden_layers)
    if adam_form not in ADAM_FORMS:
        raise ValueError(f"adam_form={adam_form!r}: use one of {', '.join(ADAM_FORMS)}")
    try:
        pattern = re.compile(adam_paths)
    except re.error as error:
        raise ValueError(f"adam_paths={adam_paths!r}: use a regular expression ({error})") from None
    config = {
        "architecture": "celo2",
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "adam_mult": adam_mult,
        "adam_rank": adam_rank,
        "adam_paths": adam_paths,
        "adam_form": adam_form,
        "adam_b1": adam_b1,
        "adam_b2": adam_b2,
        "adam_epsilon": adam_epsilon,
        "orthogonalize": orthogonalize,
        "bias_correction": bias_correction,
        "hidden_size": hidden_size,
        "hidden_layers": hidden_layers,
        "exp_mult": exp_mult,
    }

    def kinds(params: Any) -> Sequence[str]:
        leaves = jax.tree_util.tree_leaves_with_path(params)
        is_adam = (
            jnp.ndim(leaf) <= adam_rank or bool(adam_paths and pattern.search(_path_name(path)))
            for path, leaf in leaves
        )
        return [_ADAM if adam else _LEARNED for adam in is_adam]

    def step_adam(count, gradient, moments):
        gradient = jnp.clip(gradient, -LARGEST_GRADIENT, LARGEST_GRADIENT)
        moments = update_moments(moments, gradient, adam_b1, adam_b2)
        if adam_form == "meta_training":
            return moments.mean * jax.lax.rsqrt(moments.square + adam_epsilon), moments
        mean, square = corrected_moments(moments, count, adam_b1, adam_b2)
        return mean / (jnp.sqrt(square) + adam_epsilon), moments

    rule = Celo2Rule(orthogonalize, bias_correction, exp_mult)

    def transform(theta, num_steps=None):
        del num_steps
        return _transform(theta, rule, kinds, step_adam, learning_rate, adam_mult, weight_decay)

    return LearnedOptimizer(
        init=lambda key: init_theta(key, hidden_size, hidden_layers),
        transform=transform,
        config=config,
        reads="gradient",
    )


def _transform(theta, rule, kinds, step_adam, learning_rate, adam_mult, weight_decay):
    def init(params):
        groups = group_tensors(params, kinds(params))
        accumulators = new_stacks(of_kind(groups, _LEARNED), init_accumulators)
        accumulators |= new_stacks(of_kind(groups, _ADAM), init_moments)
        return Celo2State(jnp.zeros((), jnp.int32), accumulators)

    def update(updates, state, params, **extra: Any):
        del extra
        groups, gradients, tensors = open_updates(updates, params, kinds)
        count = jnp.asarray(optax.safe_increment(state.num_updates))

        def learned_step(gradient, param, accumulators):
            direction, accumulators = descent_direction(theta, rule, count, gradient, param, accumulators)
            return -learning_rate * (direction + weight_decay * param), accumulators

        def adam_step(gradient, param, moments):
            direction, moments = step_adam(count, gradient, moments)
            return -learning_rate * adam_mult * (direction + weight_decay * param), moments

        steps, accumulators = {}, {}
        for kind, step in ((_LEARNED, learned_step), (_ADAM, adam_step)):
            mine = {name: gradients[name] for name in of_kind(groups, kind).members}
            results = map_tensors(step, mine, tensors, state.accumulators, num_results=2)
            steps, accumulators = steps | results[0], accumulators | results[1]
        return close_updates(groups, steps), Celo2State(count, accumulators)

    return checked_transform(init, update)


def _path_name(path) -> str:
    """ "mlp/0/bias"; entries that have no key are written as JAX does, "[0]" of a list."""
    return "/".join(str(getattr(entry, "key", entry)) for entry in path)
