"""NN-Adam: Adam whose four numbers an LSTM sets, tensor by tensor (Metz et al. 2022, arXiv 2203.11860).

    x <- x - lr (1 + eps) / (eps + sqrt(r + 1e-10)) m,     h <- clip(h + output_scale * Linear(LSTM(statistics)))

without bias correction. Per tensor h keeps .1 log lr, .1 log(1 - beta1), .1 log(1 - beta2) and .1 log eps; what the
LSTM says in one update acts from the next on. As published, gradients are clipped to +-1000, and `decay_strength` pulls
h towards where it began.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.base import LearnedOptimizer
from learned_opt.per_parameter.bounds import check_at_least_one, check_between
from learned_opt.per_parameter.checked_transform import checked_transform
from learned_opt.per_parameter.lstm import LstmState, init_lstm, init_lstm_state, linear, lstm_step, start
from learned_opt.per_parameter.moments import Moments, init_moments, update_moments
from learned_opt.per_parameter.tensor_groups import (
    as_rows,
    close_updates,
    from_rows,
    group_tensors,
    map_tensors,
    new_stacks,
    open_updates,
)
from learned_opt.per_parameter.velo_features import clip_gradient

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

_NUM_STATISTICS = 19


class Hyperparameters(NamedTuple):
    """Of every tensor, [tensors] each: `lr` and `epsilon` as .1 log(value), the betas as .1 log(1 - value)."""

    lr: Float[Array, "tensors"]
    beta1: Float[Array, "tensors"]
    beta2: Float[Array, "tensors"]
    epsilon: Float[Array, "tensors"]


class NNAdamState(NamedTuple):
    """State of the transform.

    Attributes:
      num_updates: updates taken.
      accumulators: Adam's moments by group of tensors, leaves [tensors, *S], float32.
      hyperparameters: of every tensor.
      lstm: one row a tensor.
    """

    num_updates: Int[Array, ""]
    accumulators: dict[str, Moments]
    hyperparameters: Hyperparameters
    lstm: LstmState


def nn_adam(
    lstm_hidden_size: int = 32,
    output_scale: float | jax.Array = 0.01,
    decay_strength: float | jax.Array = 0.0,
    initial_learning_rate: float = 1e-4,
    initial_beta1: float = 0.9,
    initial_beta2: float = 0.999,
    initial_epsilon: float = 1e-8,
) -> LearnedOptimizer:
    """A single-machine learned optimizer reading gradients.

    Args:
      lstm_hidden_size: units of the LSTM that takes one step a tensor.
      output_scale: multiplies what the LSTM adds.
      decay_strength: share of the way back to the first values that every update goes.
      initial_learning_rate: before meta-training, as are the following.
      initial_beta1: decay of the mean.
      initial_beta2: decay of the second moment.
      initial_epsilon: eps.

    Returns:
      The optimizer; its state holds 2 floats per parameter.

    Raises:
      ValueError: a number out of bounds; by `update` without `params`.
    """
    check_at_least_one(lstm_hidden_size=lstm_hidden_size)
    check_between(0, math.inf, initial_learning_rate=initial_learning_rate, initial_epsilon=initial_epsilon)
    check_between(-math.inf, 1, initial_beta1=initial_beta1, initial_beta2=initial_beta2)

    def init(key):
        values = Hyperparameters(
            *(jnp.float32(x) for x in (initial_learning_rate, initial_beta1, initial_beta2, initial_epsilon))
        )
        return {
            "lstm_init_state": init_lstm_state(lstm_hidden_size),
            "lstm": init_lstm(key, _NUM_STATISTICS, lstm_hidden_size),
            "rnn_to_controls": {"w": jnp.zeros((lstm_hidden_size, len(values))), "b": jnp.zeros(len(values))},
            "hyperparameters": _stored(values)._asdict(),
        }

    config = {
        "architecture": "nn_adam",
        "lstm_hidden_size": lstm_hidden_size,
        "output_scale": output_scale,
        "decay_strength": decay_strength,
        "initial_learning_rate": initial_learning_rate,
        "initial_beta1": initial_beta1,
        "initial_beta2": initial_beta2,
        "initial_epsilon": initial_epsilon,
    }
    return LearnedOptimizer(
        init=init,
        transform=lambda theta, num_steps=None: _transform(theta, output_scale, decay_strength),
        config=config,
        reads="gradient",
    )


def _transform(theta, output_scale, decay_strength):
    first = Hyperparameters(**theta["hyperparameters"])

    def init(params):
        groups = group_tensors(params)
        return NNAdamState(
            num_updates=jnp.zeros((), jnp.int32),
            accumulators=new_stacks(groups, init_moments),
            hyperparameters=Hyperparameters(*(jnp.full(groups.num_tensors, x) for x in first)),
            lstm=start(theta["lstm_init_state"], groups.num_tensors),
        )

    def update(updates, state, params, **extra: Any):
        del extra
        groups, gradients, tensors = open_updates(updates, params)
        if not groups.members:
            return updates, state
        stored = state.hyperparameters

        def step_tensor(gradient, param, moments, values):
            gradient = clip_gradient(gradient)
            moments = update_moments(moments, gradient, values.beta1, values.beta2)
            scale = values.lr * (1 + values.epsilon) / (values.epsilon + jnp.sqrt(moments.square + 1e-10))
            return -scale * moments.mean, moments, _statistics(gradient, param, moments)

        steps, accumulators, statistics = map_tensors(
            step_tensor, gradients, tensors, state.accumulators, from_rows(groups, _values(stored)), num_results=3
        )
        lstm = lstm_step(theta["lstm"], _lstm_inputs(as_rows(groups, statistics), stored), state.lstm)
        change = output_scale * linear(theta["rnn_to_controls"], lstm.hidden)
        moved = [x + change[:, i] for i, x in enumerate(stored)]
        moved = [x - decay_strength * (x - start) for x, start in zip(moved, first, strict=True)]
        count = jnp.asarray(optax.safe_increment(state.num_updates))
        hyperparameters = _stored(_values(Hyperparameters(*moved)))
        return close_updates(groups, steps), NNAdamState(count, accumulators, hyperparameters, lstm)

    return checked_transform(init, update)


def _values(stored: Hyperparameters) -> Hyperparameters:
    """The numbers themselves, within their bounds."""
    lr, beta1, beta2, epsilon = stored
    return Hyperparameters(
        lr=jnp.clip(jnp.exp(10 * lr), 1e-8, 1e3),
        beta1=1 - jnp.exp(jnp.clip(10 * beta1, -10, 0)),
        beta2=1 - jnp.exp(jnp.clip(10 * beta2, -10, 0)),
        epsilon=jnp.clip(jnp.exp(10 * epsilon), 1e-11, 1e4),
    )


def _stored(values: Hyperparameters) -> Hyperparameters:
    lr, beta1, beta2, epsilon = values
    return Hyperparameters(*(0.1 * jnp.log(x) for x in (lr, 1 - beta1, 1 - beta2, epsilon)))


def _statistics(gradient, param, moments) -> Float[Array, "15"]:
    """Signs and sizes of a tensor's means and variances, in the published order (alphabetical)."""
    mean, square = moments
    (mean_g, var_g), (mean_m, var_m), (mean_p, var_p), (mean_r, var_r) = map(
        _moments_of, (gradient, mean, param, square)
    )
    rank = gradient.ndim
    return jnp.stack(
        [
            jnp.asarray(1.0 if rank == 1 else -1.0, jnp.float32),
            jnp.asarray(1.0 if rank == 0 else -1.0, jnp.float32),
            _log_size(mean_g),
            jnp.sign(mean_g),
            _log_size(jnp.mean(jnp.abs(gradient))),
            _log_size(mean_m),
            jnp.sign(mean_m),
            _log_size(mean_p),
            jnp.sign(mean_p),
            _log_size(mean_r),
            jnp.sign(mean_r),
            *map(_log_size, (var_g, var_m, var_p, var_r)),
        ]
    )


def _lstm_inputs(statistics, stored):
    """Both together, in alphabetical order: beta1, beta2, epsilon, the two flags, lr, the rest."""
    lr, beta1, beta2, epsilon = (0.2 * jnp.clip(x, -5, 5)[:, None] for x in stored)
    return jnp.concatenate([beta1, beta2, epsilon, statistics[:, :2], lr, statistics[:, 2:]], axis=1)


def _moments_of(x):
    mean = jnp.mean(x)
    return mean, jnp.mean(jnp.square(x - mean))


def _log_size(x):
    return 0.5 * jnp.clip(jnp.log(1e-8 + jnp.abs(x)), -5, 5)
