"""Celo (Moudgil et al. 2025, arXiv 2501.12670): VeLO's rule at a hundredth of the meta-training.

    x <- x - lr * RMS(x) * step_mult * d * exp(exp_mult * s),     (d, s, -) = MLP(30 channels)
    MLP = mean_k(softmax(control)_k * MLP_k),     (control, log(10 lr)) = Linear(LSTM(how the training goes))

Beside VeLO (`hyper_v2`): nothing that the LSTM sees depends on the tensor, so all share its one state, the controls are
a softmax, and the rate is an exponential. The MLP is meta-trained first, with a rate of 1 (`phase=1`), then the LSTM
(`phase=2`). The released form has one MLP, so its controls say nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.architectures.hyper_v2 import init_mlp_stack, init_network, mix_and_step, parameter_scale
from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.per_parameter.adafac_features import init_accumulators, update_accumulators
from learned_opt.per_parameter.bounds import check_at_least_one
from learned_opt.per_parameter.channel_mlp import apply_channel_mlp
from learned_opt.per_parameter.checked_transform import checked_transform
from learned_opt.per_parameter.lstm import LstmState, init_lstm_state, linear, start
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
from learned_opt.per_parameter.velo_features import clip_gradient, fixed_decays, velo_blocks

if TYPE_CHECKING:
    from jaxtyping import Array, Int, PyTree

_BASE_RATE = 0.1


class CeloState(NamedTuple):
    """State of the transform.

    Attributes:
      num_updates: updates taken.
      accumulators: `Accumulators` by group of tensors, leaves [tensors, ...], float32.
      lstm: one row, for all tensors.
      loss_buffer: averages of the loss.
    """

    num_updates: Int[Array, ""]
    accumulators: PyTree
    lstm: LstmState
    loss_buffer: LossBuffer


def celo(
    lstm_hidden_size: int = 64,
    num_mlps: int = 1,
    hidden_size: int = 4,
    hidden_layers: int = 2,
    phase: int = 2,
    exp_mult: float | jax.Array = 1e-3,
    step_mult: float | jax.Array = 1e-3,
) -> LearnedOptimizer:
    """A single-machine learned optimizer reading gradients, the loss and the length of the training.

    Args:
      lstm_hidden_size: units of the LSTM.
      num_mlps: MLPs in the stack.
      hidden_size: units per hidden layer of each.
      hidden_layers: hidden layers of each.
      phase: 1: the rate is 1, ten times what an LSTM whose head says 0 gives; 2: the LSTM sets it.
      exp_mult: multiplies the log magnitude.
      step_mult: multiplies the step.

    Returns:
      The optimizer; its state holds 4 floats per parameter plus factored moments. `transform` needs `num_steps`, the
      updates of the whole training, and `update` needs `value`, the loss.

    Raises:
      ValueError: sizes below 1, or another phase; by `transform` without `num_steps`; by `update` without `params` or
        `value`.
    """
    check_at_least_one(
        lstm_hidden_size=lstm_hidden_size, num_mlps=num_mlps, hidden_size=hidden_size, hidden_layers=hidden_layers
    )
    if phase not in (1, 2):
        raise ValueError(f"phase={phase}: use 1 (the MLP alone) or 2 (with the LSTM's rate)")

    def init(key):
        stack_key, network_key = jax.random.split(key)
        return {
            "lstm_init_state": init_lstm_state(lstm_hidden_size),
            "rnn_params": init_network(network_key, NUM_FEATURES, lstm_hidden_size, num_mlps),
            "ff_mod_stack": init_mlp_stack(stack_key, num_mlps, hidden_size, hidden_layers),
        }

    def transform(theta, num_steps=None):
        check_num_steps(num_steps, "celo")
        return _transform(theta, num_steps, phase, exp_mult, step_mult)

    config = {
        "architecture": "celo",
        "lstm_hidden_size": lstm_hidden_size,
        "num_mlps": num_mlps,
        "hidden_size": hidden_size,
        "hidden_layers": hidden_layers,
        "phase": phase,
        "exp_mult": exp_mult,
        "step_mult": step_mult,
    }
    return LearnedOptimizer(init, transform, config, reads="gradient")


def scheduled_rate(rnn: Theta, lstm: LstmState) -> Array:
    """The rate that the LSTM sets, [rows of its state]."""
    return _BASE_RATE * jnp.exp(linear(rnn["step_size"], lstm.hidden)[:, 0])


def _transform(theta, num_steps, phase, exp_mult, step_mult):
    def init(params) -> Any:
        return CeloState(
            num_updates=jnp.zeros((), jnp.int32),
            accumulators=new_stacks(group_tensors(params), init_accumulators),
            lstm=start(theta["lstm_init_state"], 1),
            loss_buffer=init_loss_buffer(num_steps),
        )

    def update(updates, state, params, *, value=None, **extra: Any):
        del extra
        check_value(value, "celo")
        groups, gradients, tensors = open_updates(updates, params)
        rnn = theta["rnn_params"]
        loss_buffer = update_loss_buffer(state.loss_buffer, value, state.num_updates)
        lstm = mix_and_step(rnn, progress_features(loss_buffer, state.num_updates, num_steps)[None], state.lstm)
        shares = jax.nn.softmax(linear(rnn["rnn_to_controls"], lstm.hidden)[0])
        mlp = jax.tree.map(lambda leaf: jnp.tensordot(shares, leaf, axes=1) / leaf.shape[0], theta["ff_mod_stack"])
        rate = 1.0 if phase == 1 else scheduled_rate(rnn, lstm)[0]
        decays = fixed_decays()

        def step_tensor(gradient, param, accumulators):
            gradient = clip_gradient(gradient)
            accumulators = update_accumulators(accumulators, gradient, decays)
            blocks = velo_blocks(mlp, gradient, param, accumulators)
            direction, magnitude = apply_channel_mlp(mlp, blocks, epsilon=1e-5, num_outputs=2)
            size = rate * step_mult * parameter_scale(param)
            return -size * direction * jnp.exp(exp_mult * magnitude), accumulators

        steps, accumulators = map_tensors(step_tensor, gradients, tensors, state.accumulators, num_results=2)
        count = jnp.asarray(optax.safe_increment(state.num_updates))
        return close_updates(groups, steps), CeloState(count, accumulators, lstm, loss_buffer)

    return checked_transform(init, update)
