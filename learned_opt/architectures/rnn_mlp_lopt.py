"""RNN-MLP-LOpt: an LSTM over tensors and an MLP over parameters that talk to each other (Metz et al. 2020, arXiv
2009.11243).

    x <- x - step_mult * d * exp(exp_mult * s),     (d, s, message to LSTM) = MLP(channels; time; message to MLP)

Once an update the LSTM reads statistics of every tensor (its moments, norms and shape), the training and validation
loss, what its MLP said last (mean over the tensor) and what the LSTM said to all last (mean over tensors). Gradients
are clipped at ten times a running average of their root mean square. An update with `is_valid=True` is one whose
`value` is a validation loss: it is taken in, and nothing moves.

Deliberate deviation: before the first loss the bias correction of its average is 1 / 1e-8 and the average 0; we say
0. Compiled, the published form divides by zero there and returns NaN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.base import LearnedOptimizer
from learned_opt.per_parameter.adafac_features import TIME_SCALES
from learned_opt.per_parameter.bounds import check_at_least_one
from learned_opt.per_parameter.channel_mlp import Block, apply_channel_mlp, init_channel_mlp
from learned_opt.per_parameter.checked_transform import checked_transform
from learned_opt.per_parameter.loss_average import LossAverage, corrected_mean, init_loss_average, standardised
from learned_opt.per_parameter.loss_average import update_loss_average as average
from learned_opt.per_parameter.lstm import (
    LstmState,
    copies,
    init_linear,
    init_lstm,
    init_lstm_state,
    linear,
    lstm_step,
    start,
    truncated_normal,
)
from learned_opt.per_parameter.tensor_groups import (
    as_rows,
    close_updates,
    from_rows,
    group_tensors,
    map_tensors,
    new_stacks,
    open_updates,
)
from learned_opt.per_parameter.training_progress import check_value

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

_DECAYS = (0.5, 0.9, 0.99, 0.999, 0.9999)
_TRAIN_DECAY, _VALID_DECAY = 0.9, 0.95
_CLIP_DECAY, _CLIP_MULT = 0.99, 10.0
_NUM_STATISTICS = 18
_NUM_CHANNELS = 3 + 4 * len(_DECAYS)
_NUM_CONSTANTS = len(TIME_SCALES) + 3


class GradientClip(NamedTuple):
    """Running average of the root mean square of gradients; `time` is 1 at the start."""

    time: Float[Array, ""]
    average: Float[Array, ""]


class RnnMlpLoptState(NamedTuple):
    """State of the transform.

    Attributes:
      num_updates: updates taken, those with a validation loss included.
      accumulators: momenta and second moments by group of tensors, each [tensors, 5, *S], float32.
      lstm: one row a tensor.
      from_mlp: what each tensor's MLP said last, [tensors, size].
      from_lstm: what the LSTM said to all last.
      train_loss: average of the training loss.
      valid_loss: average of the validation loss.
      clip: of gradients.
    """

    num_updates: Int[Array, ""]
    accumulators: dict[str, tuple[Float[Array, "tensors 5 ..."], Float[Array, "tensors 5 ..."]]]
    lstm: LstmState
    from_mlp: Float[Array, "tensors size"]
    from_lstm: Float[Array, "size"]
    train_loss: LossAverage
    valid_loss: LossAverage
    clip: GradientClip


def rnn_mlp_lopt(
    lstm_hidden_size: int = 64,
    hidden_size: int = 32,
    hidden_layers: int = 2,
    from_mlp_size: int = 16,
    from_lstm_size: int = 18,
    to_mlp_size: int = 17,
    exp_mult: float | jax.Array = 1e-3,
    step_mult: float | jax.Array = 1e-3,
) -> LearnedOptimizer:
    """A single-machine learned optimizer reading gradients and losses.

    Args:
      lstm_hidden_size: units of the LSTM that takes one step a tensor.
      hidden_size: units per hidden layer of the MLP.
      hidden_layers: hidden layers of the MLP.
      from_mlp_size: numbers that an MLP says to the LSTM.
      from_lstm_size: numbers that the LSTM says to all tensors.
      to_mlp_size: numbers that the LSTM says to a tensor's MLP.
      exp_mult: multiplies the log magnitude.
      step_mult: multiplies the step.

    Returns:
      The optimizer; its state holds 10 floats per parameter. `update` needs `value`, the loss, and takes `is_valid`.

    Raises:
      ValueError: a size below 1; by `update` without `params` or `value`.
    """
    messages = {"from_mlp_size": from_mlp_size, "from_lstm_size": from_lstm_size, "to_mlp_size": to_mlp_size}
    check_at_least_one(
        lstm_hidden_size=lstm_hidden_size, hidden_size=hidden_size, hidden_layers=hidden_layers, **messages
    )
    sizes = [_NUM_CHANNELS + _NUM_CONSTANTS + to_mlp_size, *[hidden_size] * hidden_layers, 2 + from_mlp_size]

    def init(key):
        keys = jax.random.split(key, 6)
        return {
            "initial_from_lstm": truncated_normal(keys[0], (from_lstm_size,)),
            "initial_from_mlp": truncated_normal(keys[1], (from_mlp_size,)),
            "lstm_init_state": init_lstm_state(lstm_hidden_size),
            "lstm": init_lstm(keys[2], from_lstm_size + from_mlp_size + _NUM_STATISTICS, lstm_hidden_size),
            "rnn_to_ff": init_linear(keys[3], lstm_hidden_size, to_mlp_size),
            "rnn_to_in": init_linear(keys[4], lstm_hidden_size, from_lstm_size),
            "mlp": init_channel_mlp(keys[5], sizes),
        }

    config = {
        "architecture": "rnn_mlp_lopt",
        "lstm_hidden_size": lstm_hidden_size,
        "hidden_size": hidden_size,
        "hidden_layers": hidden_layers,
        **messages,
        "exp_mult": exp_mult,
        "step_mult": step_mult,
    }
    return LearnedOptimizer(
        init=init,
        transform=lambda theta, num_steps=None: _transform(theta, exp_mult, step_mult),
        config=config,
        reads="gradient",
    )


def _transform(theta, exp_mult, step_mult):
    def init(params):
        groups = group_tensors(params)

        def zeros(shape):
            return jnp.zeros((len(_DECAYS), *shape), jnp.float32)

        return RnnMlpLoptState(
            num_updates=jnp.zeros((), jnp.int32),
            accumulators=new_stacks(groups, lambda shape: (zeros(shape), zeros(shape))),
            lstm=start(theta["lstm_init_state"], groups.num_tensors),
            from_mlp=copies(theta["initial_from_mlp"], groups.num_tensors),
            from_lstm=jnp.array(theta["initial_from_lstm"]),
            train_loss=init_loss_average(),
            valid_loss=init_loss_average(),
            clip=GradientClip(jnp.ones((), jnp.float32), jnp.asarray(1 - _CLIP_DECAY, jnp.float32)),
        )

    def update(updates, state, params, *, value=None, is_valid: Any = False, **extra: Any):
        del extra
        check_value(value, "rnn_mlp_lopt")
        value = jnp.asarray(value).astype(jnp.float32)
        groups, gradients, tensors = open_updates(updates, params)
        if not groups.members:
            return updates, state
        outputs, trained = _train(theta, state, groups, gradients, tensors, value)
        validated = state._replace(
            num_updates=trained.num_updates, valid_loss=average(state.valid_loss, value, _VALID_DECAY)
        )
        steps = {name: -step_mult * d * jnp.exp(exp_mult * s) for name, (d, s) in outputs.items()}
        steps = {name: jnp.where(is_valid, 0.0, step) for name, step in steps.items()}
        new_state = jax.tree.map(lambda valid, train: jnp.where(is_valid, valid, train), validated, trained)
        return close_updates(groups, steps), new_state

    return checked_transform(init, update)


def _train(theta, state, groups, gradients, tensors, value):
    """({group: (d, s)}, state) after an update with a training loss."""
    train_loss = average(state.train_loss, value, _TRAIN_DECAY)
    losses = jnp.stack(
        [
            standardised(train_loss, value, _TRAIN_DECAY),
            standardised(train_loss, corrected_mean(state.valid_loss, _VALID_DECAY), _TRAIN_DECAY),
        ]
    )
    gradients, clip = _clip(state.clip, groups, gradients)
    accumulators = map_tensors(_accumulate, gradients, state.accumulators)
    rows = as_rows(groups, map_tensors(_statistics, gradients, tensors, accumulators))

    def for_all(x):
        return jnp.tile(x[None], (groups.num_tensors, 1))

    # In the published order, which is alphabetical.
    inputs = [for_all(state.from_lstm), state.from_mlp, rows[:, :13], for_all(losses), rows[:, 13:]]
    lstm = lstm_step(theta["lstm"], jnp.concatenate(inputs, axis=1), state.lstm)
    time = _time_features(state.num_updates)
    log_num_tensors = jnp.log(jnp.asarray(groups.num_tensors, jnp.float32)) - 1

    def evaluate(gradient, param, moments, message):
        constants = jnp.concatenate([time, jnp.stack([log_num_tensors, *_sizes(param)]), message])
        outputs = _evaluate(theta["mlp"], gradient, param, moments, constants)
        return outputs[0], outputs[1], jnp.mean(outputs[2:], axis=tuple(range(1, outputs.ndim)))

    to_mlp = from_rows(groups, linear(theta["rnn_to_ff"], lstm.hidden))
    direction, magnitude, from_mlp = map_tensors(evaluate, gradients, tensors, accumulators, to_mlp, num_results=3)
    new_state = RnnMlpLoptState(
        num_updates=jnp.asarray(optax.safe_increment(state.num_updates)),
        accumulators=accumulators,
        lstm=lstm,
        from_mlp=as_rows(groups, from_mlp),
        from_lstm=jnp.mean(linear(theta["rnn_to_in"], lstm.hidden), axis=0),
        train_loss=train_loss,
        valid_loss=state.valid_loss,
        clip=clip,
    )
    return {name: (direction[name], magnitude[name]) for name in direction}, new_state


def _clip(clip, groups, gradients):
    """Gradients clipped by value, and the clip of the next update."""
    decay = jnp.asarray(_CLIP_DECAY, jnp.float32)
    limit = clip.average / (1 - decay**clip.time) * _CLIP_MULT
    gradients = map_tensors(lambda gradient: jnp.clip(gradient, -limit, limit), gradients)
    mean_square = jnp.mean(as_rows(groups, map_tensors(lambda gradient: jnp.mean(jnp.square(gradient)), gradients)))
    average = decay * clip.average + (1 - decay) * jnp.sqrt(1e-8 + mean_square)
    return gradients, GradientClip(clip.time + 1, average)


def _accumulate(gradient, moments):
    decay = jnp.asarray(_DECAYS, jnp.float32).reshape((-1,) + (1,) * gradient.ndim)
    momenta, squares = moments
    momenta = decay * momenta + (1 - decay) * gradient[None]
    return momenta, decay * squares + (1 - decay) * jnp.square(gradient)[None]


def _statistics(gradient, param, moments) -> Float[Array, "16"]:
    """Of a tensor, over its elements and decays: 13 that come before the losses in alphabetical order, 3 after."""
    (mean_m, var_m), (mean_r, var_r), (mean_p, var_p) = map(_mean_and_variance, (*moments, param))
    shape = (*param.shape[:4], *[1] * (4 - param.ndim))
    return jnp.concatenate(
        [
            _log_size(_norm(gradient))[None],
            jnp.asarray([1.0 if param.ndim == 0 else -1.0], jnp.float32),
            jnp.stack([_log_size(mean_m), jnp.sign(mean_m), _log_size(mean_r), jnp.sign(mean_r)]),
            jnp.stack([_log_size(mean_p), jnp.sign(mean_p), _log_size(_norm(param))]),
            jnp.log(jnp.asarray(shape, jnp.float32)) - 1,
            jnp.stack([_log_size(var_m), _log_size(var_r), _log_size(var_p)]),
        ]
    )


def _evaluate(mlp, gradient, param, moments, constants) -> Float[Array, "outputs *S"]:
    """The MLP of one tensor; `constants` are inputs that are the same for every parameter."""
    momenta, squares = moments
    inverse = jax.lax.rsqrt(squares + 1e-6)
    first = jnp.stack([gradient, param, jnp.log(jnp.abs(param) + 1e-8)])
    channels = jnp.concatenate([first, momenta, squares, momenta * inverse, inverse])
    bias = mlp["b0"] + constants @ mlp["w0"][_NUM_CHANNELS:]
    return apply_channel_mlp(mlp, [Block(mlp["w0"][:_NUM_CHANNELS], channels)], epsilon=1e-5, bias=bias)


def _sizes(param):
    return jnp.log(_norm(param) + 1e-8), jnp.log(jnp.asarray(param.size, jnp.float32))


def _time_features(count):
    return jnp.sin(count.astype(jnp.float32) / (jnp.asarray(TIME_SCALES, jnp.float32) * jnp.pi))


def _mean_and_variance(x):
    mean = jnp.mean(x)
    return mean, jnp.mean(jnp.square(x - mean))


def _norm(x):
    return jnp.sqrt(jnp.sum(jnp.square(x)))


def _log_size(x):
    return jnp.clip(jnp.log(1e-8 + jnp.abs(x)), -5, 5)
