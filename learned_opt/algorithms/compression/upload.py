"""An upload, and error feedback for any of them (Seide et al. 2014; Karimireddy et al. 2019, arXiv 1901.09847).

    e_k <- decay e_k + Delta_k;   send C(e_k);   e_k <- e_k - C(e_k)

What a compression left out is kept on the worker and sent in a later round. With decay 1 nothing is ever lost: all that
was sent and the residual add up to the sum of the pseudo-gradients. SparseLoCo forgets with 0.95.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt.base import Params

if TYPE_CHECKING:
    from jaxtyping import Array


class Upload(NamedTuple):
    """What a worker sends.

    Attributes:
      transform: pseudo-gradient -> what the server decodes, of the same shapes and types.
      bytes_sent: params -> bytes of the encoded message.
    """

    transform: optax.GradientTransformationExtraArgs
    bytes_sent: Callable[[Params], int]


class ErrorFeedbackState(NamedTuple):
    """`residual`: what is still to be sent, float32; `inner_state`: of the compression."""

    residual: Any
    inner_state: Any


def leaf_by_leaf(compress: Callable[[Array], Array], bytes_of: Callable[[int], int]) -> Upload:
    """An upload without state that treats one tensor after the other.

    Args:
      compress: float32 vector, not empty -> the vector that is decoded.
      bytes_of: number of elements, above 0 -> bytes.
    """

    def one(leaf):
        if leaf.size == 0:
            return leaf
        return compress(jnp.ravel(leaf).astype(jnp.float32)).reshape(leaf.shape).astype(leaf.dtype)

    def update(updates, state, params=None, **extra):
        del params, extra
        return jax.tree.map(one, updates), state

    def bytes_sent(params):
        sizes = [int(jnp.size(leaf)) for leaf in jax.tree.leaves(params)]
        return sum(bytes_of(size) for size in sizes if size)

    return Upload(optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update), bytes_sent)


def error_feedback(upload: Upload, decay: float | Array = 1.0) -> Upload:
    """Error feedback around an upload; the message has the same size.

    Args:
      upload: the compression C.
      decay: of the residual, a round; 0 is C alone.
    """

    def init(params):
        residual = jax.tree.map(lambda p: jnp.zeros(jnp.shape(p), jnp.float32), params)
        return ErrorFeedbackState(residual, upload.transform.init(params))

    def update(updates, state, params=None, **extra):
        total = jax.tree.map(lambda e, u: decay * e + u.astype(jnp.float32), state.residual, updates)
        sent, inner_state = upload.transform.update(total, state.inner_state, params, **extra)
        sent = jax.tree.map(lambda s, u: s.astype(u.dtype), sent, updates)
        residual = jax.tree.map(lambda t, s: t - s.astype(jnp.float32), total, sent)
        return sent, ErrorFeedbackState(residual, inner_state)

    return Upload(optax.GradientTransformationExtraArgs(init, update), upload.bytes_sent)
