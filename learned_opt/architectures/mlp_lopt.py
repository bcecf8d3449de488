"""MLPLOpt: a per-parameter MLP over six momenta (Metz et al. 2019, arXiv 1810.10180; as in Metz et al. 2022, arXiv
2203.11860).

    x <- x - step_mult * d * exp(exp_mult * s),     (d, s) = MLP(g, x, six momenta; time)

Gradient, parameter and momenta (decays .1, .5, .9, .99, .999, .9999) are divided by their root mean square over the
tensor; the time enters as tanh(i / T - 1) on 11 scales.

Deliberate deviation: gradients are clipped to +-1e9, so that their squares stay finite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.base import LearnedOptimizer
from learned_opt.per_parameter.adafac_features import LARGEST_GRADIENT, TIME_SCALES, time_features
from learned_opt.per_parameter.bounds import check_at_least_one
from learned_opt.per_parameter.channel_mlp import Block, apply_channel_mlp, init_channel_mlp
from learned_opt.per_parameter.checked_transform import checked_transform
from learned_opt.per_parameter.tensor_groups import close_updates, group_tensors, map_tensors, new_stacks, open_updates

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

_DECAYS = (0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)
_NUM_CHANNELS = 2 + len(_DECAYS)


class MlpLoptState(NamedTuple):
    """State of the transform.

    Attributes:
      num_updates: updates taken.
      accumulators: momenta by group of tensors, [tensors, 6, *S], float32.
    """

    num_updates: Int[Array, ""]
    accumulators: dict[str, Float[Array, "tensors 6 ..."]]


def mlp_lopt(
    hidden_size: int = 32,
    hidden_layers: int = 2,
    exp_mult: float | jax.Array = 1e-3,
    step_mult: float | jax.Array = 1e-3,
) -> LearnedOptimizer:
    """A single-machine learned optimizer reading gradients.

    Args:
      hidden_size: units per hidden layer.
      hidden_layers: hidden layers of the MLP.
      exp_mult: multiplies the log magnitude.
      step_mult: multiplies the step.

    Returns:
      The optimizer; its state holds 6 floats per parameter.

    Raises:
      ValueError: an empty MLP; by `update` without `params`.
    """
    check_at_least_one(hidden_size=hidden_size, hidden_layers=hidden_layers)
    sizes = [_NUM_CHANNELS + len(TIME_SCALES), *[hidden_size] * hidden_layers, 2]
    config = {
        "architecture": "mlp_lopt",
        "hidden_size": hidden_size,
        "hidden_layers": hidden_layers,
        "exp_mult": exp_mult,
        "step_mult": step_mult,
    }
    return LearnedOptimizer(
        init=lambda key: init_channel_mlp(key, sizes),
        transform=lambda theta, num_steps=None: _transform(theta, exp_mult, step_mult),
        config=config,
        reads="gradient",
    )


def _transform(theta, exp_mult, step_mult):
    decays = jnp.asarray(_DECAYS, jnp.float32)

    def init(params):
        momenta = new_stacks(group_tensors(params), lambda shape: jnp.zeros((len(_DECAYS), *shape), jnp.float32))
        return MlpLoptState(jnp.zeros((), jnp.int32), momenta)

    def update(updates, state, params, **extra: Any):
        del extra
        groups, gradients, tensors = open_updates(updates, params)
        channel_weights, time_weights = theta["w0"][:_NUM_CHANNELS], theta["w0"][_NUM_CHANNELS:]
        bias = theta["b0"] + time_features(state.num_updates) @ time_weights

        def step_tensor(gradient, param, momenta):
            gradient = jnp.clip(gradient, -LARGEST_GRADIENT, LARGEST_GRADIENT)
            decay = decays.reshape((-1,) + (1,) * gradient.ndim)
            momenta = decay * momenta + (1 - decay) * gradient[None]
            channels = Block(channel_weights, jnp.concatenate([jnp.stack([gradient, param]), momenta]))
            direction, magnitude = apply_channel_mlp(theta, [channels], epsilon=1e-5, bias=bias)
            return -step_mult * direction * jnp.exp(exp_mult * magnitude), momenta

        steps, accumulators = map_tensors(step_tensor, gradients, tensors, state.accumulators, num_results=2)
        count = jnp.asarray(optax.safe_increment(state.num_updates))
        return close_updates(groups, steps), MlpLoptState(count, accumulators)

    return checked_transform(init, update)
