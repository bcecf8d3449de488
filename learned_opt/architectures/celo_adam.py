"""Celo-Adam (Moudgil et al. 2025, arXiv 2501.12670): Adam whose rate Celo's LSTM sets.

    x <- x - lr * step_mult * mhat / (eps + sqrt(rhat + 1e-10)),     log(10 lr) = Linear(LSTM(how the training goes))

with Adam's bias-corrected moments (decays .9, .999). One rate for all tensors; as published, theta holds a mixing layer
that nothing reads ("linear").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.architectures.celo import scheduled_rate
from learned_opt.architectures.hyper_v2 import init_network, mix_and_step
from learned_opt.base import LearnedOptimizer
from learned_opt.per_parameter.bounds import check_at_least_one
from learned_opt.per_parameter.checked_transform import checked_transform
from learned_opt.per_parameter.lstm import LstmState, init_lstm_state, start
from learned_opt.per_parameter.moments import Moments, corrected_moments, init_moments, update_moments
from learned_opt.per_parameter.tensor_groups import close_updates, group_tensors, map_tensors, new_stacks, open_updates
from learned_opt.per_parameter.training_progress import (
    NUM_FEATURES,
    LossBuffer,
    check_num_steps,
    check_value,
    init_loss_buffer,
    progress_features,
    update_loss_buffer,
)
from learned_opt.per_parameter.velo_features import clip_gradient

if TYPE_CHECKING:
    from jaxtyping import Array, Int

_BETA1, _BETA2 = 0.9, 0.999


class CeloAdamState(NamedTuple):
    """State of the transform.

    Attributes:
      num_updates: updates taken.
      accumulators: Adam's moments by group of tensors, leaves [tensors, *S], float32.
      lstm: one row, for all tensors.
      loss_buffer: averages of the loss.
    """

    num_updates: Int[Array, ""]
    accumulators: dict[str, Moments]
    lstm: LstmState
    loss_buffer: LossBuffer


def celo_adam(
    lstm_hidden_size: int = 64, step_mult: float | jax.Array = 1e-3, epsilon: float = 1e-8
) -> LearnedOptimizer:
    """A single-machine learned optimizer reading gradients, the loss and the length of the training.

    Args:
      lstm_hidden_size: units of the LSTM.
      step_mult: multiplies the step.
      epsilon: eps.

    Returns:
      The optimizer; its state holds 2 floats per parameter. `transform` needs `num_steps`, the updates of the whole
      training, and `update` needs `value`, the loss.

    Raises:
      ValueError: no units; by `transform` without `num_steps`; by `update` without `params` or `value`.
    """
    check_at_least_one(lstm_hidden_size=lstm_hidden_size)

    def init(key):
        network = init_network(key, NUM_FEATURES, lstm_hidden_size, num_mlps=1)
        del network["rnn_to_controls"]
        return {"lstm_init_state": init_lstm_state(lstm_hidden_size), "rnn_params": network}

    def transform(theta, num_steps=None):
        check_num_steps(num_steps, "celo_adam")
        return _transform(theta, num_steps, step_mult, epsilon)

    config = {
        "architecture": "celo_adam",
        "lstm_hidden_size": lstm_hidden_size,
        "step_mult": step_mult,
        "epsilon": epsilon,
    }
    return LearnedOptimizer(init, transform, config, reads="gradient")


def _transform(theta, num_steps, step_mult, epsilon):
    def init(params):
        return CeloAdamState(
            num_updates=jnp.zeros((), jnp.int32),
            accumulators=new_stacks(group_tensors(params), init_moments),
            lstm=start(theta["lstm_init_state"], 1),
            loss_buffer=init_loss_buffer(num_steps),
        )

    def update(updates, state, params, *, value=None, **extra: Any):
        del extra
        check_value(value, "celo_adam")
        groups, gradients, _ = open_updates(updates, params)
        rnn = theta["rnn_params"]
        loss_buffer = update_loss_buffer(state.loss_buffer, value, state.num_updates)
        lstm = mix_and_step(rnn, progress_features(loss_buffer, state.num_updates, num_steps)[None], state.lstm)
        rate = scheduled_rate(rnn, lstm)[0] * step_mult
        count = jnp.asarray(optax.safe_increment(state.num_updates))

        def step_tensor(gradient, moments):
            moments = update_moments(moments, clip_gradient(gradient), _BETA1, _BETA2)
            mean, square = corrected_moments(moments, count, _BETA1, _BETA2)
            return -rate * mean / (epsilon + jnp.sqrt(square + 1e-10)), moments

        steps, accumulators = map_tensors(step_tensor, gradients, state.accumulators, num_results=2)
        return close_updates(groups, steps), CeloAdamState(count, accumulators, lstm, loss_buffer)

    return checked_transform(init, update)
