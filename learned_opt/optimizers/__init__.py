"""Local optimizers by name: what takes the H steps on a worker between two communication rounds.

    sgd             y <- y - lr g                                                    the published setting
    adam            y <- y - lr m / (sqrt(v) + eps), bias-corrected                  Kingma & Ba 2015, arXiv 1412.6980
    rmsprop         y <- y - lr g / (sqrt(v) + eps), bias-corrected                  Adam without momentum (b1 = 0)
    normalized_sgd  y <- y - lr max(rms(y), 1e-3) g / rms(g), tensor by tensor

The last is SGD whose step is a given fraction of each tensor: the layer-wise ratio of LARS (You, Gitman & Ginsburg
2017, arXiv 1708.03888) with the root mean square and the floor of Adafactor's relative step (Shazeer & Stern 2018,
arXiv 1804.04235). It has no state, and one learning rate serves architectures and losses of any scale. Adam's state
stays on its worker between rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax

if TYPE_CHECKING:
    from jaxtyping import Array

RMS_FLOOR = 1e-3
"""Smallest root mean square that a tensor counts with, so that one that starts at zero moves."""


def rmsprop(learning_rate: float | Array) -> optax.GradientTransformation:
    """Adam without its first moment: for local steps under a server optimizer that has momentum.

    Momentum on both sides adds up: with DiLoCo's on the server, Adam's own made training slower than none on the three
    families it was tried on (Fashion-MNIST MLP, Markov transformer, Omniglot ResNet).
    """
    return optax.adam(learning_rate, b1=0.0)


def normalized_sgd(learning_rate: float | Array) -> optax.GradientTransformation:
    """SGD with steps of root mean square `learning_rate` times that of the tensor.

    Args:
      learning_rate: a fraction, e.g. 0.03; may be a traced scalar.
    """

    def init(params: Any) -> optax.EmptyState:
        del params
        return optax.EmptyState()

    def update(updates, state, params=None):
        if params is None:
            raise ValueError("normalized_sgd: update needs params; pass them as the third argument")

        def scaled(gradient, param):
            size = jnp.maximum(_rms(param), RMS_FLOOR)
            wide = gradient.astype(jnp.float32)
            # Divided by its largest entry first: squares of a tiny gradient would be zero. One of zeros stays zeros.
            peak = jnp.max(jnp.abs(wide))
            unit = wide / jnp.where(peak > 0, peak, 1)
            return (unit * (-learning_rate * size / jnp.where(peak > 0, _rms(unit), 1))).astype(gradient.dtype)

        return jax.tree.map(scaled, updates, params), state

    return optax.GradientTransformation(init, update)


def _rms(x):
    return jnp.sqrt(jnp.mean(jnp.square(x.astype(jnp.float32))))


LOCAL_OPTIMIZERS: dict[str, Callable[[Any], optax.GradientTransformation]] = {
    "sgd": optax.sgd,
    "adam": optax.adam,
    "rmsprop": rmsprop,
    "normalized_sgd": normalized_sgd,
}
"""Name -> learning rate -> transform. The rate may be a traced scalar."""


def make_local_optimizer(name: str, learning_rate: float | Array) -> optax.GradientTransformation:
    """The local optimizer of this name.

    Raises:
      ValueError: an unknown name.
    """
    if name not in LOCAL_OPTIMIZERS:
        raise ValueError(f"local_optimizer={name!r}: use one of {', '.join(LOCAL_OPTIMIZERS)}")
    return LOCAL_OPTIMIZERS[name](learning_rate)
