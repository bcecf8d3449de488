"""Nero (Liu, Bernstein, Meister & Yue 2021, arXiv 2102.07227): steps of a fixed angle, neuron by neuron.

    v <- b2 v + (1 - b2) |g|^2                          of each neuron (one number), or entry of a vector
    y <- y - lr s g / sqrt(v / (1 - b2^t))
    y <- (y - mean(y)) / |y - mean(y)|                  of each neuron of a matrix

A neuron is what leads to one output: all entries of a tensor that share their last index; one of a single entry, which
less its mean is nothing, is an entry of a vector. s is 1 for tensors whose
neurons are held at norm 1, and for vectors and scalars, which are not, the mean size of their entries when training
began (0.01 where that is zero). The memory is one number a neuron, no momentum and no weight decay.

The published code projects the initial weights before the first gradient; a transform cannot, so the first step does
it. Between rounds of local SGD the average of the workers is not projected, until the next local step. A neuron of
zeros stays one until it has moved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.optimizers.learning_rate import LearningRate, rate_at

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, PyTree

SIZE_OF_ZEROS = 0.01
"""s of a vector of zeros."""


class NeroState(NamedTuple):
    """State of `nero`, float32.

    Attributes:
      count: steps taken.
      second_moment: v, [1, ..., outputs] of a tensor with two axes or more, else the tensor's shape.
      size: s, one number a tensor.
    """

    count: Int[Array, ""]
    second_moment: PyTree
    size: PyTree


def nero(learning_rate: LearningRate, b2: float | Array = 0.999) -> optax.GradientTransformation:
    """Builds the transform; its `update` needs `params`.

    Args:
      learning_rate: the angle of a step, in radians, of a neuron at norm 1; 0.01 in the paper. A number, a traced
        scalar or a schedule over steps.
      b2: decay of the squared norms of the gradient.
    """

    def init(params):
        zeros = jax.tree.map(lambda p: jnp.zeros(_neuron_norm(p).shape, jnp.float32), params)
        return NeroState(jnp.zeros((), jnp.int32), zeros, jax.tree.map(_initial_size, params))

    def update(updates, state, params: Any = None):
        if params is None:
            raise ValueError("nero: update needs params; pass them as the third argument")
        count = jnp.asarray(optax.safe_increment(state.count))
        second_moment = jax.tree.map(
            lambda g, v: b2 * v + (1 - b2) * jnp.square(_neuron_norm(g)), updates, state.second_moment
        )
        correction = 1 - jnp.power(jnp.asarray(b2, jnp.float32), count.astype(jnp.float32))
        rate = rate_at(learning_rate, state.count)

        def step(gradient, param, v, size):
            norm = jnp.sqrt(v / correction)
            unit = gradient.astype(jnp.float32) / jnp.where(norm > 0, norm, 1)
            before = param.astype(jnp.float32)
            after = before - rate * size * unit
            return ((_projected(after) if _has_neurons(param) else after) - before).astype(gradient.dtype)

        steps = jax.tree.map(step, updates, params, second_moment, state.size)
        return steps, NeroState(count, second_moment, state.size)

    return optax.GradientTransformation(init, update)


def _neuron_norm(x) -> Float[Array, "..."]:
    wide = jnp.asarray(x).astype(jnp.float32)
    if wide.ndim < 2:
        return jnp.abs(wide)
    return jnp.sqrt(jnp.sum(jnp.square(wide), axis=tuple(range(wide.ndim - 1)), keepdims=True))


def _projected(x):
    axes = tuple(range(x.ndim - 1))
    centred = x - jnp.sum(x, axis=axes, keepdims=True) / max(1, x.size // max(1, x.shape[-1]))
    norm = _neuron_norm(centred)
    return centred / jnp.where(norm > 0, norm, 1)


def _has_neurons(x) -> bool:
    return jnp.ndim(x) > 1 and jnp.size(x) != jnp.shape(x)[-1]


def _initial_size(param):
    if _has_neurons(param):
        return jnp.ones((), jnp.float32)
    mean = jnp.sum(_neuron_norm(param)) / max(jnp.size(param), 1)
    return jnp.where(mean > 0, mean, SIZE_OF_ZEROS)
