"""An average of the global parameters over rounds, evaluated in their place.

    a_t = d a_{t-1} + (1 - d) x_t,   w_t = d w_{t-1} + (1 - d),   a_0 = w_0 = 0;   evaluated: a_t / w_t

As Adam's bias correction (Kingma & Ba 2015, arXiv 1412.6980): the weights of x_1 .. x_t sum to one, and the initial
parameters have none. w_t = 1 - d^t is summed like a_t, so that both round alike.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PyTree


class ParameterAverage(NamedTuple):
    """How a run's parameters become those that are evaluated.

    Attributes:
      init: params -> average, before the first round.
      add: (average, params after a round) -> average.
      read: (average, params) -> what is evaluated.
    """

    init: Callable[[PyTree], Any]
    add: Callable[[Any, PyTree], Any]
    read: Callable[[Any, PyTree], PyTree]


def parameter_average(decay: float | None) -> ParameterAverage:
    """The average with decay d per round; None evaluates the parameters themselves."""
    if decay is None:
        return ParameterAverage(lambda params: (), lambda average, params: (), lambda average, params: params)

    def init(params):
        return jax.tree.map(lambda x: jnp.zeros(jnp.shape(x), jnp.float32), params), jnp.zeros((), jnp.float32)

    def add(average, params):
        sums, weight = average
        sums = jax.tree.map(lambda a, x: decay * a + (1 - decay) * x.astype(jnp.float32), sums, params)
        return sums, decay * weight + (1 - decay)

    def read(average, params):
        sums, weight = average
        return jax.tree.map(lambda a, x: (a / weight).astype(x.dtype), sums, params)

    return ParameterAverage(init, add, read)
