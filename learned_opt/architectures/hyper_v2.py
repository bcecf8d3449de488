"""HyperV2, the architecture of VeLO (Metz et al. 2022, arXiv 2211.09760): an LSTM over tensors writes the MLP of each.

    x <- x - lr * RMS(x) * step_mult * d * exp(exp_mult * s),     (d, s, -) = MLP_tensor(30 channels)
    MLP_tensor = interpolation * mean_k(control_k * MLP_k),       (control, lr) = Linear(LSTM(features of the tensor))

RMS(x) = sqrt(mean(x^2) + 1e-9). The features of a tensor are statistics of its moments in units of RMS(x), its rank,
and how the training goes (`training_progress`); a maximum over tensors lets them see each other. `num_mlps` is the
number of MLPs in the stack that the controls mix.

Published sizes: 128 units and 64 MLPs (162,305 meta-parameters) by default, 512 and 256 (2,320,385) in VeLO. As
published, theta holds a mixing layer that nothing reads ("linear").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt.base import LearnedOptimizer, Theta
from learned_opt.per_parameter.adafac_features import init_accumulators, update_accumulators
from learned_opt.per_parameter.bounds import check_at_least_one
from learned_opt.per_parameter.channel_mlp import apply_channel_mlp, init_channel_mlp
from learned_opt.per_parameter.checked_transform import checked_transform
from learned_opt.per_parameter.entry_means import entry_means
from learned_opt.per_parameter.lstm import LstmState, init_linear, init_lstm, init_lstm_state, linear, lstm_step, start
from learned_opt.per_parameter.mlp import is_large
from learned_opt.per_parameter.tensor_groups import (
    as_rows,
    close_updates,
    from_rows,
    group_tensors,
    map_tensors,
    new_stacks,
    open_updates,
)
from learned_opt.per_parameter.training_progress import (
    NUM_FEATURES,
    LossBuffer,
    check_num_steps,
    check_value,
    init_loss_buffer,
    progress_features,
    update_loss_buffer,
)
from learned_opt.per_parameter.velo_features import NUM_CHANNELS, clip_gradient, fixed_decays, velo_blocks

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, PyTree

_NUM_RANKS = 5
_NUM_STATISTICS = 7
_BUGGED_HORIZON = 10


class HyperV2State(NamedTuple):
    """State of the transform.

    Attributes:
      num_updates: updates taken.
      accumulators: `Accumulators` by group of tensors, leaves [tensors, ...], float32.
      lstm: one row a tensor.
      loss_buffer: averages of the loss.
    """

    num_updates: Int[Array, ""]
    accumulators: PyTree
    lstm: LstmState
    loss_buffer: LossBuffer


def init_network(key: jax.Array, num_features: int, lstm_hidden_size: int, num_mlps: int) -> Theta:
    """The LSTM with its mixing layers and heads; `num_features` are those of a tensor."""
    keys = jax.random.split(key, 6)
    mixing = [init_linear(k, num_features, lstm_hidden_size) for k in keys[:3]]
    return {
        **dict(zip(("linear", "linear_1", "linear_2"), mixing, strict=True)),
        "lstm": init_lstm(keys[3], lstm_hidden_size, lstm_hidden_size),
        "rnn_to_controls": init_linear(keys[4], lstm_hidden_size, num_mlps),
        "step_size": init_linear(keys[5], lstm_hidden_size, 1),
    }


def mix_and_step(rnn: Theta, rows: Float[Array, "tensors features"], state: LstmState) -> LstmState:
    """One step of the LSTM for every tensor, each of which sees the largest of all in a first layer."""
    largest = jnp.max(jax.nn.relu(linear(rnn["linear_1"], rows)), axis=0, keepdims=True)
    return lstm_step(rnn["lstm"], linear(rnn["linear_2"], rows) + largest, state)


def init_mlp_stack(key: jax.Array, num_mlps: int, hidden_size: int, hidden_layers: int) -> Theta:
    """`num_mlps` MLPs of 30 channels and 3 outputs (the third unread), stacked on the first axis."""
    sizes = [NUM_CHANNELS, *[hidden_size] * hidden_layers, 3]
    return jax.vmap(lambda key: init_channel_mlp(key, sizes))(jax.random.split(key, num_mlps))


def parameter_scale(param: Float[Array, "*S"]) -> Float[Array, ""]:
    """Root mean square of a tensor, sqrt(1e-9) for zeros."""
    return jnp.sqrt(jnp.mean(jnp.square(param)) + 1e-9)


def hyper_v2(
    lstm_hidden_size: int = 128,
    num_mlps: int = 64,
    hidden_size: int = 4,
    hidden_layers: int = 2,
    exp_mult: float | jax.Array = 1e-3,
    step_mult: float | jax.Array = 1e-3,
    interpolation: float = 100.0,
    keep_lstm_state: bool = True,
    loss_horizon: bool = True,
) -> LearnedOptimizer:
    """A single-machine learned optimizer reading gradients, the loss and the length of the training.

    Args:
      lstm_hidden_size: units of the LSTM that takes one step a tensor.
      num_mlps: MLPs in the stack.
      hidden_size: units per hidden layer of each.
      hidden_layers: hidden layers of each.
      exp_mult: multiplies the log magnitude.
      step_mult: multiplies the step.
      interpolation: multiplies the mixed MLP.
      keep_lstm_state: False: every update begins with the initial LSTM state, as in some published checkpoints.
      loss_horizon: False: the loss averages are 10 updates long whatever `num_steps` is, as in some of them.

    Returns:
      The optimizer; its state holds 4 floats per parameter plus factored moments. `transform` needs `num_steps`, the
      updates of the whole training, and `update` needs `value`, the loss.

    Raises:
      ValueError: sizes below 1; by `transform` without `num_steps`; by `update` without `params` or `value`.
    """
    check_at_least_one(
        lstm_hidden_size=lstm_hidden_size, num_mlps=num_mlps, hidden_size=hidden_size, hidden_layers=hidden_layers
    )

    def init(key):
        stack_key, network_key = jax.random.split(key)
        return {
            "lstm_init_state": init_lstm_state(lstm_hidden_size),
            "rnn_params": init_network(
                network_key, NUM_FEATURES + _NUM_RANKS + _NUM_STATISTICS, lstm_hidden_size, num_mlps
            ),
            "ff_mod_stack": init_mlp_stack(stack_key, num_mlps, hidden_size, hidden_layers),
        }

    def transform(theta, num_steps=None):
        check_num_steps(num_steps, "hyper_v2")
        return _transform(
            theta,
            num_steps,
            exp_mult=exp_mult,
            step_mult=step_mult,
            interpolation=interpolation,
            keep_lstm_state=keep_lstm_state,
            loss_horizon=loss_horizon,
        )

    config = {
        "architecture": "hyper_v2",
        "lstm_hidden_size": lstm_hidden_size,
        "num_mlps": num_mlps,
        "hidden_size": hidden_size,
        "hidden_layers": hidden_layers,
        "exp_mult": exp_mult,
        "step_mult": step_mult,
        "interpolation": interpolation,
        "keep_lstm_state": keep_lstm_state,
        "loss_horizon": loss_horizon,
    }
    return LearnedOptimizer(init, transform, config, reads="gradient")


def _transform(theta, num_steps, *, exp_mult, step_mult, interpolation, keep_lstm_state, loss_horizon):
    def init(params) -> Any:
        groups = group_tensors(params)
        return HyperV2State(
            num_updates=jnp.zeros((), jnp.int32),
            accumulators=new_stacks(groups, init_accumulators),
            lstm=start(theta["lstm_init_state"], groups.num_tensors),
            loss_buffer=init_loss_buffer(num_steps if loss_horizon else _BUGGED_HORIZON),
        )

    def update(updates, state, params, *, value=None, **extra: Any):
        del extra
        check_value(value, "hyper_v2")
        groups, gradients, tensors = open_updates(updates, params)
        if not groups.members:
            return updates, state
        loss_buffer = update_loss_buffer(state.loss_buffer, value, state.num_updates)
        rows = as_rows(groups, map_tensors(_statistics, tensors, state.accumulators))
        progress = progress_features(loss_buffer, state.num_updates, num_steps)
        progress = jnp.tile(progress[None], (groups.num_tensors, 1))
        rnn = theta["rnn_params"]
        lstm = mix_and_step(rnn, jnp.concatenate([progress, rows], axis=1), state.lstm)
        controls = linear(rnn["rnn_to_controls"], lstm.hidden)
        rates = linear(rnn["step_size"], lstm.hidden)[:, 0]
        mlps = jax.tree.map(
            lambda leaf: jnp.tensordot(controls, leaf, axes=1) * (interpolation / leaf.shape[0]), theta["ff_mod_stack"]
        )
        decays = fixed_decays()

        def step_tensor(gradient, param, accumulators, own):
            mlp, rate = own
            gradient = clip_gradient(gradient)
            accumulators = update_accumulators(accumulators, gradient, decays)
            blocks = velo_blocks(mlp, gradient, param, accumulators)
            direction, magnitude = apply_channel_mlp(mlp, blocks, epsilon=1e-5, num_outputs=2)
            size = rate * step_mult * parameter_scale(param)
            return -size * direction * jnp.exp(exp_mult * magnitude), accumulators

        own = from_rows(groups, (mlps, rates))
        steps, accumulators = map_tensors(step_tensor, gradients, tensors, state.accumulators, own, num_results=2)
        count = jnp.asarray(optax.safe_increment(state.num_updates))
        next_lstm = lstm if keep_lstm_state else state.lstm
        return close_updates(groups, steps), HyperV2State(count, accumulators, next_lstm, loss_buffer)

    return checked_transform(init, update)


def _statistics(param, accumulators) -> Float[Array, "12"]:
    """What the LSTM knows of a tensor: mean of r, rank one-hot, variance of m (3), spread of r (3), in logarithms.

    As published: r too is multiplied by the first power of 1 / RMS(x), and its spread is taken about the means of m.
    """
    inverse = jax.lax.rsqrt(jnp.maximum(1e-9, jnp.mean(jnp.square(param))))
    momentum, rms = accumulators.momentum, accumulators.rms
    mean_momentum = jnp.mean(momentum, axis=tuple(range(1, momentum.ndim))) * inverse
    rank = sum(size > 1 for size in param.shape)
    one_hot = jnp.asarray(np.arange(_NUM_RANKS) == rank, jnp.float32)

    def spreads(rms, *momentum):
        of_momentum = [jnp.square(m * inverse - mean) for m, mean in zip(momentum, mean_momentum, strict=True)]
        return (of_momentum + [jnp.square(rms * inverse - mean) for mean in mean_momentum],)

    if is_large(param.shape):
        spread = entry_means(spreads, [rms, *momentum], param.shape)
    else:
        spread = jnp.stack([jnp.mean(x) for x in spreads(rms, *momentum)[0]])
    return jnp.concatenate([_log_size(jnp.mean(rms)[None] * inverse), one_hot, _log_size(spread)])


def _log_size(x):
    return 0.5 * jnp.clip(jnp.log(1e-8 + jnp.abs(10 * x)), -5, 5)
