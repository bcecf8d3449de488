"""Celo2-base: a learned per-parameter rule whose every step has the same size (Moudgil et al. 2026, arXiv 2602.19142).

    x <- x - learning_rate * (d / RMS(d) + weight_decay * x),     (d, s, -) = MLP(30 channels), d <- d exp(exp_mult * s)

The MLP (347 numbers, 18 of them unread where exp_mult is 0) sees VeLO's channels divided by their root mean square over
the last two axes; leading axes are a batch of matrices. A tensor of rank below 2 leaves the factored channels out.
With `orthogonalize`, d is replaced by the nearest orthogonal matrix (Newton-Schulz) where the rank is 2 or more.

The learning rate wants a schedule from outside (warm-up and cosine in the paper): everything that this transform
returns is proportional to it, so build with learning_rate=1 and chain `optax.scale_by_schedule`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.base import LearnedOptimizer
from learned_opt.per_parameter.adafac_features import Accumulators, init_accumulators, update_accumulators
from learned_opt.per_parameter.bounds import check_at_least_one
from learned_opt.per_parameter.channel_mlp import ChannelMlp, apply_channel_mlp, init_channel_mlp
from learned_opt.per_parameter.checked_transform import checked_transform
from learned_opt.per_parameter.newton_schulz import newton_schulz
from learned_opt.per_parameter.tensor_groups import close_updates, group_tensors, map_tensors, new_stacks, open_updates
from learned_opt.per_parameter.velo_features import NUM_CHANNELS, clip_gradient, fixed_decays, velo_blocks

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, PyTree

_RMS_DECAY = 0.95
_EPSILON = 1e-9


class Celo2BaseState(NamedTuple):
    """State of the transform.

    Attributes:
      num_updates: updates taken.
      accumulators: `Accumulators` by group of tensors, leaves [tensors, ...], float32.
    """

    num_updates: Int[Array, ""]
    accumulators: PyTree


def celo2_base(
    learning_rate: float | jax.Array = 1e-3,
    weight_decay: float = 0.0,
    orthogonalize: bool = False,
    bias_correction: bool = False,
    hidden_size: int = 8,
    hidden_layers: int = 2,
    exp_mult: float | jax.Array = 0.0,
) -> LearnedOptimizer:
    """A single-machine learned optimizer reading gradients, the same rule for every tensor.

    Args:
      learning_rate: root mean square of a step.
      weight_decay: decoupled, times the learning rate.
      orthogonalize: steps of matrices are orthogonal ones.
      bias_correction: of all moments but those that normalise the gradient.
      hidden_size: units per hidden layer.
      hidden_layers: hidden layers of the MLP.
      exp_mult: multiplies the log magnitude.

    Returns:
      The optimizer; its state holds 4 floats per parameter plus factored moments.

    Raises:
      ValueError: an empty MLP; by `update` without `params`.
    """
    check_at_least_one(hidden_size=hidden_size, hidden_layers=hidden_layers)
    config = {
        "architecture": "celo2_base",
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "orthogonalize": orthogonalize,
        "bias_correction": bias_correction,
        "hidden_size": hidden_size,
        "hidden_layers": hidden_layers,
        "exp_mult": exp_mult,
    }
    rule = Celo2Rule(orthogonalize, bias_correction, exp_mult)
    return LearnedOptimizer(
        init=lambda key: init_theta(key, hidden_size, hidden_layers),
        transform=lambda theta, num_steps=None: _transform(theta, rule, learning_rate, weight_decay),
        config=config,
        reads="gradient",
    )


class Celo2Rule(NamedTuple):
    """How a direction is made; fields as the arguments of `celo2_base`."""

    orthogonalize: bool
    bias_correction: bool
    exp_mult: float | jax.Array


def init_theta(key: jax.Array, hidden_size: int, hidden_layers: int) -> ChannelMlp:
    """A random MLP of 30 channels and 3 outputs."""
    return init_channel_mlp(key, [NUM_CHANNELS, *[hidden_size] * hidden_layers, 3])


def descent_direction(
    mlp: ChannelMlp,
    rule: Celo2Rule,
    count: Int[Array, ""],
    gradient: Float[Array, "*S"],
    param: Float[Array, "*S"],
    accumulators: Accumulators,
) -> tuple[Float[Array, "*S"], Accumulators]:
    """The step of one tensor for a learning rate of 1, to be subtracted; `count` includes this update."""
    gradient = clip_gradient(gradient)
    decays = fixed_decays(_RMS_DECAY)
    accumulators = update_accumulators(accumulators, gradient, decays)
    corrected = _bias_corrected(accumulators, decays, count) if rule.bias_correction else None
    blocks = velo_blocks(mlp, gradient, param, accumulators, 1e-8, unfactored=False, corrected=corrected)
    # exp(0) needs no magnitude.
    is_scaled = not (isinstance(rule.exp_mult, int | float) and rule.exp_mult == 0)
    axes = (-2, -1) if gradient.ndim > 2 else None
    outputs = apply_channel_mlp(mlp, blocks, _EPSILON, axes, num_outputs=2 if is_scaled else 1)
    direction = outputs[0] * jnp.exp(rule.exp_mult * outputs[1]) if is_scaled else outputs[0]
    if rule.orthogonalize and gradient.ndim >= 2:
        direction = newton_schulz(direction)
    axes = tuple(range(gradient.ndim))[-2:]
    mean_square = jnp.mean(jnp.square(direction), axis=axes, keepdims=True)
    return direction * jax.lax.rsqrt(mean_square + _EPSILON), accumulators


def _bias_corrected(accumulators, decays, count):
    steps = count.astype(jnp.float32)

    def corrected(moment, decay):
        weight = 1 - decay**steps
        return moment / jnp.reshape(weight, weight.shape + (1,) * (moment.ndim - weight.ndim))

    momentum, rms, row, col = accumulators
    return Accumulators(
        momentum=corrected(momentum, decays.momentum),
        rms=rms / (1 - decays.rms**steps),
        row=corrected(row, decays.adafactor),
        col=None if col is None else corrected(col, decays.adafactor),
    )


def _transform(theta, rule, learning_rate, weight_decay):
    def init(params) -> Any:
        return Celo2BaseState(jnp.zeros((), jnp.int32), new_stacks(group_tensors(params), init_accumulators))

    def update(updates, state, params, **extra: Any):
        del extra
        groups, gradients, tensors = open_updates(updates, params)
        count = jnp.asarray(optax.safe_increment(state.num_updates))

        def step_tensor(gradient, param, accumulators):
            direction, accumulators = descent_direction(theta, rule, count, gradient, param, accumulators)
            return -learning_rate * (direction + weight_decay * param), accumulators

        steps, accumulators = map_tensors(step_tensor, gradients, tensors, state.accumulators, num_results=2)
        return close_updates(groups, steps), Celo2BaseState(count, accumulators)

    return checked_transform(init, update)
